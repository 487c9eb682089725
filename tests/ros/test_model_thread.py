"""The model thread: every job once, in order, bounded, fair between sessions; and an end that leaves nothing hanging."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Generator, Iterator

import pytest
from genie_robot_ros.model_thread import DroppedError, Lane, ModelThread, RefusedError


@pytest.fixture
def thread() -> Iterator[ModelThread]:
    model_thread = ModelThread()
    yield model_thread
    model_thread.close()


def raise_it(_: str, error: Exception) -> None:
    raise error


class Gate:
    """A job that holds the thread until it is opened."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, _: float) -> None:
        self.begun.set()
        assert self.open.wait(10)


def hold(lane: Lane) -> Gate:
    gate = Gate()
    lane.submit(gate)
    assert gate.begun.wait(10)
    return gate


def test_jobs_run_once_and_in_order(thread: ModelThread) -> None:
    lane, done = thread.lane(1000, raise_it), []
    futures = [lane.submit(lambda _, k=k: done.append(k)) for k in range(500)]
    futures[-1].result(timeout=10)
    assert done == list(range(500))
    assert lane.close("the end") == 0


def test_a_failing_job_does_not_end_the_thread(thread: ModelThread) -> None:
    lane = thread.lane(10, raise_it)

    def fail(_: float) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        lane.submit(fail).result(timeout=10)
    assert lane.submit(lambda _: 7).result(timeout=10) == 7


def test_a_full_lane_refuses_and_close_drops_what_waits(thread: ModelThread) -> None:
    lane = thread.lane(3, raise_it)
    gate = hold(lane)
    waiting = [lane.submit(lambda _: None) for _ in range(3)]
    with pytest.raises(RefusedError, match="3 commands already wait"):
        lane.submit(lambda _: None)
    dropped: list[int] = []
    closer = threading.Thread(target=lambda: dropped.append(lane.close("deactivated")))
    closer.start()
    for future in waiting:
        with pytest.raises(DroppedError, match="deactivated"):
            future.result(timeout=10)
    assert closer.is_alive()  # the job in work is finished first
    gate.open.set()
    closer.join(10)
    assert dropped == [3]
    with pytest.raises(RefusedError):
        lane.submit(lambda _: None)


def test_lanes_take_turns(thread: ModelThread) -> None:
    greedy, modest = thread.lane(100, raise_it), thread.lane(100, raise_it)
    gate = hold(greedy)
    done: list[str] = []
    for k in range(50):
        greedy.submit(lambda _, k=k: done.append(f"greedy {k}"))
    last = [modest.submit(lambda _, k=k: done.append(f"modest {k}")) for k in range(3)][-1]
    gate.open.set()
    last.result(timeout=10)
    assert [name for name in done if name.startswith("modest")] == ["modest 0", "modest 1", "modest 2"]
    assert done.index("modest 2") < 8  # and not after the 50 others


def test_one_lanes_end_leaves_the_other_alone(thread: ModelThread) -> None:
    one, other = thread.lane(10, raise_it), thread.lane(10, raise_it)
    gate = hold(other)
    future = other.submit(lambda _: "mine")
    assert one.close("the end") == 0  # does not wait for the other's job
    gate.open.set()
    assert future.result(timeout=10) == "mine"


def test_waiting_time_is_reported(thread: ModelThread) -> None:
    lane = thread.lane(10, raise_it)
    gate = hold(lane)
    later = lane.submit(lambda waited_ms: waited_ms)
    threading.Timer(0.05, gate.open.set).start()
    assert later.result(timeout=10) >= 45


def test_idle_jobs_wait_for_commands_and_many_of_one_name_are_one(thread: ModelThread) -> None:
    lane, done, finished = thread.lane(10, raise_it), [], threading.Event()
    gate = hold(lane)
    for k in range(5):
        lane.when_idle("look", lambda k=k: (done.append(f"idle {k}"), finished.set()))
    lane.submit(lambda _: done.append("command"))
    gate.open.set()
    assert finished.wait(10)
    lane.submit(lambda _: None).result(timeout=10)
    assert done == ["command", "idle 4"]


