"""Policies that misbehave: each is marked with its reason, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.errors import ActionError, PolicyError, PolicyGoneError, PolicyTimeoutError
from genie_robot.evaluation.evaluation_parts import Parts
from genie_robot.evaluation.policy_guard import Deadline, GuardedPolicies, Unmade
from genie_robot.simulation.policies import Policy
from genie_robot.simulation.ros_policy import RosPolicy
from tests.evaluation.small_parts import CONFIG, small_parts

IMAGES = np.zeros((1, 8, 8, 3), np.uint8)
GOOD = np.full(7, 0.25, np.float32)


class Acts:
    """Does `then` at its second image, and is good before."""

    def __init__(self, then: Callable[[], Any] = lambda: GOOD) -> None:
        self._then = then

    def reset(self, seed: int) -> None:
        self._calls = 0

    def act(self, image: np.ndarray) -> Any:
        self._calls += 1
        return GOOD if self._calls == 1 else self._then()


class Group(Acts):
    """Acts in one go with others of its kind."""

    group = "one"

    def __init__(self, answer: Callable[[int], Any]) -> None:
        super().__init__()
        self._answer = answer

    @staticmethod
    def act_group(policies: Sequence[Group], images_BYXC: np.ndarray) -> Any:
        return policies[0]._answer(len(images_BYXC))


def fail(error: BaseException) -> Callable[..., Any]:
    def do(*_: Any) -> Any:
        raise error

    return do


def run(
    policies: Sequence[Any], steps: int = 3, timeout_s: float = 0.2
) -> tuple[GuardedPolicies, np.ndarray]:
    guarded = GuardedPolicies(policies, timeout_s)
    guarded.reset(range(len(policies)))
    actions = [guarded.act(np.repeat(IMAGES, len(policies), axis=0)) for _ in range(steps)]
    guarded.close()
    return guarded, np.stack(actions, axis=1)


@pytest.mark.parametrize(
    ("then", "status", "says"),
    [
        (fail(ValueError("no\nidea")), "raised", "ValueError: no idea"),
        (fail(MemoryError("too much")), "raised", "MemoryError: too much"),
        (sys.exit, "raised", "SystemExit"),
        (fail(KeyboardInterrupt()), "raised", "KeyboardInterrupt"),
        (fail(asyncio.CancelledError("gone")), "raised", "CancelledError: gone"),
        (fail(TimeoutError("its server")), "raised", "TimeoutError: its server"),
        (lambda: np.full(7, np.nan), "bad_action", "not finite"),
        (lambda: np.full(7, 1e300) * 1e300, "bad_action", "not finite"),
        (lambda: np.zeros(6), "bad_action", "an action of shape (6,)"),
        (lambda: np.zeros((1, 7)), "bad_action", "an action of shape (1, 7)"),
        (lambda: None, "bad_action", "an action of type object"),
        (lambda: ["a"] * 7, "bad_action", "an action of type <U1"),
        (lambda: np.zeros(7, complex), "bad_action", "an action of type complex128"),
        (lambda: [[1], [2, 3]], "bad_action", "no array"),
        (lambda: time.sleep(30), "timed_out", "no answer within 0.2 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_bad_policy_ends_its_own_episode_and_no_other(
    then: Callable[[], Any], status: str, says: str
) -> None:
    begun = time.monotonic()
    guarded, actions_BSA = run([Acts(), Acts(then), Acts()])
    assert guarded.status_B == ["ok", status, "ok"] and guarded.length_B == [3, 1, 3]
    assert says in guarded.reason_B[1] and "\n" not in guarded.reason_B[1]
    assert (actions_BSA[[0, 2]] == 0.25).all()
    assert (actions_BSA[1, 0] == 0.25).all() and (actions_BSA[1, 1:] == 0.0).all()
    assert time.monotonic() - begun < 10


def test_a_policy_that_cannot_even_start() -> None:
    broken = Acts()
    broken.reset = fail(OSError("no weights"))  # type: ignore[method-assign]
    guarded, _ = run([broken, Acts()])
    assert guarded.status_B == ["raised", "ok"] and guarded.length_B == [0, 3]
    assert guarded.reason_B[0] == "OSError: no weights"


def test_a_policy_is_made_under_the_same_guard() -> None:
    makers = [Acts, sys.exit, lambda: time.sleep(30), fail(OSError("no weights"))]
    guarded, _ = run([Unmade(make) for make in makers])
    assert guarded.status_B == ["ok", "raised", "timed_out", "raised"] and guarded.length_B == [3, 0, 0, 0]
    assert guarded.reason_B[1:] == ["SystemExit:", "no answer within 0.2 s", "OSError: no weights"]


@pytest.mark.parametrize("group", [[], property(fail(ZeroDivisionError("x")))], ids=["unhashable", "raises"])
def test_a_policy_whose_group_is_none_fails_alone(group: Any) -> None:
    class Odd(Group):
        pass

    Odd.group = group
    guarded, _ = run([Odd(lambda count: np.zeros((count, 7))), Acts()])
    assert guarded.status_B == ["raised", "ok"] and "in its group: " in guarded.reason_B[0]


class Link:
    """A policy node that is there."""

    def __init__(self, then: Callable[[], Any]) -> None:
        self._then, self._calls = then, 0

    def reset(self, seed: int, task: str, instruction: str) -> None:
        if seed == 9:
            raise PolicyError("policy /p refused to reset: no")

    def act(self, image_YXC: np.ndarray) -> np.ndarray:
        self._calls += 1
        return np.zeros(7) if self._calls == 1 else self._then()

    def close(self) -> None:
        pass


def no_action() -> np.ndarray:
    raise PolicyError("policy /p answered with no action: NaN") from ActionError("NaN")


def test_a_node_that_misbehaves_fails_its_episode_and_one_that_is_gone_ends_the_run() -> None:
    def node(then: Callable[[], Any]) -> RosPolicy:
        return RosPolicy("ros:/p", "manipulation", "push", Link(then))

    good = node(lambda: np.zeros(7))
    late = node(fail(PolicyTimeoutError("policy /p sent no command")))
    guarded, _ = run([good, late, node(no_action)])
    assert guarded.status_B == ["ok", "timed_out", "bad_action"] and guarded.length_B == [3, 1, 1]
    assert guarded.reason_B[1:] == ["policy /p sent no command", "policy /p answered with no action: NaN"]
    refusing = GuardedPolicies([good], 0.2)
    refusing.reset([9])
    assert refusing.status_B == ["raised"] and refusing.reason_B == ["policy /p refused to reset: no"]
    with pytest.raises(PolicyGoneError, match="is gone"):
        run([node(fail(PolicyGoneError("policy /p is gone")))])


def test_actions_are_numbers_in_range_whatever_their_type() -> None:
    _, actions_BSA = run([Acts(lambda: [5, -5, 0, 1, 0, 0, 1]), Acts(lambda: np.full(7, 0.5, np.float16))])
    assert actions_BSA.dtype == np.float32
    assert actions_BSA[0, 1].tolist() == [1, -1, 0, 1, 0, 0, 1] and (actions_BSA[1, 1] == 0.5).all()


def test_in_a_group_a_bad_row_fails_alone_and_a_bad_answer_fails_all() -> None:
    def one_row(count: int) -> np.ndarray:
        rows = np.zeros((count, 7))
        rows[-1] = np.nan if count == 3 else 0.0
        return rows

    guarded, _ = run([Group(one_row) for _ in range(3)])
    assert guarded.status_B == ["ok", "ok", "bad_action"]
    guarded, _ = run([Group(lambda count: np.zeros((count, 3))) for _ in range(2)])
    assert guarded.status_B == ["bad_action"] * 2
    guarded, _ = run([Group(lambda count: 1 / 0), Group(lambda count: 1 / 0), Acts()])
    assert guarded.status_B == ["raised", "raised", "ok"]


def test_a_deadline_gives_results_errors_and_a_new_thread_after_an_overrun() -> None:
    deadline, release = Deadline(), threading.Event()
    assert deadline.call(lambda a: a + 1, 2, timeout_s=5) == 3
    with pytest.raises(KeyError):
        deadline.call(lambda: {}["x"], timeout_s=5)
    with pytest.raises(TimeoutError):
        deadline.call(release.wait, timeout_s=0.05)
    assert deadline.call(lambda: "well", timeout_s=5) == "well"
    release.set()
    deadline.close()


class Moody:
    """Raises, answers NaN or sleeps, by its seed; the fourth seed is a good one."""

    def reset(self, seed: int) -> None:
        self._mood, self._calls = seed % 4, 0

    def act(self, image: np.ndarray) -> np.ndarray:
        self._calls += 1
        if self._calls == 2 and self._mood == 0:
            raise RuntimeError("lost")
        if self._calls == 2 and self._mood == 1:
            return np.full(7, np.nan)
        if self._calls == 2 and self._mood == 2:
            time.sleep(60)
        return GOOD


def test_a_run_with_a_bad_policy_goes_to_its_end_and_the_rows_say_why(
    probes, model, adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco")
    from genie_robot.evaluation.policy_eval import PolicyEvaluation

    original = Parts.make_policy

    def make(self: Parts, name: str, task: str) -> Policy | Unmade:
        return Moody() if name == "moody" else original(self, name, task)

    monkeypatch.setattr(Parts, "make_policy", make)
    config = replace(
        CONFIG, policies=("moody", "random-keys"), unseen_policies=(), seeds=4, policy_timeout_s=1.0, block=8,
        worlds=("mujoco", "imagined", "replay"), horizons=(1, 3),
    )  # fmt: skip
    rows = PolicyEvaluation(config, tmp_path, small_parts(probes, model, adapter)).run()
    assert len(rows) == 2 * config.episodes
    for world in config.worlds:
        moody = [r for r in rows if r.world == world and r.policy == "moody" and r.horizon == 3]
        assert [r.status for r in moody] == ["raised", "bad_action", "timed_out", "ok"]
        assert moody[0].reason == "RuntimeError: lost" and "within 1 s" in moody[2].reason
        assert not any(r.success or r.judge_success or r.second_success for r in moody[:3])
    # What goes wrong at the second step is none of the business of an episode of one step, or of another policy.
    assert {r.status for r in rows if r.horizon == 1 or r.policy != "moody"} == {"ok"}
    with np.load(tmp_path / "trajectories/mujoco/push/moody/1000000.npz") as stored:
        assert stored["actions_S7"].shape == (1, 7) and stored["states_TS"].shape == (2, 9)
