"""Latent action -> robot action: Genie's dictionary, and a decoder D(z, x) that looks at the image (evaluation.md, 4.3).

Shapes: N transitions, B rows, L levels of codes, K numbers of a vector, F features of a latent, A robot action.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from genie_robot.errors import DataError
from genie_robot.simulation.interfaces.latent_space import LatentSpace, Transitions
from genie_robot.simulation.interfaces.networks import FEATURES, ImageFeatures, SmallNetwork, train_small
from genie_robot.simulation.interfaces.protocol import ACTION_SIZE

_RIDGE = 10.0  # of the features' mean variance
_SMALLEST_SCALE = 0.05


class Decoder(Protocol):
    """Anything that says which robot action a latent action stands for."""

    def robot_action(self, latents: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7) in -1..1, of latents (B, L) int or (B, K) float."""
        ...


class CodeDictionary(nn.Module):
    """A robot action for each code, with the gripper open and closed; it never looks at the image.

    For one level of codes it is the mean action of each code (Genie, section 3.3). Residual codes add up, so their
    entries do too: least squares on the one-hots of all levels, with a small ridge. For vectors it is a linear map.
    """

    table_OFA: Tensor

    def __init__(self, space: LatentSpace) -> None:
        super().__init__()
        self.space = space
        self.register_buffer("table_OFA", torch.zeros(2, space.width + 1, ACTION_SIZE))

    @classmethod
    def fit(cls, space: LatentSpace, transitions: Transitions) -> CodeDictionary:
        """Fit on labelled transitions. What was never seen with that gripper is as with the other; DataError for none."""
        if not len(transitions):
            raise DataError(
                "no labelled transitions; wanted at least one to fit a dictionary; give more episodes"
            )
        dictionary = cls(space)
        features_NF = with_one(space.features(transitions.latents(space)))
        actions_NA = transitions.actions_NA.astype(np.float64)
        both_FA = _ridge(features_NF, actions_NA, np.zeros((features_NF.shape[1], ACTION_SIZE)))
        for gripper in (0, 1):
            rows = transitions.open_N == bool(gripper)
            table_FA = _ridge(features_NF[rows], actions_NA[rows], both_FA)
            dictionary.table_OFA[gripper] = torch.from_numpy(table_FA)
        return dictionary

    def robot_action(self, latents: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7) in -1..1, of latents (B, L) int or (B, K) float; ActionError for others."""
        return self.tensor(self.space.features(latents), is_open_B).clamp(-1, 1).numpy()

    def tensor(self, features_BF: np.ndarray, is_open_B: np.ndarray) -> Tensor:
        """The same of `LatentSpace.features`, unclamped."""
        tables_BFA = self.table_OFA[torch.from_numpy(np.asarray(is_open_B).astype(np.int64))]
        rows_BF = torch.from_numpy(with_one(features_BF)).float()
        return torch.einsum("bf,bfa->ba", rows_BF, tables_BFA)


class StateDecoder(nn.Module):
    """D(z, x): the dictionary's action plus what a small network adds for this image; squared error."""

    scale_A: Tensor

    def __init__(self, space: LatentSpace, features: ImageFeatures) -> None:
        super().__init__()
        self.space, self.features = space, features
        self.dictionary = CodeDictionary(space)
        self.correction = SmallNetwork(space.width + 1 + FEATURES, ACTION_SIZE)
        self.register_buffer("scale_A", torch.ones(ACTION_SIZE))

    @classmethod
    def fit(
        cls, space: LatentSpace, transitions: Transitions, features: ImageFeatures, seed: int = 0
    ) -> StateDecoder:
        """Fit dictionary and correction on labelled transitions; DataError for none."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = cls(space, features)
        decoder.dictionary = CodeDictionary.fit(space, transitions)
        actions_NA = torch.from_numpy(transitions.actions_NA.astype(np.float32))
        decoder.scale_A.copy_(actions_NA.std(0, unbiased=False).clamp(min=_SMALLEST_SCALE))
        latents, is_open = transitions.latents(space), transitions.open_N
        rest_NA = (actions_NA - decoder.dictionary.tensor(space.features(latents), is_open)) / decoder.scale_A
        inputs_NF = decoder._inputs(space.features(latents), transitions.images_NYXC, is_open)

        def loss(rows: Tensor) -> Tensor:
            return nn.functional.mse_loss(decoder.correction(inputs_NF[rows]), rest_NA[rows])

        train_small(decoder.correction, loss, len(transitions), seed)
        return decoder

    @torch.no_grad()
    def robot_action(self, latents: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7) in -1..1, of latents (B, L) int or (B, K) float; ActionError for others."""
        features_BF = self.space.features(latents)
        correction_BA = self.correction(self._inputs(features_BF, images_BYXC, is_open_B)) * self.scale_A
        return (self.dictionary.tensor(features_BF, is_open_B) + correction_BA).clamp(-1, 1).numpy()

    def _inputs(self, features_BF: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> Tensor:
        is_open = torch.from_numpy(np.asarray(is_open_B, dtype=np.float32))[:, None]
        return torch.cat([torch.from_numpy(features_BF), is_open, self.features(images_BYXC)], dim=1)


def with_one(features_NF: np.ndarray) -> np.ndarray:
    """Features float64 (N, F + 1) with a last column of ones, for the intercept of a linear fit."""
    return np.column_stack([features_NF, np.ones(len(features_NF))]).astype(np.float64)


def _ridge(features_NF: np.ndarray, targets_NA: np.ndarray, prior_FA: np.ndarray) -> np.ndarray:
    """Least squares (F, A) drawn a little towards `prior_FA`, by the same amount whatever the scale of the features."""
    spread = features_NF[:, :-1].var(axis=0).mean() if len(features_NF) else 0.0
    penalty_F = np.full(features_NF.shape[1], max(_RIDGE * spread, 1e-6))
    gram_FF = features_NF.T @ features_NF + np.diag(penalty_F)
    return np.linalg.solve(gram_FF, features_NF.T @ targets_NA + penalty_F[:, None] * prior_FA)
