"""Films by a world model on held-out clips: imagined under latent or robot actions, or through the tokenizer alone.

Shapes: B clips, T frames, S = T - 1 steps, H imagined frames, A numbers of a robot action, K of a latent vector, W of
an action row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.data.commands import COMMAND_SIZE, commands, poses_of
from genie_robot.errors import ConfigError, DataError
from genie_robot.simulation.action_interface import ActionAdapter
from genie_robot.simulation.suites import suite_of_size
from genie_robot.simulation.world_session import WorldSession

Progress = Callable[[str], None]
T4 = 4
"""Delta PSNR is taken at the 4th imagined frame (Genie, section 3)."""


@dataclass(frozen=True)
class ModelEvalConfig:
    """How a model is evaluated; `seed` fixes clips' sampling noise and the random actions."""

    prompt_frames: int = 1
    horizon: int = 8
    draws: int = 5
    seed: int = 0
    maskgit_steps: int = 8
    temperature: float = TEMPERATURE
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.prompt_frames < 1 or self.horizon < T4 or self.draws < 1 or self.batch_size < 1:
            raise ConfigError(
                f"prompt_frames {self.prompt_frames}, horizon {self.horizon}, draws {self.draws}, batch_size "
                f"{self.batch_size}; wanted prompt_frames, draws and batch_size >= 1 and horizon >= {T4}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}; wanted 0 or more")

    @property
    def clip_frames(self) -> int:
        """True frames that a clip needs."""
        return self.prompt_frames + self.horizon


def films(model: Any, prompts: np.ndarray, inputs_BH: np.ndarray, config: ModelEvalConfig) -> np.ndarray:
    """Films (B, 1 + H, Y, X, 3) uint8: the last prompt frame as the tokenizer shows it, then the imagined frames.

    prompts: uint8 (B, T, Y, X, 3). inputs_BH: codes (B, H), or action rows (B, H, W). Batches have fixed seeds.
    """
    parts = []
    for start in range(0, len(prompts), config.batch_size):
        part = slice(start, start + config.batch_size)
        world = WorldSession(model, maskgit_steps=config.maskgit_steps, temperature=config.temperature)
        # The session gives world i the seed + i, so a clip's noise does not depend on the batch size.
        frames = [world.reset(prompts[part], seed=config.seed + start)]
        frames += [world.step(inputs) for inputs in inputs_BH[part].swapaxes(0, 1)]
        parts.append(np.stack(frames, axis=1))
    return np.concatenate(parts)


def imagine(model: Any, prompts: np.ndarray, inputs_BH: np.ndarray, config: ModelEvalConfig) -> np.ndarray:
    """The imagined frames (B, H, Y, X, 3) of `films` alone."""
    return films(model, prompts, inputs_BH, config)[:, 1:]


def reconstruct(model: Any, video_BTYXC: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Tokenizer round trip of a video (B, T, Y, X, 3), in clips no longer than the model's window."""
    window = int(model.config.video.num_frames)
    parts = []
    for start in range(0, len(video_BTYXC), batch_size):
        video = video_BTYXC[start : start + batch_size]
        pieces = [
            model.decode(model.encode(video[:, k : k + window])) for k in range(0, video.shape[1], window)
        ]
        parts.append(np.concatenate(pieces, axis=1))
    return np.concatenate(parts)


def latent_vectors(model: Any, video_BTYXC: np.ndarray) -> np.ndarray:
    """What the steps are before they are quantized, float32 (B, S, K), of a video of any length.

    The windows are those of `infer_codes`: no longer than the model's, and sharing one frame.
    """
    window = int(model.config.video.num_frames)
    last = video_BTYXC.shape[1] - 1
    parts = [
        model.latent_vectors(video_BTYXC[:, start : start + window]) for start in range(0, last, window - 1)
    ]
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class RobotDrive:
    """How robot actions drive this model: `interface` "native" (rows) or "adapter" (robot action -> code)."""

    model: Any
    adapter: ActionAdapter | None = None

    @property
    def interface(self) -> str:
        """Name of the way in: "native" where the dynamics takes robot actions themselves, else "adapter"."""
        return "native" if self.model.config.dynamics.robot_action_dim else "adapter"

    def inputs(self, actions_BHA: np.ndarray, starts_BK: np.ndarray | None = None) -> np.ndarray:
        """What `WorldSession.step` takes for robot actions (B, H, A): rows (B, H, W), or codes (B, H).

        starts_BK: true states before the first action, wanted by a model that is led by the poses that actions command.
        Raises ConfigError for a model that takes latent actions alone and came without an adapter, DataError without states.
        """
        if self.interface == "native":
            if self.model.config.dynamics.robot_action_dim == COMMAND_SIZE:
                if starts_BK is None:
                    raise DataError(
                        "the data have no true states; wanted them for a model that is led by poses"
                    )
                poses_BP = poses_of(starts_BK, suite_of_size(starts_BK.shape[-1]).state_names)
                actions_BHA = commands(poses_BP, actions_BHA)
            return self.model.action_rows(robot_BR=actions_BHA)
        if self.adapter is None:
            raise ConfigError(
                "this model takes latent actions alone and its folder has no action_adapter.json; fit one with "
                "`genie-robot actions MODEL --data FOLDER --write` on a dataset that has actions"
            )
        return self.adapter.code(actions_BHA)
