"""The pose that robot actions have commanded: what a robot's controller knows of itself, whatever its camera sees.

Each action moves the commanded gripper pose on from where it was, so that the pose after any number of actions follows
from the first one (IRASim, arXiv 2406.14540, and Ctrl-World, 2510.10125, lead their world models by such poses). A world
model that is told it need not add up actions in its head, and its arm does not drift away from what was asked.

How a pose follows from an action is that of the simulated robots, which go by this very file.

A pose is x, y, z of the fingertips [m], yaw [rad], opening (0 closed, 1 open). A command is the action and the pose that
it leads to. Shapes: B episodes, S actions, A = 7 numbers of an action, P = 5 of a pose, R = 12 of a command, K of a state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from genie_robot.errors import DataError

WORKSPACE_LOW_M = np.array([0.25, -0.20, 0.030])
WORKSPACE_HIGH_M = np.array([0.55, 0.20, 0.240])
"""Corners of the box in which the commanded gripper position stays [m]."""
STEP_M = 0.04
"""How far a full-size action moves the commanded gripper position in one step of 0.2 s [m]."""
TURN_RAD = 0.35
"""How far a full-size yaw action turns the gripper in one step [rad]."""
MAX_YAW_RAD = 0.80
"""The gripper turns this far to either side: all that a gripper with two planes of symmetry needs."""
GRIPPER_THRESHOLD = 0.5
"""A gripper action from here on closes, from its negative on opens; one between leaves the gripper as it is."""
POSE_NAMES = ("ee_x_m", "ee_y_m", "ee_z_m", "ee_yaw_rad", "gripper_opening")
POSE_SIZE, COMMAND_SIZE = 5, 12


def next_pose(pose_BP: np.ndarray, actions_BA: np.ndarray) -> np.ndarray:
    """The commanded poses (..., 5) after actions (..., 7) within -1..1, float64."""
    pose, actions = np.array(pose_BP, dtype=np.float64), np.asarray(actions_BA, dtype=np.float64)
    pose[..., :3] = np.clip(pose[..., :3] + STEP_M * actions[..., :3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
    pose[..., 3] = np.clip(pose[..., 3] + TURN_RAD * actions[..., 5], -MAX_YAW_RAD, MAX_YAW_RAD)
    grip = actions[..., 6]
    pose[..., 4] = np.where(np.abs(grip) >= GRIPPER_THRESHOLD, grip < 0, pose[..., 4] > 0.5)
    return pose


def commands(pose_BP: np.ndarray, actions_BSA: np.ndarray) -> np.ndarray:
    """Actions (..., S, 7) and the poses that they lead to from `pose_BP` (..., 5): float32 (..., S, 12)."""
    actions, poses = np.clip(np.asarray(actions_BSA, dtype=np.float32), -1.0, 1.0), []
    for step in np.moveaxis(actions, -2, 0):
        pose_BP = next_pose(pose_BP, step)
        poses.append(pose_BP)
    if not poses:
        return np.zeros((*actions.shape[:-1], COMMAND_SIZE), np.float32)
    return np.concatenate([actions, np.stack(poses, axis=-2).astype(np.float32)], axis=-1)


def poses_of(states_BK: np.ndarray, state_names: Sequence[str]) -> np.ndarray:
    """Gripper poses (..., 5) in states (..., K); a state without a yaw is one of a gripper that never turns.

    DataError when the states do not say where the gripper is.
    """
    states, columns = np.asarray(states_BK, dtype=np.float64), []
    for name in POSE_NAMES:
        if name in state_names:
            columns.append(states[..., list(state_names).index(name)])
        elif name == "ee_yaw_rad":
            columns.append(np.zeros(states.shape[:-1]))
        else:
            raise DataError(
                f"states of {', '.join(state_names)[:80] or 'no names'}; wanted {', '.join(POSE_NAMES)} among them to tell "
                "which pose is commanded: `genie-robot data generate` writes them"
            )
    return np.stack(columns, axis=-1)
