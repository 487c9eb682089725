"""Vectors to codes by a learned codebook: VQ and residual VQ, with dead-code reset.

Shapes: K code width, V codes, M vectors, L codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GOLDEN = 0.6180339887498949
_USAGE_RATE = 0.02  # weight of the newest step in the mean usage


class Quantized(NamedTuple):
    """Result of a quantizer: `vectors` (..., K) with straight-through gradient, `codes` (...) int64, `loss` scalar."""

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Codebook(nn.Module):
    """Learned code vectors, whose dead codes are moved onto inputs.

    Codes that stay below `reset_share` of a uniform share are dead. Without a reset, small codebooks collapse to one
    code (the usual failure of latent action models), or two codes share one motion while two motions share one code
    (seen here with a share of 1/4).

    A forward pass in training only counts; the training loop calls `after_step` once an optimizer step. In between, a
    loop that runs on many processes adds up their `counts_V` and gives all of them one `candidates_VK`, so that their
    codebooks stay equal.
    """

    def __init__(
        self, vectors_VK: Tensor, commitment_weight: float, reset_share: float, reset_every: int
    ) -> None:
        super().__init__()
        num_codes = len(vectors_VK)
        self.num_codes = num_codes
        self.commitment_weight = commitment_weight
        self.reset_share, self.reset_every = reset_share, reset_every
        self.codebook = nn.Parameter(vectors_VK)
        self.register_buffer("usage_V", torch.full((num_codes,), 1.0 / num_codes))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("counts_V", torch.zeros(num_codes), persistent=False)
        self.register_buffer("candidates_VK", torch.zeros_like(vectors_VK), persistent=False)
        self.usage_V: Tensor
        self.calls: Tensor
        self.counts_V: Tensor
        self.candidates_VK: Tensor

    def _loss(self, x: Tensor, vectors: Tensor) -> Tensor:
        """VQ-VAE, eq. 3: codes move to the inputs, and inputs, more slowly, to their codes."""
        return F.mse_loss(vectors, x.detach()) + self.commitment_weight * F.mse_loss(x, vectors.detach())

    @torch.no_grad()
    def _count(self, x: Tensor, codes: Tensor) -> None:
        """Remember which codes were used, and one input a code that could replace it."""
        x_MK = x.flatten(0, -2)
        self.counts_V += torch.bincount(codes.flatten(), minlength=self.num_codes)
        # Steps of the golden ratio spread over the batch, but in no rhythm with the rows of a frame: an even stride
        # could meet the same column of every frame.
        spread_V = torch.arange(1, self.num_codes + 1, device=x.device, dtype=torch.float64) * _GOLDEN % 1
        self.candidates_VK.copy_(x_MK[(spread_V * len(x_MK)).long()])

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the counts of the step into the mean usage; every `reset_every` calls move dead codes.

        Draws no random numbers. Does nothing when no vector was quantized in training since the last call.
        """
        if not self.counts_V.any():
            return
        self.usage_V.lerp_(self.counts_V / self.counts_V.sum(), _USAGE_RATE)
        self.counts_V.zero_()
        self.calls += 1
        if int(self.calls) % self.reset_every:
            return
        dead_V = self.usage_V < self.reset_share / self.num_codes
        self.codebook.copy_(torch.where(dead_V[:, None], self.candidates_VK, self.codebook))
        self.usage_V.masked_fill_(dead_V, 1 / self.num_codes)


