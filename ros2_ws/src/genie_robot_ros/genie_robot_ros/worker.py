"""One thread that does all model work, in the order it was asked for. No ROS in here."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class RefusedError(RuntimeError):
    """A request that cannot be taken now: the queue is full, the node inactive, or the request contradicts itself."""


class Worker:
    """A first-in first-out queue of jobs and the thread that runs them.

    A job is a callable of one argument, the milliseconds that it waited. `idle_job` runs when no job waits and
    `wake` was called; several wakes before it runs count as one.
    """

    def __init__(self, capacity: int, idle_job: Callable[[], None] | None = None) -> None:
        self._jobs: queue.Queue[tuple[Callable[[float], Any], Future, float] | None] = queue.Queue()
        self._capacity = capacity
        self._idle_job = idle_job
        self._idle_wanted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="world_model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Jobs not yet begun."""
        return self._jobs.qsize()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def submit(self, job: Callable[[float], Any]) -> Future:
        """Append a job; RefusedError if `capacity` jobs already wait."""
        if self._stopping.is_set():
            raise RefusedError("the simulator is stopping; activate it again")
        if self._jobs.qsize() >= self._capacity:
            raise RefusedError(
                f"{self._capacity} commands already wait; send slower or raise the parameter command_queue_size"
            )
        future: Future = Future()
        self._jobs.put((job, future, time.perf_counter()))
        return future

    def wake(self) -> None:
        """Ask for one run of the idle job, after every job that waits now."""
        if self._idle_job is not None and not self._idle_wanted.is_set():
            self._idle_wanted.set()
            self._jobs.put(None)

    def stop(self) -> int:
        """Finish the running job, cancel the waiting ones; returns how many were cancelled."""
        self._stopping.set()
        self._jobs.put(None)
        self._thread.join()
        cancelled = 0
        while not self._jobs.empty():
            item = self._jobs.get()
            if item is not None and item[1].cancel():
                cancelled += 1
        return cancelled

    def _run(self) -> None:
        while not self._stopping.is_set():
            item = self._jobs.get()
            if self._stopping.is_set():
                if item is not None:
                    item[1].cancel()
                return
            if item is None:
                self._run_idle_job()
                continue
            job, future, asked_at = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job(1e3 * (time.perf_counter() - asked_at)))
            except Exception as error:
                future.set_exception(error)

    def _run_idle_job(self) -> None:
        if self._jobs.empty():
            self._idle_wanted.clear()
            assert self._idle_job is not None
            self._idle_job()
        else:  # commands go first; ask again behind them
            self._jobs.put(None)
