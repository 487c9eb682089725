"""One thread that does all model work of a process, so that callbacks only enqueue. No ROS in here.

Each session has a lane: its jobs run in the order they were asked for; the lanes take turns. So sessions share a model
without locks, and a session that asks much does not starve the others. A job of many frames is a generator that yields
between them: there other lanes take their turns, and there it ends when it is given up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any


class RefusedError(RuntimeError):
    """A request that cannot be taken now: the queue is full, the node inactive, or the request contradicts itself."""


class DroppedError(RefusedError):
    """A sound request that was given up, because a newer one or the clock made it moot."""


@dataclass
class _Job:
    """`run` takes the milliseconds that it waited; `rest` is what is left of it, if it is a generator."""

    run: Callable[[float], Any]
    future: Future
    asked_s: float
    rest: Generator[None, None, Any] | None = None
    given_up: str | None = None


class ModelThread:
    """The thread. It ends with the process, or at `close`."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.running: Lane | None = None
        self._lanes: list[Lane] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="world_model", daemon=True)
        self._thread.start()

    def lane(self, capacity: int, on_idle_error: Callable[[str, Exception], None]) -> Lane:
        """A new lane in which at most `capacity` jobs wait; `on_idle_error` hears of idle jobs that raised."""
        lane = Lane(self, capacity, on_idle_error)
        with self.condition:
            self._lanes.append(lane)
        return lane

    def forget(self, lane: Lane) -> None:
        """The lane takes no more turns (called by `Lane.close`)."""
        with self.condition:
            if lane in self._lanes:
                self._lanes.remove(lane)

    def close(self) -> None:
        """End the thread after the job in work; lanes that are still open get no more turns."""
        with self.condition:
            self._is_closed = True
            self.condition.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (
            self._run_next()
        ):  # a method, so that no local name keeps the last job, and with it a model, alive
            pass

    def _run_next(self) -> bool:
        with self.condition:
            while (work := self._choose()) is None:
                if self._is_closed:
                    return False
                self.condition.wait(self._next_due_in_s())
            if self._is_closed:
                return False
            self.running, run = work
        try:
            run()
        finally:  # whatever happened, nobody may wait for this lane for ever
            with self.condition:
                self.running = None
                self.condition.notify_all()
        return True

    def _choose(self) -> tuple[Lane, Callable[[], None]] | None:
        for take in (Lane.take_job, Lane.take_idle_job):
            for lane in self._lanes:
                run = take(lane)
                if run is not None:
                    self._lanes.remove(lane)  # to the end: the others come first next time
                    self._lanes.append(lane)
                    return lane, run
        return None

    def _next_due_in_s(self) -> float | None:
        due_s = [due for lane in self._lanes for due in lane.idle_due_s()]
        return max(0.0, min(due_s) - time.monotonic()) if due_s else None


class Lane:
    """One session's jobs: first in, first out; and idle jobs, for when no lane has any other."""

    def __init__(
        self, thread: ModelThread, capacity: int, on_idle_error: Callable[[str, Exception], None]
    ) -> None:
        self._thread = thread
        self._capacity = capacity
        self._on_idle_error = on_idle_error
        self._jobs: deque[_Job] = deque()
        self._in_work: _Job | None = None
        self._idle: dict[str, tuple[float, Callable[[], None]]] = {}
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Jobs that wait for their turn."""
        return len(self._jobs)

    def submit(self, run: Callable[[float], Any]) -> Future:
        """Append a job; RefusedError if `capacity` jobs already wait, or the lane is closed.

        A generator gives its result by `return`; it goes on before the lane's other jobs.
        """
        with self._thread.condition:
            if self._is_closed:
                raise RefusedError("the simulator is stopping; activate it again")
            if len(self._jobs) >= self._capacity:
                raise RefusedError(
                    f"{self._capacity} commands already wait; send slower or raise the parameter "
                    "command_queue_size"
                )
            job = _Job(run, Future(), time.perf_counter())
            self._jobs.append(job)
            self._thread.condition.notify_all()
        return job.future

    def when_idle(self, name: str, run: Callable[[], None], delay_s: float = 0.0) -> None:
        """Run this once no job waits and `delay_s` has passed; it takes the place of an earlier one of this name."""
        with self._thread.condition:
            if not self._is_closed:
                self._idle[name] = (time.monotonic() + delay_s, run)
                self._thread.condition.notify_all()

    def drop_waiting(self, reason: str) -> int:
        """Give up the jobs that wait, and the rest of the one in work: their futures raise DroppedError(reason).

        Returns how many waited.
        """
        with self._thread.condition:
            dropped = list(self._jobs)
            self._jobs.clear()
            if self._in_work is not None:
                self._in_work.given_up = reason
        for job in dropped:
            job.future.set_exception(DroppedError(reason))
        return len(dropped)

    def close(self, reason: str) -> int:
        """Finish the running job (of a generator: the part in work), drop the others; returns how many waited."""
        with self._thread.condition:
            self._is_closed = True
            self._idle.clear()
        dropped = self.drop_waiting(reason)
        self._thread.forget(self)
        with self._thread.condition:
            self._thread.condition.wait_for(lambda: self._thread.running is not self)
        return dropped

    def take_job(self) -> Callable[[], None] | None:
        """For the thread, under its lock: the next job, or the next part of one."""
        if not self._jobs:
            return None
        self._in_work = self._jobs.popleft()
        return partial(self._advance, self._in_work)

    def _advance(self, job: _Job) -> None:
        try:
            self._run_part(job)
        finally:
            self._in_work = None  # else the job keeps its last image, or the model that it failed to load

    def _run_part(self, job: _Job) -> None:
        try:
            if job.rest is None:
                result = job.run(1e3 * (time.perf_counter() - job.asked_s))
                if not isinstance(result, Generator):
                    job.future.set_result(result)
                    return
                job.rest = result
            next(job.rest)
        except StopIteration as end:
            job.future.set_result(end.value)
        except Exception as error:
            job.future.set_exception(error)
        else:
            self._put_back(job)

    def _put_back(self, job: _Job) -> None:
        with self._thread.condition:
            if job.given_up is None:
                self._jobs.appendleft(job)
                return
        job.future.set_exception(DroppedError(job.given_up))

    def take_idle_job(self) -> Callable[[], None] | None:
        """For the thread, under its lock: an idle job whose time has come."""
        now_s = time.monotonic()
        name = next((name for name, (due_s, _) in self._idle.items() if due_s <= now_s), None)
        if name is None:
            return None
        _, idle_job = self._idle.pop(name)

        def run() -> None:
            try:
                idle_job()
            except Exception as error:  # the thread must live on
                with contextlib.suppress(Exception):
                    self._on_idle_error(name, error)

        return run

    def idle_due_s(self) -> list[float]:
        """For the thread, under its lock: when the idle jobs are due (time.monotonic)."""
        return [due_s for due_s, _ in self._idle.values()]