def test_an_idle_job_waits_for_its_delay_and_a_newer_one_takes_its_place(thread: ModelThread) -> None:
    lane, done, finished = thread.lane(10, raise_it), [], threading.Event()
    lane.when_idle("sheet", lambda: done.append("old"), delay_s=0.05)
    lane.when_idle("sheet", lambda: (done.append("new"), finished.set()), delay_s=0.1)
    lane.submit(lambda _: done.append("command")).result(timeout=10)
    assert done == ["command"]
    assert finished.wait(10)
    assert done == ["command", "new"]


def test_an_idle_job_that_raises_is_reported_and_the_thread_lives(thread: ModelThread) -> None:
    failures: list[str] = []
    lane = thread.lane(10, lambda name, error: failures.append(f"{name}: {error}"))

    def fail() -> None:
        raise ValueError("broken")

    lane.when_idle("look", fail)
    while not failures:
        lane.submit(lambda _: None).result(timeout=10)
    assert failures == ["look: broken"]


def test_a_job_of_many_parts_keeps_its_place_and_lets_other_lanes_in_between(thread: ModelThread) -> None:
    one, other = thread.lane(10, raise_it), thread.lane(10, raise_it)
    gate = hold(one)
    done: list[str] = []

    def parts(_: float) -> Generator[None, None, str]:
        for part in range(3):
            if part:
                yield
            done.append(f"part {part}")
        return "all parts"

    long = one.submit(parts)
    last = one.submit(lambda _: done.append("next job"))
    for k in range(2):
        other.submit(lambda _, k=k: done.append(f"other {k}"))
    gate.open.set()
    last.result(timeout=10)
    assert long.result(timeout=10) == "all parts"
    assert [name for name in done if "other" not in name] == ["part 0", "part 1", "part 2", "next job"]
    assert done.index("other 0") < done.index("part 1") and done.index("other 1") < done.index("part 2")


@pytest.mark.parametrize("end", ["a reset", "the end"])
def test_the_rest_of_a_job_in_work_is_given_up(thread: ModelThread, end: str) -> None:
    lane, gate = thread.lane(10, raise_it), Gate()

    def parts(waited_ms: float) -> Generator[None, None, None]:
        gate(waited_ms)
        yield
        raise AssertionError("given up before this part")

    long = lane.submit(parts)
    assert gate.begun.wait(10)
    ending = threading.Thread(target=lane.drop_waiting if end == "a reset" else lane.close, args=(end,))
    ending.start()
    if end == "a reset":
        ending.join(10)
        after = lane.submit(lambda _: "answered")
    gate.open.set()
    with pytest.raises(DroppedError, match=end):
        long.result(timeout=10)
    ending.join(10)
    assert not ending.is_alive()
    if end == "a reset":
        assert after.result(timeout=10) == "answered"


def test_a_job_that_is_done_is_let_go(thread: ModelThread) -> None:
    """With its arguments: they hold a model, whose memory the next one needs."""

    class Model:
        def run(self, _: float) -> None:
            pass

    def use() -> weakref.ref:
        model, lane = Model(), thread.lane(1, raise_it)
        lane.submit(model.run).result(timeout=10)
        lane.close("the end")
        return weakref.ref(model)

    gone = use()
    gc.collect()
    assert gone() is None


def test_an_error_in_the_error_handler_ends_nothing(thread: ModelThread) -> None:
    lane, failed = thread.lane(10, raise_it), threading.Event()

    def fail() -> None:
        failed.set()
        raise ValueError("broken")

    lane.when_idle("look", fail)
    assert failed.wait(10)
    assert lane.submit(lambda _: 7).result(timeout=10) == 7
    assert lane.close("the end") == 0  # and nobody waits for ever
