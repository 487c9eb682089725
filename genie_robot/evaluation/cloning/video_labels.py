"""What a latent action model says of demonstrations, and the decoders that few labelled steps give.

Shapes: N steps, T frames, L levels of codes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from genie_robot.evaluation.cloning.demonstrations import Demonstrations
from genie_robot.evaluation.cloning.fitting import Loss
from genie_robot.simulation.action_interface import infer_codes
from genie_robot.simulation.interfaces import ImageFeatures, LatentSpace, Transitions
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS


def code_space(model: Any) -> LatentSpace:
    """All levels of a model's codes; ConfigError for a model that has none."""
    model.require_codes("cloning from video")
    config = model.config.latent_action
    return LatentSpace(config.num_actions, config.num_codebooks, config.code_dim)


def label_video(model: Any, demonstrations: Demonstrations) -> np.ndarray:
    """The model's codes of every step, int64 (N, L): it sees frames alone."""
    space, parts = code_space(model), []
    key_N = demonstrations.episode_N * len(TASKS) + demonstrations.task_N
    starts = np.flatnonzero(np.diff(key_N, prepend=key_N[0] - 1))
    for start, end in zip(starts, [*starts[1:], len(demonstrations)], strict=True):
        frames = [demonstrations.images_NYXC[start:end], demonstrations.next_NYXC[end - 1 : end]]
        parts.append(space.from_packed(infer_codes(model, np.concatenate(frames)[None])[0]))
    return np.concatenate(parts)


def code_loss(codes_NL: np.ndarray, num_codes: int) -> Loss:
    """Cross-entropy of the codes of all levels, each guessed by itself."""
    codes = torch.from_numpy(codes_NL)

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        logits_BLV = outputs.unflatten(1, (codes.shape[1], num_codes))
        return functional.cross_entropy(logits_BLV.transpose(1, 2), codes[rows])

    return loss


def labelled(demonstrations: Demonstrations, codes_NL: np.ndarray, rows: np.ndarray) -> Transitions:
    """Some steps with their true actions, as decoders learn from them; the gripper counts as open throughout."""
    return Transitions(
        demonstrations.images_NYXC[rows],
        demonstrations.done_N7[rows],
        np.ones(len(rows), dtype=bool),
        codes_NL[rows],
        np.zeros((len(rows), 0), dtype=np.float32),
    )


def image_features(demonstrations: Demonstrations) -> ImageFeatures:
    """Numbers of an image for D(z, x), found on pictures alone."""
    return ImageFeatures.fit(demonstrations.images_NYXC)
