"""What an action interface is: how the robot's actions (7 numbers) reach a world model.

Shapes: B episodes that run side by side, A = 7 numbers of a robot action, Y X pixels, C channels.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genie_robot.errors import ActionError

ACTION_SIZE = 7


class ActionInterface(Protocol):
    """Robot action in; out comes what drives a world model, and the robot action that is left of it.

    name: "m0", "m1:8", "m1:8x2", "m1:8x3", "m1:continuous" or "m2" (evaluation.md, section 4.3).
    hash: 12 hex digits of everything that decides what the interface answers.
    looks: whether it looks at the images; where it does not, they may be left black.
    All images are those that the policy acted on; `is_open_B` is whether each gripper was open then, which a robot
    knows of itself.
    """

    name: str
    hash: str
    looks: bool

    def reset(self, batch: int, poses_BP: np.ndarray | None = None) -> None:
        """Begin `batch` episodes: what is carried from step to step is forgotten.

        poses_BP: gripper poses (B, 5) at the start (`data.commands`), which a robot knows of itself; wanted by an m2
        whose model is led by commanded poses.
        """
        ...

    def encode(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """What `WorldSession.step` takes for robot actions (B, 7); goes one step on.

        ActionError for a wrong shape or a number that is not finite.
        """
        ...

    def executed(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """The robot actions, float32 (B, 7), that pass through: with perfect dynamics these happen; goes one step on."""
        ...


def check_actions(actions_BA: np.ndarray) -> np.ndarray:
    """Robot actions as float32 (B, 7) within -1..1; ActionError for a wrong shape or a number that is not finite."""
    actions = np.asarray(actions_BA, dtype=np.float32)
    if actions.ndim != 2 or actions.shape[1] != ACTION_SIZE:
        raise ActionError(
            f"robot actions have shape {actions.shape}; wanted (batch, {ACTION_SIZE}): dx dy dz, 3 rotations, gripper"
        )
    if not np.isfinite(actions).all():
        raise ActionError(
            "robot action has a number that is not finite; wanted 7 numbers in -1..1; check the policy"
        )
    return np.clip(actions, -1.0, 1.0)


def still_open(is_open_B: np.ndarray, actions_BA: np.ndarray) -> np.ndarray:
    """Whether grippers (B,) are open after actions (B, 7): from 0.5 closes, to -0.5 opens, else as before.

    For a world whose gripper cannot be read, such as imagination.
    """
    grip_B = np.asarray(actions_BA)[:, 6]
    return np.where(np.abs(grip_B) >= 0.5, grip_B < 0, np.asarray(is_open_B, dtype=bool))
