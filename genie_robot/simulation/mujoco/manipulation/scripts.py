"""What a scripted robot wants next: stages of each task, computed anew from the state at every step.

A `Script` says where the fingertips should be (a `Wish`); how to get there, by keys or by free motion, is the matter
of `behaviours`. Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genie_robot.data.commands import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.simulation.mujoco.manipulation.tasks import (
    EE_YAW,
    OBJECT_YAW,
    OPEN_ABOVE,
    PEDESTAL_HEIGHT_M,
    TOUCH_ABOVE_M,
)
from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT, OBJECT_REST_Z_M, OBJECT_XY, OPENING

TRAVEL_Z_M = 0.12
"""Height at which the gripper, even with something in it, passes over all that stands on the table."""
AWAY_Z_M, LIFT_Z_M = 0.20, 0.18
GRASP_ABOVE_M = 0.008
PUSH_Z_M = 0.036
STANDOFF_M, CONTACT_M, LOST_M = 0.080, 0.053, 0.030
HELD_ABOVE = 0.12

STAGES: dict[str, tuple[str, ...]] = {
    "reach": ("touch", "away"),
    "push": ("push", "away"),
    "pick_lift": ("grasp", "squeeze", "lift"),
    "drawer": ("grasp", "squeeze", "pull", "let_go", "away"),
    "pick_place": ("grasp", "squeeze", "lift", "carry", "let_go", "away"),
}
"""The stages of a faultless episode, by task."""
_HOLDING = ("lift", "pull", "carry")


@dataclass(frozen=True)
class Wish:
    """A pose to move to: fingertips (3,) [m]; gripper +1 closed, -1 open, 0 as it is; yaw [rad], None as it is.

    `slide` means straight there; otherwise the hand first rises over what stands on the table.
    """

    place_m: np.ndarray
    grip: float = 0.0
    yaw_rad: float | None = None
    slide: bool = False


class Script:
    """Walks through the stages of a task; `next` gives the wish for a state, None when all is done.

    free: whether motion may be diagonal and turned, which decides how a push goes. careful: start over when what
    should be in the hand is not, when something blocks the way, or when a push went past the object; without it, go
    on to the next stage. lift_m: how high `lift` and `hover` stages end [m].
    """

    def __init__(
        self,
        stages: Sequence[str],
        tolerance_m: float,
        *,
        free: bool = False,
        careful: bool = True,
        lift_m: float = LIFT_Z_M,
    ) -> None:
        self._stages, self._tolerance = tuple(stages), tolerance_m
        self._free, self._careful, self._lift_m = free, careful, lift_m
        self._at = self._blocked = 0
        self._last = np.full(3, np.inf)
        self._direction: np.ndarray | None = None
        self._slid = False

    def next(self, state: np.ndarray) -> Wish | None:
        """Return what to do in `state` (14,), as believed; moves on to the next stage when one is done."""
        if self._at < len(self._stages) and self._is_blocked(state):
            self._at = 0 if self._careful else self._at + 1
        while self._at < len(self._stages):
            stage = self._stages[self._at]
            if self._careful and stage in _HOLDING and not is_stopped(state):
                self._at = 0
                stage = self._stages[0]
            wish: Wish | None = getattr(self, f"_{stage}")(state)
            if wish is not None and not arrived(state, wish, self._tolerance):
                return wish
            self._at, self._blocked = self._at + 1, 0
        return None

    def _is_blocked(self, state: np.ndarray) -> bool:
        """Tell whether the hand has stood still for three steps, which means that something is in its way."""
        still = np.abs(state[EE] - self._last).max() < 0.006
        self._blocked = self._blocked + 1 if still else 0
        self._last = state[EE].copy()
        if self._blocked < 3:
            return False
        self._blocked = 0
        return True

    def _touch(self, state: np.ndarray) -> Wish:
        return Wish(state[OBJECT] + (0.0, 0.0, TOUCH_ABOVE_M))

    def _hover(self, state: np.ndarray) -> Wish:
        return Wish(np.array([*state[OBJECT_XY], self._lift_m]))

    def _grasp(self, state: np.ndarray) -> Wish:
        return Wish(state[OBJECT] + (0.0, 0.0, GRASP_ABOVE_M), -1.0, float(state[OBJECT_YAW]))

    def _squeeze(self, state: np.ndarray) -> Wish:
        return Wish(state[EE], 1.0)

    def _let_go(self, state: np.ndarray) -> Wish:
        return Wish(state[EE], -1.0)

    def _lift(self, state: np.ndarray) -> Wish:
        return Wish(np.array([*state[:2], self._lift_m]))

    def _lower(self, state: np.ndarray) -> Wish:
        return Wish(np.array([*state[:2], OBJECT_REST_Z_M + GRASP_ABOVE_M]))

    def _away(self, state: np.ndarray) -> Wish:
        return Wish(np.array([*state[:2], AWAY_Z_M]))

    def _pull(self, state: np.ndarray) -> Wish:
        missing = state[GOAL_XY] + (self._tolerance + 0.004, 0.0) - state[OBJECT_XY]
        return Wish(np.array([*(state[:2] + missing), state[2]]), slide=True)

    def _carry(self, state: np.ndarray) -> Wish:
        missing = np.array([*state[GOAL_XY], OBJECT_REST_Z_M + PEDESTAL_HEIGHT_M + 0.006]) - state[OBJECT]
        return Wish(state[EE] + missing)

    def _carry_over(self, state: np.ndarray) -> Wish:
        missing = state[GOAL_XY] - state[OBJECT_XY]
        return Wish(np.array([*(state[:2] + missing), TRAVEL_Z_M + self._tolerance]))

    def _push(self, state: np.ndarray) -> Wish | None:
        """Stand behind the object, then slide; None when the object is there."""
        ee, thing = state[:2], state[OBJECT_XY]
        missing = state[GOAL_XY] - thing
        if np.abs(missing).max() < 0.022:
            return None
        ahead = self._heading(missing)
        yaw = _quarter(float(np.arctan2(ahead[1], ahead[0]))) if self._free else None
        behind = float((thing - ee) @ ahead)
        aside = thing - ee - behind * ahead
        beside = float(np.hypot(*aside))
        is_low = state[2] < PUSH_Z_M + self._tolerance
        if self._slid and not self._careful and (behind < LOST_M or not is_low):
            return None
        if is_low and LOST_M < behind < 0.16:
            if beside <= (0.016 if self._free else 0.028):
                self._slid = True
                way = behind - CONTACT_M + float(missing @ ahead)
                move = ahead * max(way, self._tolerance * 1.2) + (aside if self._free else 0.0)
                return Wish(np.array([*(ee + move), PUSH_Z_M]), 1.0, yaw, slide=True)
            if behind > CONTACT_M + 0.005:
                return Wish(np.array([*(ee + aside), PUSH_Z_M]), 1.0, yaw, slide=True)
        stand = thing - ahead * STANDOFF_M
        return Wish(np.array([*stand, PUSH_Z_M]), 1.0, yaw)

    def _heading(self, missing: np.ndarray) -> np.ndarray:
        """Return the direction (2,) to push in: straight to the goal, or along one axis until that one is done."""
        ahead = self._direction
        if self._free:
            if ahead is None or np.hypot(*missing) > 0.04:  # close by, the angle means little
                ahead = missing / np.hypot(*missing)
        else:
            if ahead is None or abs(missing @ ahead) < 0.022:
                ahead = np.eye(2)[int(np.abs(missing).argmax())]
            ahead = ahead * (np.sign(missing @ ahead) or 1.0)
        self._direction = ahead
        return ahead


def is_stopped(state: np.ndarray) -> bool:
    """Tell whether something between the fingers keeps them from closing."""
    return bool(HELD_ABOVE < state[OPENING] <= OPEN_ABOVE)


def arrived(state: np.ndarray, wish: Wish, tolerance_m: float) -> bool:
    """Tell whether `state` (14,) is as `wish` says."""
    place = np.clip(wish.place_m, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    near = np.abs(place - state[EE]).max() <= tolerance_m
    turned = wish.yaw_rad is None or abs(wish.yaw_rad - state[EE_YAW]) < 0.12 or tolerance_m > 0.02
    return bool(near and turned and not wants_grip(state, wish))


def wants_grip(state: np.ndarray, wish: Wish) -> bool:
    """Tell whether the gripper still has to open or close."""
    is_open = state[OPENING] > OPEN_ABOVE
    return (wish.grip > 0 and is_open) or (wish.grip < 0 and not is_open)


def path_error(state: np.ndarray, wish: Wish, tolerance_m: float) -> np.ndarray:
    """Return the next move (3,) [m] on the way to `wish`: rise, travel, then go down onto it."""
    place = np.clip(wish.place_m, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    error = place - state[EE]
    if wish.slide or np.abs(error[:2]).max() <= tolerance_m:
        return error
    height = max(place[2], TRAVEL_Z_M) - state[2]
    if height > tolerance_m:
        return np.array([0.0, 0.0, height])
    return np.array([*error[:2], max(height, 0.0)])


def _quarter(angle: float) -> float:
    """Return the angle [rad] up to quarter turns, in [-pi/4, pi/4)."""
    return (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4