class VectorQuantizer(Codebook):
    """VQ-VAE codebook on the unit sphere (van den Oord 2017, arXiv 1711.00937; cosine distance)."""

    def __init__(
        self,
        num_codes: int,
        dim: int,
        commitment_weight: float,
        reset_share: float = 0.5,
        reset_every: int = 50,
    ) -> None:
        vectors_VK = F.normalize(torch.randn(num_codes, dim), dim=-1)
        super().__init__(vectors_VK, commitment_weight, reset_share, reset_every)

    def similarities(self, x: Tensor) -> Tensor:
        """Cosine similarity of each vector with each code: (..., K) -> (..., V)."""
        with torch.autocast(
            x.device.type, enabled=False
        ):  # codes must not depend on the precision of training
            return F.normalize(x.to(self.codebook.dtype), dim=-1) @ F.normalize(self.codebook, dim=-1).T

    def probabilities(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., V): softmax of the similarities / 0.1."""
        return (self.similarities(x) / 0.1).softmax(-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) -> unit vectors (..., K)."""
        return F.normalize(self.codebook, dim=-1)[codes]

    def forward(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Quantized:
        """Quantize (..., K). Nothing is drawn: `generators` are for the bottleneck that samples."""
        unit = F.normalize(x.to(self.codebook.dtype), dim=-1)
        codes = self.similarities(x).argmax(-1)
        vectors = self.lookup(codes)
        if self.training:
            self._count(unit, codes)
        return Quantized(unit + (vectors - unit).detach(), codes, self._loss(unit, vectors))

    def flops(self, rows: int) -> int:
        """Multiply-adds x 2 of quantizing `rows` vectors."""
        return 2 * rows * self.codebook.numel()

    def lookup_flops(self, rows: int) -> int:
        """Multiply-adds x 2 of looking up `rows` codes."""
        return 0


class Level(Codebook):
    """One codebook of residual VQ: the nearest code in Euclidean distance."""

    def squared_distances(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., V)."""
        squares = x.square().sum(-1, keepdim=True) + self.codebook.square().sum(-1)
        with torch.autocast(x.device.type, enabled=False):
            return squares - 2 * x @ self.codebook.T

    def forward(self, x: Tensor) -> Quantized:
        """`vectors` without straight-through gradient: the sum over levels gets it."""
        codes = self.squared_distances(x).argmin(-1)
        vectors = self.codebook[codes]
        if self.training:
            self._count(x, codes)
        return Quantized(vectors, codes, self._loss(x, vectors))


def code_digits(codes: Tensor, num_codes: int, num_codebooks: int) -> Tensor:
    """Codes (...) of a chain of codebooks -> one code of each (..., L), the first one counting 1."""
    stride_L = num_codes ** torch.arange(num_codebooks, device=codes.device)
    return torch.div(codes[..., None], stride_L, rounding_mode="floor") % num_codes


class ResidualVectorQuantizer(nn.Module):
    """A chain of codebooks, each on what the ones before left over (RVQ; SoundStream, arXiv 2107.03312).

    Vectors are brought onto the unit sphere first, as in `VectorQuantizer`: where their length is free they shrink until
    one code serves them all, and the actions say nothing (seen on free motion in front of a fixed camera).
    The L codes c_i of a vector are one number, sum of c_i * V^i: its digits, the coarsest first.
    """

    def __init__(
        self,
        num_codes: int,
        num_codebooks: int,
        dim: int,
        commitment_weight: float,
        reset_share: float = 0.5,
        reset_every: int = 50,
    ) -> None:
        super().__init__()
        self.num_codes, self.num_codebooks = num_codes, num_codebooks
        # Each codebook starts at half the spread of the one before, as residuals do.
        self.levels = nn.ModuleList(
            Level(
                0.5**level * F.normalize(torch.randn(num_codes, dim), dim=-1),
                commitment_weight,
                reset_share,
                reset_every,
            )
            for level in range(num_codebooks)
        )

    @property
    def codebooks(self) -> list[Level]:
        """The L codebooks, the coarsest first."""
        return [level for level in self.levels if isinstance(level, Level)]

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) -> sums of code vectors (..., K)."""
        digits = code_digits(codes, self.num_codes, self.num_codebooks)
        return torch.stack([level.codebook[digits[..., i]] for i, level in enumerate(self.codebooks)]).sum(0)

    def forward(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Quantized:
        """Quantize (..., K). Nothing is drawn: `generators` are for the bottleneck that samples."""
        residual = x = F.normalize(x.to(self.codebooks[0].codebook.dtype), dim=-1)
        total, loss = torch.zeros_like(x), x.new_zeros(())
        codes = torch.zeros(x.shape[:-1], dtype=torch.int64, device=x.device)
        for i, level in enumerate(self.codebooks):
            vectors, digit, level_loss = level(residual)
            total, loss = total + vectors, loss + level_loss
            codes = codes + digit * self.num_codes**i
            residual = x - total.detach()
        return Quantized(x + (total - x).detach(), codes, loss)

    def level_probabilities(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., L, V): of each codebook's codes, given the likeliest ones before.

        Softmax of minus the squared distances, in units of a tenth of the codebook's mean square: with codes on the
        unit sphere the same as `VectorQuantizer.probabilities`.
        """
        residual = F.normalize(x.to(self.codebooks[0].codebook.dtype), dim=-1)
        probabilities = []
        for level in self.codebooks:
            distances = level.squared_distances(residual)
            scale = 0.2 * level.codebook.detach().square().sum(-1).mean()
            probabilities.append((-distances / scale).softmax(-1))
            residual = residual - level.codebook[distances.argmin(-1)].detach()
        return torch.stack(probabilities, dim=-2)

    def probabilities(self, x: Tensor) -> Tensor:
        """(..., K) -> (..., V^L): product of the codebooks' probabilities; the likeliest is the code."""
        joint, *others = self.level_probabilities(x).unbind(-2)
        for finer in others:
            joint = (finer[..., :, None] * joint[..., None, :]).flatten(-2)
        return joint

    def flops(self, rows: int) -> int:
        """Multiply-adds x 2 of quantizing `rows` vectors."""
        return sum(2 * rows * level.codebook.numel() for level in self.codebooks)
