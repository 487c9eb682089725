"""Policies that may misbehave: what one does wrong ends its own episode, with the reason, and the run goes on.

Every call runs in a worker thread with a deadline. A thread cannot be killed: a policy that overruns is left behind
in its thread (a daemon, which ends with the program) and is not asked again in that episode.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from genie_robot.errors import ActionError, PolicyError, PolicyGoneError, PolicyTimeoutError
from genie_robot.simulation.policies import GroupPolicy, Policy
from genie_robot.simulation.ros_policy import RosPolicy

ACTION_SIZE = 7
_LONGEST_REASON = 160
_NONE = object()  # a call that failed gave nothing; a policy may well answer None


class Overrun(TimeoutError):
    """A call took longer than it may."""


class Ended(Exception):
    """A call raised what would end a program, such as SystemExit."""


class Unmade(NamedTuple):
    """A policy that is made when its episode begins, under the same guard as all that it does."""

    make: Callable[[], Policy]


class Deadline:
    """Calls functions in a worker thread; Overrun when one takes longer than it may."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] | None = None

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float) -> Any:
        """What `function(*arguments)` returns; raises the Exception that it raises, and Ended for anything else."""
        if self._answers is None:
            self._asked, self._answers = queue.SimpleQueue(), queue.SimpleQueue()
            threading.Thread(target=_work, args=(self._asked, self._answers), daemon=True).start()
        self._asked.put((function, arguments))
        try:
            result, error = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self._answers = None  # the next call gets a new thread
            self._asked.put(None)
            raise Overrun from None
        if error is None:
            return result
        if isinstance(error, Exception):
            raise error
        raise Ended(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Let the worker thread end."""
        self._asked.put(None)
        self._answers = None


def _work(asked: queue.SimpleQueue[Any], answers: queue.SimpleQueue[Any]) -> None:
    while (job := asked.get()) is not None:
        function, arguments = job
        try:
            answers.put((function(*arguments), None))
        except BaseException as error:  # nothing that a policy raises may end the evaluation
            answers.put((None, error))


class GuardedPolicies:
    """B policies that act side by side. `status_B`, `reason_B`, `length_B`: how the episode of each went.

    length_B: actions that were good, which are those before the first bad one. A policy that failed is asked no more;
    its action is zero from then on. A policy node (`ros:`) keeps its own time limit; its PolicyGoneError ends the run, so that
    the same command goes on when the node is back.
    """

    def __init__(self, policies: Sequence[Policy | Unmade], timeout_s: float) -> None:
        """timeout_s: how long one policy may take to be made and reset, and to act [s]."""
        self._policies: list[Any] = list(policies)
        self._timeout_s, self._deadline = timeout_s, Deadline()
        self.status_B = ["ok"] * len(policies)
        self.reason_B = [""] * len(policies)
        self.length_B = [0] * len(policies)

    def reset(self, seeds_B: Sequence[int]) -> None:
        """Start the episodes."""
        for index, seed in enumerate(seeds_B):
            begun = self._guarded([index], _begin, self._policies[index], seed)
            if begun is not _NONE:
                self._policies[index] = begun

    def act(self, images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7) within -1..1, for images uint8 (B, Y, X, 3)."""
        actions_BA = np.zeros((len(self._policies), ACTION_SIZE), dtype=np.float32)
        for members in self._groups():
            first = self._policies[members[0]]
            if isinstance(first, GroupPolicy):
                group = [self._policies[index] for index in members]
                answer = self._guarded(members, first.act_group, group, images_BYXC[members].copy())
            else:
                answer = self._guarded(members, _act_alone, first, images_BYXC[members[0]].copy())
            if answer is not _NONE:
                self._take(members, answer, actions_BA)
        return actions_BA

    def close(self) -> None:
        """Let the worker thread end."""
        self._deadline.close()

    def _groups(self) -> list[list[int]]:
        """Indices of the policies that are well, those of one group together."""
        groups: dict[Hashable, list[int]] = {}
        for index, policy in enumerate(self._policies):
            if self.status_B[index] != "ok":
                continue
            try:  # a policy's own property, which may be anything
                name: Hashable = (type(policy), policy.group) if isinstance(policy, GroupPolicy) else index
                groups.setdefault(name, []).append(index)
            except Exception as error:
                self._fail([index], "raised", f"in its group: {type(error).__name__}: {error}")
        return list(groups.values())

    def _guarded(self, members: list[int], function: Callable[..., Any], *arguments: Any) -> Any:
        limit_s = self._timeout_s * len(members)
        is_node = isinstance(self._policies[members[0]], RosPolicy)
        try:
            if is_node:
                return function(*arguments)
            return self._deadline.call(function, *arguments, timeout_s=limit_s)
        except Overrun:
            self._fail(members, "timed_out", f"no answer within {self._timeout_s:g} s")
        except PolicyError as error:
            if is_node and isinstance(error, PolicyGoneError):
                raise
            no_action = isinstance(error.__cause__, ActionError)
            late = isinstance(error, PolicyTimeoutError)
            self._fail(members, "timed_out" if late else "bad_action" if no_action else "raised", str(error))
        except Ended as error:
            self._fail(members, "raised", str(error))
        except Exception as error:
            self._fail(members, "raised", f"{type(error).__name__}: {error}")
        return _NONE

    def _take(self, members: list[int], answer: Any, actions_BA: np.ndarray) -> None:
        rows, why = _as_actions(answer, len(members))
        for place, index in enumerate(members):
            wrong = why or ("" if np.isfinite(rows[place]).all() else "an action that is not finite")
            if wrong:
                self._fail([index], "bad_action", f"{wrong}; wanted 7 finite numbers in -1..1")
            else:
                actions_BA[index] = np.clip(rows[place], -1.0, 1.0)
                self.length_B[index] += 1

    def _fail(self, members: list[int], status: str, reason: str) -> None:
        for index in members:
            self.status_B[index] = status
            self.reason_B[index] = " ".join(reason.split())[:_LONGEST_REASON]


def _begin(policy: Policy | Unmade, seed: int) -> Policy:
    policy = policy.make() if isinstance(policy, Unmade) else policy
    policy.reset(seed)
    return policy


def _act_alone(policy: Policy, image_YXC: np.ndarray) -> list[Any]:
    return [policy.act(image_YXC)]


def _as_actions(answer: Any, count: int) -> tuple[np.ndarray, str]:
    """Answer as float64 (count, 7), and what is wrong with it ("" for nothing)."""
    nothing = np.zeros((count, ACTION_SIZE))
    try:
        values = np.asarray(answer)
    except Exception as error:  # whatever a policy returned may refuse to become an array
        return nothing, f"an action that is no array ({type(error).__name__})"
    if values.dtype.kind not in "fiu":
        return nothing, f"an action of type {values.dtype}"
    if values.shape != (count, ACTION_SIZE):
        return nothing, f"an action of shape {values.shape[1:]}"
    return values.astype(np.float64), ""
