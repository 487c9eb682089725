"""Robot action and image -> latent action: the adapter g(a_t, x_t) of evaluation.md, section 4.3 (M1).

It learns from transitions with known robot actions what the latent action model says of them, so that a world model
that was trained on video alone is driven by a robot's actions.
Shapes: N transitions, L levels of codes, V codes of a level, K numbers of a vector, A robot action, F inputs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.errors import DataError
from genie_robot.simulation.interfaces.latent_space import LatentSpace, Transitions
from genie_robot.simulation.interfaces.networks import FEATURES, ImageFeatures, SmallNetwork, train_small
from genie_robot.simulation.interfaces.protocol import ACTION_SIZE

_SMALLEST_SCALE = 0.05
_INPUTS = ACTION_SIZE + 1 + FEATURES


class LatentAdapter(nn.Module):
    """One small network a level, each told the codes of the levels before; or one for the vector.

    A code is the likeliest one, given the likeliest ones before.
    """

    mean_F: Tensor
    scale_F: Tensor
    vector_mean_K: Tensor
    vector_scale_K: Tensor

    def __init__(self, space: LatentSpace, features: ImageFeatures) -> None:
        super().__init__()
        self.space, self.features = space, features
        outputs = space.num_codes if space.levels else space.dim
        self.levels = nn.ModuleList(
            SmallNetwork(_INPUTS + i * space.num_codes, outputs) for i in range(max(1, space.levels))
        )
        self.register_buffer("mean_F", torch.zeros(ACTION_SIZE))
        self.register_buffer("scale_F", torch.ones(ACTION_SIZE))
        self.register_buffer("vector_mean_K", torch.zeros(space.dim))
        self.register_buffer("vector_scale_K", torch.ones(space.dim))

    @classmethod
    def fit(
        cls, space: LatentSpace, transitions: Transitions, features: ImageFeatures, seed: int = 0
    ) -> LatentAdapter:
        """Train on labelled transitions: cross-entropy of every level, or squared error of the vector.

        DataError when there is none.
        """
        if not len(transitions):
            raise DataError(
                "no labelled transitions; wanted at least one to fit an adapter; give more episodes"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            adapter = cls(space, features)
        actions_NA = torch.from_numpy(transitions.actions_NA).clamp(-1, 1)
        adapter.mean_F.copy_(actions_NA.mean(0))
        adapter.scale_F.copy_(actions_NA.std(0, unbiased=False).clamp(min=_SMALLEST_SCALE))
        if not space.levels:
            vectors_NK = torch.from_numpy(transitions.vectors_NK)
            adapter.vector_mean_K.copy_(vectors_NK.mean(0))
            adapter.vector_scale_K.copy_(vectors_NK.std(0, unbiased=False).clamp(min=1e-4))
        inputs_NF = adapter._inputs(transitions.actions_NA, transitions.images_NYXC, transitions.open_N)
        latents = torch.from_numpy(transitions.latents(space))
        train_small(adapter, lambda rows: adapter._loss(inputs_NF[rows], latents[rows]), len(latents), seed)
        return adapter

    @torch.no_grad()
    def latents(self, actions_NA: np.ndarray, images_NYXC: np.ndarray, open_N: np.ndarray) -> np.ndarray:
        """Latent actions, int64 (N, L) or float32 (N, K), of robot actions (N, 7)."""
        inputs_NF = self._inputs(actions_NA, images_NYXC, open_N)
        if not self.space.levels:
            return (self.levels[0](inputs_NF) * self.vector_scale_K + self.vector_mean_K).numpy()
        codes: list[Tensor] = []
        for level in self.levels:
            codes.append(level(self._with_codes(inputs_NF, codes)).argmax(-1))
        return torch.stack(codes, dim=-1).numpy()

    @torch.no_grad()
    def loss(self, transitions: Transitions) -> float:
        """Nats a step (the levels' cross-entropies added up), or the squared error of the vector over its variance."""
        inputs_NF = self._inputs(transitions.actions_NA, transitions.images_NYXC, transitions.open_N)
        return float(self._loss(inputs_NF, torch.from_numpy(transitions.latents(self.space))))

    def _loss(self, inputs_NF: Tensor, latents: Tensor) -> Tensor:
        if not self.space.levels:
            return F.mse_loss(self.levels[0](inputs_NF), (latents - self.vector_mean_K) / self.vector_scale_K)
        total = inputs_NF.new_zeros(())
        for i, level in enumerate(self.levels):
            logits_NV = level(self._with_codes(inputs_NF, list(latents[:, :i].unbind(-1))))
            total = total + F.cross_entropy(logits_NV, latents[:, i])
        return total

    def _inputs(self, actions_NA: np.ndarray, images_NYXC: np.ndarray, open_N: np.ndarray) -> Tensor:
        actions = torch.from_numpy(np.asarray(actions_NA, dtype=np.float32)).clamp(-1, 1)
        is_open = torch.from_numpy(np.asarray(open_N, dtype=np.float32))[:, None]
        return torch.cat([(actions - self.mean_F) / self.scale_F, is_open, self.features(images_NYXC)], dim=1)

    def _with_codes(self, inputs_NF: Tensor, codes: list[Tensor]) -> Tensor:
        return torch.cat([inputs_NF, *(F.one_hot(one, self.space.num_codes).float() for one in codes)], dim=1)
