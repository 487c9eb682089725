"""The five tasks: names, state vector, instructions, and rules that are pure functions of the state vector.

Nothing here needs MuJoCo, so that a judge in imagination applies the very same rules to a state that it read from
imagined frames. The first nine entries of the state are those of the `tabletop` dataset.
"""

from __future__ import annotations

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT, OBJECT_REST_Z_M, OBJECT_XY, OPENING
from genie_robot.simulation.mujoco.tasks import STATE_NAMES as TABLETOP_STATE_NAMES

STATE_NAMES: tuple[str, ...] = (
    *TABLETOP_STATE_NAMES,
    "ee_yaw_rad",
    "object_yaw_rad",
    "distractor_x_m",
    "distractor_y_m",
    "distractor_z_m",
)
"""Entries of the state vector (14,): positions in the robot frame (REP-103), gripper opening from 0 to 1.

In the drawer task the object is the drawer's handle and the goal is where the handle is when the drawer is open.
The object's yaw is that of a square, in [-pi/4, pi/4); it is 0 for a cylinder and for the handle.
"""

EE_YAW, OBJECT_YAW = 9, 10
DISTRACTOR = slice(11, 14)

TASKS: tuple[str, ...] = ("reach", "push", "pick_lift", "drawer", "pick_place")
MAX_STEPS = 50
"""Steps an episode of a task may take (10 s at 5 Hz)."""

TOUCH_ABOVE_M = 0.05
"""The point to reach is this far above the object's centre."""
LIFT_HEIGHT_M = 0.06
PEDESTAL_HEIGHT_M = 0.03
"""Height of the pedestal of pick_place: no push brings an object onto it."""
DRAWER_TRAVEL_M = 0.10
"""How far out the drawer has to be."""
RELEASED_Z_M = 0.08
"""A push is over when the fingertips have been raised above this height."""
OPEN_ABOVE = 0.75
"""The gripper counts as open above this opening."""
RADIUS_M: dict[str, float] = {
    "reach": 0.035,
    "push": 0.05,
    "pick_lift": 0.03,
    "drawer": 0.03,
    "pick_place": 0.05,
}
"""Distance within which a place counts as reached; for pick_lift and drawer, of the fingers from what they hold."""
NEAR_M: dict[str, float] = {
    "reach": 0.08,
    "push": 0.09,
    "pick_lift": 0.075,
    "drawer": 0.075,
    "pick_place": 0.10,
}
"""A state that is not a success is a near miss when its distance to the goal is below this."""
_INSTRUCTIONS: dict[str, str] = {
    "reach": "reach for the {thing}",
    "push": "push the {thing} to the {goal} disc",
    "pick_lift": "lift the {thing}",
    "drawer": "open the drawer by its {thing}",
    "pick_place": "put the {thing} on the {goal} pedestal",
}


def check_task(task: str) -> str:
    """Return `task` if it exists, else raise ConfigError."""
    if task not in TASKS:
        raise ConfigError(f"task is {task!r}, wanted one of {', '.join(TASKS)}; choose one of these")
    return task


def check_state(state: np.ndarray) -> np.ndarray:
    """Return `state` as float64 (14,), else raise ConfigError."""
    state = np.asarray(state, dtype=np.float64)
    if state.shape != (len(STATE_NAMES),):
        raise ConfigError(f"state has shape {state.shape}, wanted ({len(STATE_NAMES)},); see STATE_NAMES")
    return state


def task_success(task: str, state: np.ndarray) -> bool:
    """Tell whether `state` (14,) fulfils `task`.

    reach: the fingertips are within 3.5 cm of a point 5 cm above the object's centre.
    push: the object is on the table, its centre within 5 cm of the goal's seen from above, and the fingertips are
    higher than 8 cm: the robot has let go of it. pick_lift: the object is more than 6 cm above its rest.
    drawer: the drawer is at least 10 cm out. pick_place: the object stands on the pedestal, its centre within
    5 cm of the pedestal's, and the gripper is open.
    """
    check_task(task)
    state = check_state(state)
    raised = state[6] - OBJECT_REST_Z_M
    if task == "reach":
        return bool(_touch_distance_m(state) < RADIUS_M["reach"])
    if task == "push":
        there = _goal_distance_m(state) < RADIUS_M["push"]
        return bool(there and abs(raised) < 0.02 and state[EE][2] > RELEASED_Z_M)
    if task == "pick_lift":
        return bool(raised > LIFT_HEIGHT_M)
    if task == "drawer":
        return bool(state[4] >= state[7])
    there = _goal_distance_m(state) < RADIUS_M["pick_place"]
    return bool(there and abs(raised - PEDESTAL_HEIGHT_M) < 0.012 and state[OPENING] > OPEN_ABOVE)


def goal_distance_m(task: str, state: np.ndarray) -> float:
    """Return how far `state` (14,) is from fulfilling `task` [m]; it falls on the way to success, for partial credit.

    reach: fingertips to the point to reach. push, pick_place: object to goal seen from above. pick_lift, drawer: the
    height or opening that is missing, and how much farther than 3 cm the fingertips are from the object.
    """
    check_task(task)
    state = check_state(state)
    if task == "reach":
        return _touch_distance_m(state)
    if task in ("push", "pick_place"):
        return _goal_distance_m(state)
    away = max(0.0, float(np.linalg.norm(state[EE] - state[OBJECT])) - RADIUS_M[task])
    if task == "pick_lift":
        return max(0.0, LIFT_HEIGHT_M - float(state[6] - OBJECT_REST_Z_M)) + away
    return max(0.0, float(state[7] - state[4])) + away


def is_near_miss(task: str, state: np.ndarray) -> bool:
    """Tell whether `state` (14,) fails `task` by little: closer to the goal than NEAR_M."""
    return not task_success(task, state) and goal_distance_m(task, state) < NEAR_M[task]


def instruction(task: str, thing: str = "object", goal: str = "goal") -> str:
    """Return the instruction of `task` in words; `goal` is the colour of disc or pedestal."""
    return _INSTRUCTIONS[check_task(task)].format(thing=thing, goal=goal)


def _touch_distance_m(state: np.ndarray) -> float:
    return float(np.linalg.norm(state[EE] - state[OBJECT] - (0.0, 0.0, TOUCH_ABOVE_M)))


def _goal_distance_m(state: np.ndarray) -> float:
    return float(np.hypot(*(state[OBJECT_XY] - state[GOAL_XY])))
