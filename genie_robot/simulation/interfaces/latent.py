"""M0 and M1: robot actions reach the world model as its own latent actions (evaluation.md, section 4.3).

M0 is Genie's: tables that never look at the image, without memory. M1 is an adapter that looks, a decoder that looks,
and error feedback: what was asked for and did not pass through is carried into the next choice (section 4.2).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from torch import nn

from genie_robot.errors import ConfigError
from genie_robot.models.hashing import weights_hash
from genie_robot.simulation.action_interface import ActionAdapter
from genie_robot.simulation.blocks import in_blocks
from genie_robot.simulation.interfaces.adapter import LatentAdapter
from genie_robot.simulation.interfaces.decoder import Decoder
from genie_robot.simulation.interfaces.latent_space import LatentSpace, model_spaces, step_input
from genie_robot.simulation.interfaces.protocol import check_actions

CARRIED = slice(0, 6)
"""Motion is carried over; the gripper is not: a command that did not pass is asked for again by who sees the picture."""
_MOST_CARRIED = 1.0  # a full step; more would be a motion that nobody asks for any longer


class TableInterface:
    """M0: the first level's codes by an `ActionAdapter`, and back by its dictionary.

    model: None where only `executed` is wanted.
    """

    name = "m0"
    looks = False

    def __init__(self, adapter: ActionAdapter, model: Any | None = None) -> None:
        """ConfigError when adapter and model differ in their codes."""
        self.adapter, self._model = adapter, model
        self.space = LatentSpace(adapter.num_codes, 1, 0)
        if model is not None and self.space.name not in [space.name for space in model_spaces(model)]:
            raise ConfigError(
                f"interface m0: got an adapter to {adapter.num_codes} codes, wanted one to the codes of the model "
                f"({', '.join(space.name for space in model_spaces(model))}); fit it with "
                "`genie-robot evaluate interfaces MODEL --data FOLDER --write`"
            )
        parts = (adapter.weight_CF, adapter.bias_C, adapter.mean_F, adapter.scale_F, adapter.dictionary_COF)
        digest = hashlib.sha256(self.name.encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
        self.hash = digest.hexdigest()[:12]

    def reset(self, batch: int, poses_BP: np.ndarray | None = None) -> None:
        """Nothing is carried over."""

    def encode(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Codes (B,), or rows, for `WorldSession.step`."""
        codes_B = self.adapter.code(check_actions(actions_BA))
        return step_input(_wanted(self._model, self.name), self.space, codes_B[:, None])

    def executed(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """The dictionary's action of each code, float32 (B, 7)."""
        return self.adapter.robot_action(self.adapter.code(check_actions(actions_BA)), is_open_B)


class LatentInterface:
    """M1: (robot action, image) -> latent action, and its meaning for the robot, with error feedback.

    adapter: robot action -> latent. decoder: latent -> robot action, a CodeDictionary or a StateDecoder.
    model: None where only `executed` is wanted. error_feedback: False for the comparison alone.
    """

    looks = True

    def __init__(
        self,
        adapter: LatentAdapter,
        decoder: Decoder,
        model: Any | None = None,
        *,
        error_feedback: bool = True,
    ) -> None:
        assert isinstance(decoder, nn.Module)
        self.adapter, self.decoder, self.space = adapter, decoder, adapter.space
        self.error_feedback, self._model = error_feedback, model
        self.name = f"m1:{self.space.name}"
        parts = f"{self.name} {weights_hash(adapter)} {weights_hash(decoder)} {error_feedback}"
        self.hash = hashlib.sha256(parts.encode()).hexdigest()[:12]
        self._carry_BA = np.zeros((0, 7), np.float32)

    def reset(self, batch: int, poses_BP: np.ndarray | None = None) -> None:
        """Begin `batch` episodes with nothing carried over."""
        self._carry_BA = np.zeros((batch, 7), np.float32)

    def encode(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Codes, vectors or rows for `WorldSession.step`; goes one step on."""
        latents, _ = self._choose(actions_BA, images_BYXC, is_open_B)
        return step_input(_wanted(self._model, self.name), self.space, latents)

    def executed(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """What the decoder says of the chosen latent actions, float32 (B, 7); goes one step on."""
        return self._choose(actions_BA, images_BYXC, is_open_B)[1]

    def _choose(
        self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        asked_BA = check_actions(actions_BA)
        if len(asked_BA) != len(self._carry_BA):
            raise ConfigError(
                f"interface {self.name}: got {len(asked_BA)} actions in a batch of {len(self._carry_BA)} episodes; "
                "call reset(batch) at their beginning"
            )
        wanted_BA = np.clip(asked_BA + self._carry_BA, -1.0, 1.0)
        # In blocks of one size, so that an episode run alone is the episode run among others, bit for bit.
        latents = in_blocks(self._latents, images_BYXC, wanted_BA, is_open_B)
        done_BA = in_blocks(self._robot_action, images_BYXC, latents, is_open_B)
        if self.error_feedback:
            left_BA = asked_BA + self._carry_BA - done_BA
            self._carry_BA[:, CARRIED] = np.clip(left_BA, -_MOST_CARRIED, _MOST_CARRIED)[:, CARRIED]
        return latents, done_BA

    def _latents(self, images_BYXC: np.ndarray, actions_BA: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        return self.adapter.latents(actions_BA, images_BYXC, is_open_B)

    def _robot_action(
        self, images_BYXC: np.ndarray, latents: np.ndarray, is_open_B: np.ndarray
    ) -> np.ndarray:
        return self.decoder.robot_action(latents, images_BYXC, is_open_B)


def _wanted(model: Any | None, name: str) -> Any:
    if model is None:
        raise ConfigError(
            f"interface {name}: encode wants a world model, got none; give the interface a model"
        )
    return model
