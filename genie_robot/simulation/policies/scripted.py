"""Controllers of the five manipulation tasks: a script that looks, the same script played blindly, random motion."""

from __future__ import annotations

import numpy as np

from genie_robot.data.commands import STEP_M, TURN_RAD, WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.simulation.mujoco.manipulation.behaviours import Scripted
from genie_robot.simulation.mujoco.manipulation.scripts import PUSH_Z_M, STAGES, Script, is_stopped
from genie_robot.simulation.mujoco.manipulation.tasks import EE_YAW, PEDESTAL_HEIGHT_M
from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT, OBJECT_REST_Z_M, OBJECT_XY, OPENING
from genie_robot.simulation.policies.pixel import Controller, NoOp

GRIP_FROM = 0.5
"""A gripper command below this size does nothing, as in the simulator."""
HELD_OPENING = 0.4
_IN_HAND_M = np.array([0.045, 0.040, 0.045])
_CONTACT_M = 0.050
_PEDESTAL_M = 0.06


class SteadyScript(Scripted):
    """The data generator's freely moving script of a skill, but it rests when it is done, where the generator plays on.

    A success has to last: a robot that touched a point and left at once has not reached it.
    """

    def __init__(self, task: str, skill: float = 1.0) -> None:
        super().__init__(task, "free", skill)
        self._after = NoOp()

    def _make_script(self) -> Script:
        stages = ("touch",) if self.task == "reach" else STAGES[self.task]
        return Script(stages, self._hand.tolerance_m, free=True)


class BlindScript(SteadyScript):
    """Plays the expert's actions open loop: planned from the first look alone, by dead reckoning, and never corrected.

    The plan takes it that the hand goes where it is told, that what is between closing fingers is held, and that a
    thing in the way of closed fingers is pushed along.
    """

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        super().reset(rng)
        self._expected: np.ndarray | None = None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,); only the first `state` (14,) of an episode is looked at."""
        if self._expected is None:
            self._expected = np.array(state, dtype=np.float64)
        action = super().act(self._expected)
        self._expected = dead_reckoning(self.task, self._expected, action)
        return action


class GripMemory:
    """Gives a controller the gripper's opening as it was commanded, where eyes cannot see it: over a thing, from above.

    Only the first opening of an episode is read from the picture. Closed fingers hold what is seen between them.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        self._controller.reset(rng)
        self._is_open: bool | None = None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the controller's action, float32 (7,), for the state (14,) with the opening put right."""
        if self._is_open is None:
            self._is_open = bool(state[OPENING] > 0.5)
        believed = np.array(state, dtype=np.float64)
        believed[OPENING] = 1.0 if self._is_open else HELD_OPENING if _is_between_fingers(state) else 0.0
        action = self._controller.act(believed)
        if abs(action[6]) >= GRIP_FROM:
            self._is_open = bool(action[6] < 0)
        return action


class RandomMotion:
    """A new random direction and turn at every step, and now and then a grip, whatever it sees."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        self._rng = rng

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return a random robot action, float32 (7,)."""
        action = np.zeros(7, dtype=np.float32)
        action[[0, 1, 2, 5]] = self._rng.uniform(-1, 1, 4)
        if self._rng.random() < 0.1:
            action[6] = self._rng.choice([-1.0, 1.0])
        return action


def dead_reckoning(task: str, state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return the state (14,) that a robot without sight expects after `action` (7,) in `state` (14,)."""
    held = is_stopped(state)
    after = state.copy()
    after[EE] = np.clip(state[EE] + STEP_M * action[:3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    after[EE_YAW] += TURN_RAD * action[5]
    moved = after[EE] - state[EE]
    if held:
        after[OBJECT] += moved * ((1, 0, 0) if task == "drawer" else (1, 1, 1))
    elif state[OPENING] < HELD_OPENING and after[2] < PUSH_Z_M + 0.03 and task == "push":
        _push_along(after)
    if action[6] >= GRIP_FROM:
        after[OPENING] = HELD_OPENING if held or _is_between_fingers(after) else 0.0
    elif action[6] <= -GRIP_FROM:
        after[OPENING] = 1.0
        if held and task != "drawer":
            on_top = task == "pick_place" and np.hypot(*(after[OBJECT_XY] - after[GOAL_XY])) < _PEDESTAL_M
            after[OBJECT][2] = OBJECT_REST_Z_M + (PEDESTAL_HEIGHT_M if on_top else 0.0)
    return after


def _is_between_fingers(state: np.ndarray) -> bool:
    return bool(np.all(np.abs(state[OBJECT] - state[EE]) < _IN_HAND_M))


def _push_along(state: np.ndarray) -> None:
    """Move the object out of the way of the closed fingers, in place."""
    away = state[OBJECT_XY] - state[EE][:2]
    distance = float(np.hypot(*away))
    if 1e-6 < distance < _CONTACT_M:
        state[OBJECT_XY] += away / distance * (_CONTACT_M - distance)
