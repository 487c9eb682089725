"""Vectors to discrete codes: VQ with dead-code reset, and FSQ. Shapes: K code width, V codes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Quantized(NamedTuple):
    """Result of a quantizer: `vectors` (..., K) with straight-through gradient, `codes` (...) int64, `loss` scalar."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class VectorQuantizer(nn.Module):
    """VQ-VAE codebook on the unit sphere (van den Oord 2017, eq. 3; cosine distance).

    Codes that stay below half of a uniform share are moved onto inputs of the batch. Without this, small
    codebooks collapse to one code (the usual failure of latent action models), or two codes share one
    motion while two motions share one code (seen here with a threshold of 1/8).
    """

    def __init__(self, num_codes: int, dim: int, commitment_weight: float, reset_every: int = 50) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.commitment_weight = commitment_weight
        self.reset_every = reset_every
        self.codebook = nn.Parameter(F.normalize(torch.randn(num_codes, dim), dim=-1))
        self.register_buffer("usage_V", torch.full((num_codes,), 1.0 / num_codes))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.usage_V: Tensor
        self.calls: Tensor

    def similarities(self, x: Tensor) -> Tensor:
        """Cosine similarity of each vector with each code: (..., K) -> (..., V)."""
        return F.normalize(x.to(self.codebook.dtype), dim=-1) @ F.normalize(self.codebook, dim=-1).T

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) -> unit vectors (..., K)."""
        return F.normalize(self.codebook, dim=-1)[codes]

    def forward(self, x: Tensor) -> Quantized:
        """Quantize (..., K)."""
        unit = F.normalize(x.to(self.codebook.dtype), dim=-1)
        codes = self.similarities(x).argmax(-1)
        vectors = self.lookup(codes)
        loss = F.mse_loss(vectors, unit.detach()) + self.commitment_weight * F.mse_loss(
            unit, vectors.detach()
        )
        if self.training:
            self._track(unit.detach().flatten(0, -2), codes)
        return Quantized(unit + (vectors - unit).detach(), codes, loss)

    @torch.no_grad()
    def _track(self, unit_MK: Tensor, codes: Tensor) -> None:
        share = torch.bincount(codes.flatten(), minlength=self.num_codes) / codes.numel()
        self.usage_V.lerp_(share, 0.02)
        self.calls += 1
        if int(self.calls) % self.reset_every:
            return
        dead = self.usage_V < 1 / (2 * self.num_codes)
        if dead.any():
            rows = torch.randint(len(unit_MK), (int(dead.sum()),), device=unit_MK.device)
            self.codebook.data[dead] = unit_MK[rows]
            self.usage_V[dead] = 1 / self.num_codes


class FiniteScalarQuantizer(nn.Module):
    """FSQ (Mentzer 2023, arXiv 2309.15505): each of a few values is rounded to a fixed number of levels."""

    def __init__(self, levels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, len(levels))
        # Unit variance, then a sigmoid that makes a normal variable nearly uniform: all levels are in use from the start.
        self.spread = nn.BatchNorm1d(len(levels), affine=False)
        self.expand = nn.Linear(len(levels), dim)
        levels_Q = torch.tensor(levels)
        self.register_buffer("levels_Q", levels_Q, persistent=False)
        self.register_buffer("stride_Q", torch.cumprod(levels_Q, 0) // levels_Q, persistent=False)
        self.levels_Q: Tensor
        self.stride_Q: Tensor

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) -> vectors (..., K)."""
        digits = torch.div(codes[..., None], self.stride_Q, rounding_mode="floor") % self.levels_Q
        return self.expand(self._center(digits))

    def _center(self, digits: Tensor) -> Tensor:
        return (digits / (self.levels_Q - 1) * 2 - 1).to(self.expand.weight.dtype)

    def forward(self, x: Tensor) -> Quantized:
        """Quantize (..., K)."""
        values = self.project(x).to(self.expand.weight.dtype)
        values = self.spread(values.flatten(0, -2)).view(values.shape)
        bounded = torch.sigmoid(1.6 * values) * self.levels_Q - 0.5
        rounded = bounded.round().clamp_min(0).minimum(self.levels_Q - 1)
        digits = bounded + (rounded - bounded).detach()
        codes = (rounded.detach().long() * self.stride_Q).sum(-1)
        return Quantized(self.expand(self._center(digits)), codes, self.expand.weight.new_zeros(()))
