"""M2: the world model takes the robot's action itself (evaluation.md, section 4.3). Nothing is lost on the way."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.interfaces.protocol import ACTION_SIZE, check_actions


class NativeInterface:
    """Robot actions go to the model's own embedding of them.

    model: a WorldModel whose `config.dynamics.robot_action_dim` is 7; None where only `executed` is wanted.
    """

    name = "m2"
    looks = False

    def __init__(self, model: Any | None = None) -> None:
        """ConfigError when the model was not trained with robot actions."""
        width = ACTION_SIZE if model is None else takes_rows(model)
        if width != ACTION_SIZE:
            raise ConfigError(
                f"interface m2: got a model that takes {width or 'no'} numbers of a robot action, wanted "
                f"{ACTION_SIZE}; choose m0 or m1, or train the dynamics with robot actions"
            )
        self._model = model
        self.hash = hashlib.sha256(self.name.encode()).hexdigest()[:12]

    def reset(self, batch: int) -> None:
        """Nothing is carried over."""

    def encode(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Rows float32 (B, W) for `WorldSession.step`."""
        if self._model is None:
            raise ConfigError(
                "interface m2: encode wants a world model, got none; give NativeInterface a model"
            )
        return self._model.action_rows(robot_BR=check_actions(actions_BA))

    def executed(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """The actions themselves, float32 (B, 7)."""
        return check_actions(actions_BA)


def takes_rows(model: Any) -> int:
    """Numbers of a robot action that a world model takes; 0 for one that knows latent actions only."""
    return int(getattr(model.config.dynamics, "robot_action_dim", 0))
