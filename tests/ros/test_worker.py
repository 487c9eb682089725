"""The worker: every command once, in order, bounded; and an end that leaves nothing hanging."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest
from genie_robot_ros.worker import RefusedError, Worker


def test_jobs_run_once_and_in_order() -> None:
    worker, done = Worker(capacity=1000), []
    futures = [worker.submit(lambda _, k=k: done.append(k)) for k in range(500)]
    futures[-1].result(timeout=10)
    assert done == list(range(500))
    assert worker.stop() == 0


def test_a_failing_job_does_not_end_the_thread() -> None:
    worker = Worker(capacity=10)

    def fail(_: float) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        worker.submit(fail).result(timeout=10)
    assert worker.submit(lambda _: 7).result(timeout=10) == 7
    worker.stop()


def test_a_full_queue_refuses_and_stop_cancels_what_waits() -> None:
    worker, begun, go_on = Worker(capacity=3), threading.Event(), threading.Event()

    def block(_: float) -> None:
        begun.set()
        assert go_on.wait(10)

    running = worker.submit(block)
    assert begun.wait(10)
    waiting = [worker.submit(lambda _: None) for _ in range(3)]
    with pytest.raises(RefusedError, match="3 commands already wait"):
        worker.submit(lambda _: None)
    stopper = threading.Thread(target=lambda: cancelled.append(worker.stop()))
    cancelled: list[int] = []
    stopper.start()
    while not worker.stopping:
        pass
    go_on.set()
    stopper.join(10)
    running.result(timeout=10)  # the job in work was finished
    assert cancelled == [3]
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(timeout=10)
    with pytest.raises(RefusedError):
        worker.submit(lambda _: None)


def test_waiting_time_is_reported() -> None:
    worker, begun, go_on = Worker(capacity=3), threading.Event(), threading.Event()
    worker.submit(lambda _: (begun.set(), go_on.wait(10)))
    begun.wait(10)
    later = worker.submit(lambda waited_ms: waited_ms)
    timer = threading.Timer(0.05, go_on.set)
    timer.start()
    assert later.result(timeout=10) >= 45
    worker.stop()


def test_the_idle_job_waits_for_commands_and_runs_once_for_many_wakes() -> None:
    log: list[str] = []
    idle_done, begun, go_on = threading.Event(), threading.Event(), threading.Event()

    def idle() -> None:
        log.append("idle")
        idle_done.set()

    worker = Worker(capacity=10, idle_job=idle)
    worker.submit(lambda _: (begun.set(), go_on.wait(10)))
    begun.wait(10)
    for _ in range(5):
        worker.wake()
    worker.submit(lambda _: log.append("command"))
    go_on.set()
    assert idle_done.wait(10)
    worker.submit(lambda _: None).result(timeout=10)
    assert log == ["command", "idle"]
    worker.stop()
