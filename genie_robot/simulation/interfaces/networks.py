"""What adapter and decoder are made of: numbers of an image, a small network, and its training on few labels.

Shapes: N transitions, Y X pixels, C channels, P numbers of a thumbnail, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

THUMBNAIL = 16
FEATURES = 32
HIDDEN = 64
_MAX_IMAGES = 4000
_STEPS, _PATIENCE, _BATCH = 4000, 200, 256
_HELD_OUT = 5  # every fifth label says when to stop
_GAIN = 2e-3  # what counts as better
_FEW = 10


class ImageFeatures(nn.Module):
    """The principal components of 16x16 thumbnails, scaled to variance 1: where the arm and the things are.

    They are found on pictures alone, so that the few labelled transitions need not teach a network to see.
    """

    mean_P: Tensor
    components_PF: Tensor

    def __init__(self) -> None:
        super().__init__()
        size = 3 * THUMBNAIL**2
        self.register_buffer("mean_P", torch.zeros(size))
        self.register_buffer("components_PF", torch.zeros(size, FEATURES))

    @classmethod
    def fit(cls, images_NYXC: np.ndarray) -> ImageFeatures:
        """Find them on unlabelled uint8 images (N, Y, X, 3), of which at most 4000 are used, evenly spread."""
        features = cls()
        chosen = np.linspace(0, len(images_NYXC) - 1, min(_MAX_IMAGES, len(images_NYXC))).astype(int)
        pictures_NP = features.thumbnails(images_NYXC[chosen])
        features.mean_P.copy_(pictures_NP.mean(0))
        centred_NP = (pictures_NP - features.mean_P).double()
        variances, directions = torch.linalg.eigh(centred_NP.T @ centred_NP / len(centred_NP))
        variances, directions = variances.flip(0)[:FEATURES], directions.flip(1)[:, :FEATURES]
        # The sign of an eigenvector is arbitrary: the largest entry is made positive, so that runs agree.
        signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
        scales = torch.where(variances > 1e-9, variances.clamp(min=1e-9).rsqrt(), 0.0)
        features.components_PF.copy_(signs * directions * scales)
        return features

    def thumbnails(self, images_NYXC: np.ndarray) -> Tensor:
        """Float (N, P) in 0..1 of uint8 images of any size."""
        pictures = torch.from_numpy(np.ascontiguousarray(images_NYXC)).movedim(-1, 1).float() / 255
        return nn.functional.adaptive_avg_pool2d(pictures, THUMBNAIL).flatten(1)

    @torch.no_grad()
    def forward(self, images_NYXC: np.ndarray) -> Tensor:
        """(N, F), within -5..5 also for pictures unlike any seen."""
        return ((self.thumbnails(images_NYXC) - self.mean_P) @ self.components_PF).clamp(-5, 5)


class SmallNetwork(nn.Module):
    """A linear map of the inputs plus a network of two hidden layers; it begins at zero, whatever the inputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.network = nn.Sequential(
            nn.Linear(inputs, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, outputs),
        )
        for last in (self.linear, self.network[-1]):
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs) -> (N, outputs)."""
        return self.linear(x) + self.network(x)


def train_small(module: nn.Module, loss: Callable[[Tensor], Tensor], labels: int, seed: int) -> None:
    """Train by AdamW; the weights are those that did best on every fifth label, which is not trained on.

    loss: rows (M,) int64 of the labels -> mean loss of these. The same labels and seed give the same weights.
    With fewer than ten labels all are trained on, for a few steps.
    """
    rows = torch.arange(labels)
    train, held_out = rows[rows % _HELD_OUT > 0], rows[rows % _HELD_OUT == 0]
    if labels < _FEW:
        train, held_out = rows, rows
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3, weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(train) // _BATCH)
    epochs, patience = max(1, _STEPS // batches), max(1, _PATIENCE // batches)
    best, best_state, waited = float("inf"), copy.deepcopy(module.state_dict()), 0
    for _ in range(epochs if labels >= _FEW else _FEW):
        for batch in train[torch.randperm(len(train), generator=generator)].split(_BATCH):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        with torch.no_grad():
            now = float(loss(held_out))
        waited += 1
        if now < (1 - _GAIN) * best:
            best, best_state, waited = now, copy.deepcopy(module.state_dict()), 0
        if waited >= patience:
            break
    module.load_state_dict(best_state)
    module.eval().requires_grad_(False)
