"""Systematic faults of a robot that knows what to do: what it sees, or what it does, is wrong in one named way.

No rollout of these policies is in the data that world models are trained on. `confused` does what the style `wrong_object` of
`manipulation.behaviours.STYLES` does, so it does not count as new to a world model; the others are no style of the data, though
`offset` and `dropping` have relatives there (`miss_left`, `early_release`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genie_robot.simulation.mujoco.manipulation.scripts import is_stopped
from genie_robot.simulation.mujoco.manipulation.tasks import DISTRACTOR, OBJECT_YAW
from genie_robot.simulation.mujoco.tasks import GOAL_XY, OBJECT, OBJECT_XY
from genie_robot.simulation.policies.pixel import Controller


class Fault:
    """No fault: sees what is there, does what is wanted. Size: how bad, in the unit that the class names."""

    def __init__(self, size: float) -> None:
        self.size = size

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        self._rng = rng

    def see(self, state: np.ndarray) -> np.ndarray:
        """Return the state (14,) that the controller gets for what was seen."""
        return state

    def do(self, action: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the action (7,) that the robot does for the one wanted; seen: the state (14,)."""
        return action


class Offset(Fault):
    """A camera calibration error: everything but the robot itself is seen `size` [m] away, to the left and far."""

    _DIRECTION = np.array([1.0, 1.0]) / np.sqrt(2)

    def see(self, state: np.ndarray) -> np.ndarray:
        """Return the state with object, goal and distractor moved."""
        state = state.copy()
        for part in (OBJECT_XY, GOAL_XY, slice(DISTRACTOR.start, DISTRACTOR.start + 2)):
            state[part] += self.size * self._DIRECTION
        return state


class Late(Fault):
    """Acts on what it saw `size` steps ago."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        super().reset(rng)
        self._seen: deque[np.ndarray] = deque(maxlen=int(self.size) + 1)

    def see(self, state: np.ndarray) -> np.ndarray:
        """Return an earlier state, the first one at the beginning."""
        self._seen.append(state)
        return self._seen[0]


class Weak(Fault):
    """Moves and turns only a share `size` of what it wants."""

    def do(self, action: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the smaller action."""
        return np.concatenate([self.size * action[:6], action[6:]])


class Shaky(Fault):
    """Moves with added noise of standard deviation `size`, of a full-size action."""

    def do(self, action: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the noisy action."""
        noise = self._rng.normal(0.0, self.size, 4)
        action = action.copy()
        action[[0, 1, 2, 5]] += noise
        return action


class Freezing(Fault):
    """Stops for good with a chance of `size` at every step."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        super().reset(rng)
        self._is_frozen = False

    def do(self, action: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the action, or none any more."""
        self._is_frozen = self._is_frozen or bool(self._rng.random() < self.size)
        return np.zeros_like(action) if self._is_frozen else action


class Confused(Fault):
    """Takes the distractor for the object, in a share `size` of the episodes."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        super().reset(rng)
        self._is_swapped = bool(rng.random() < self.size)

    def see(self, state: np.ndarray) -> np.ndarray:
        """Return the state with object and distractor exchanged, or not."""
        if not self._is_swapped:
            return state
        swapped = state.copy()
        swapped[OBJECT], swapped[DISTRACTOR], swapped[OBJECT_YAW] = state[DISTRACTOR], state[OBJECT], 0.0
        return swapped


class Dropping(Fault):
    """Opens the gripper with a chance of `size` at every step at which it holds something."""

    def do(self, action: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Return the action, or one that lets go."""
        if is_stopped(seen) and self._rng.random() < self.size:
            action = action.copy()
            action[6] = -1.0
        return action


@dataclass(frozen=True)
class FaultKind:
    """How to make a fault of a size, and the least and greatest size that make sense."""

    make: Callable[[float], Fault]
    least: float
    most: float


FAULTS: dict[str, FaultKind] = {
    "offset": FaultKind(Offset, 0.0, 0.1),
    "late": FaultKind(Late, 1, 10),
    "weak": FaultKind(Weak, 0.0, 1.0),
    "shaky": FaultKind(Shaky, 0.0, 2.0),
    "freezing": FaultKind(Freezing, 0.0, 1.0),
    "confused": FaultKind(Confused, 0.0, 1.0),
    "dropping": FaultKind(Dropping, 0.0, 1.0),
}


class Faulty:
    """A controller with a fault."""

    def __init__(self, controller: Controller, fault: Fault) -> None:
        self._controller, self._fault = controller, fault

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        of_controller, of_fault = rng.spawn(2)
        self._controller.reset(of_controller)
        self._fault.reset(of_fault)

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,) within [-1, 1], for a state (14,)."""
        action = self._fault.do(self._controller.act(self._fault.see(state)), state)
        return np.clip(action, -1.0, 1.0).astype(np.float32)
