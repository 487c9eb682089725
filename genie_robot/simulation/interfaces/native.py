"""M2: the world model takes the robot's action itself (evaluation.md, section 4.3). Nothing is lost on the way.

With it, where the model was trained so, goes the gripper pose that the actions have commanded by then.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from genie_robot.data.commands import COMMAND_SIZE, POSE_SIZE, commands, next_pose
from genie_robot.errors import ConfigError
from genie_robot.simulation.interfaces.protocol import ACTION_SIZE, check_actions


class NativeInterface:
    """Robot actions go to the model's own embedding of them.

    model: a WorldModel whose `config.dynamics.robot_action_dim` is 7, or 12 (actions and the poses that they command); None
    where only `executed` is wanted.
    """

    name = "m2"
    looks = False

    def __init__(self, model: Any | None = None) -> None:
        """ConfigError when the model was not trained with robot actions."""
        width = ACTION_SIZE if model is None else takes_rows(model)
        if width not in (ACTION_SIZE, COMMAND_SIZE):
            raise ConfigError(
                f"interface m2: got a model that takes {width or 'no'} numbers of a robot action, wanted "
                f"{ACTION_SIZE} or {COMMAND_SIZE}; choose m0 or m1, or train the dynamics with robot actions"
            )
        self._model, self._with_poses = model, width == COMMAND_SIZE
        self._poses_BP: np.ndarray | None = None
        self.hash = hashlib.sha256(self.name.encode()).hexdigest()[:12]

    def reset(self, batch: int, poses_BP: np.ndarray | None = None) -> None:
        """Begin at these poses; ConfigError when the model is led by poses and there are none."""
        if self._with_poses and (poses_BP is None or poses_BP.shape != (batch, POSE_SIZE)):
            got = "none" if poses_BP is None else poses_BP.shape
            raise ConfigError(
                f"interface m2: this model is led by the poses that actions command; got start poses {got}, wanted "
                f"({batch}, {POSE_SIZE}): x, y, z [m], yaw [rad], opening"
            )
        self._poses_BP = poses_BP

    def encode(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Rows float32 (B, W) for `WorldSession.step`."""
        if self._model is None:
            raise ConfigError(
                "interface m2: encode wants a world model, got none; give NativeInterface a model"
            )
        actions_BA = check_actions(actions_BA)
        if not self._with_poses:
            return self._model.action_rows(robot_BR=actions_BA)
        if self._poses_BP is None:
            raise ConfigError("interface m2: got an action before reset, wanted reset(batch, poses) first")
        rows_BSR = commands(self._poses_BP, actions_BA[:, None])
        self._poses_BP = next_pose(self._poses_BP, actions_BA)
        return self._model.action_rows(robot_BR=rows_BSR[:, 0])

    def executed(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """The actions themselves, float32 (B, 7)."""
        return check_actions(actions_BA)


def takes_rows(model: Any) -> int:
    """Numbers of a robot action that a world model takes; 0 for one that knows latent actions only."""
    return int(getattr(model.config.dynamics, "robot_action_dim", 0))
