"""Tasks on the table top: names, instructions and success rules as pure functions of the state vector.

Nothing here needs MuJoCo, so the judge in imagination uses the very same rules on a state read from
imagined frames.
"""

from __future__ import annotations

import numpy as np

from genie_robot.errors import ConfigError

STATE_NAMES: tuple[str, ...] = (
    "ee_x_m",
    "ee_y_m",
    "ee_z_m",
    "gripper_opening",
    "object_x_m",
    "object_y_m",
    "object_z_m",
    "goal_x_m",
    "goal_y_m",
)
"""Entries of the state vector: positions in the robot frame (REP-103), opening from 0 closed to 1 open."""

EE = slice(0, 3)
OPENING = 3
OBJECT = slice(4, 7)
OBJECT_XY = slice(4, 6)
GOAL_XY = slice(7, 9)

TASKS: tuple[str, ...] = ("push", "lift")
OBJECT_REST_Z_M = 0.028
"""Height of the centre of every object when it stands on the table [m]; the table top is z = 0."""
PUSH_RADIUS_M = 0.05
LIFT_HEIGHT_M = 0.06
MAX_STEPS = 40
"""Steps an episode of a task may take (8 s at 5 Hz)."""


def check_task(task: str) -> str:
    """Return `task` if it exists, else raise ConfigError."""
    if task not in TASKS:
        raise ConfigError(f"task is {task!r}, wanted one of {', '.join(TASKS)}; choose one of these")
    return task


def task_success(task: str, state: np.ndarray) -> bool:
    """Tell whether `state` (9,) [m] fulfils `task`.

    push: the object's centre is less than 5 cm from the goal's centre, seen from above, and the object
    is on the table. lift: the object's centre is more than 6 cm above its height at rest.
    """
    check_task(task)
    state = np.asarray(state, dtype=np.float64)
    if state.shape != (len(STATE_NAMES),):
        raise ConfigError(f"state has shape {state.shape}, wanted ({len(STATE_NAMES)},); see STATE_NAMES")
    raised = state[6] - OBJECT_REST_Z_M
    if task == "lift":
        return bool(raised > LIFT_HEIGHT_M)
    return bool(goal_distance_m(state) < PUSH_RADIUS_M and abs(raised) < LIFT_HEIGHT_M)


def goal_distance_m(state: np.ndarray) -> float:
    """Return the distance seen from above between object and goal [m]."""
    return float(np.hypot(*(np.asarray(state)[OBJECT_XY] - np.asarray(state)[GOAL_XY])))


def instruction(task: str, object_name: str = "object") -> str:
    """Return the instruction of `task` in words."""
    check_task(task)
    return f"push the {object_name} to the disc" if task == "push" else f"lift the {object_name}"
