"""Bottlenecks without a learned codebook: FSQ, LFQ, and the continuous Gaussian.

Shapes: K width of the vectors, Q quantized values, M vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.nn.flops import product_flops
from genie_robot.nn.quantize_codebook import Quantized

_JOINT_BITS = 12  # of LFQ, whose joint entropy is taken exactly; more are split into groups


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

    def forward(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Quantized:
        """Quantize (..., K). Nothing is drawn: `generators` are for the bottleneck that samples."""
        values = self.project(x).to(self.expand.weight.dtype)
        values = self.spread(values.flatten(0, -2)).view(values.shape)
        bounded = torch.sigmoid(1.6 * values) * self.levels_Q - 0.5
        rounded = bounded.round().clamp_min(0).minimum(self.levels_Q - 1)
        digits = bounded + (rounded - bounded).detach()
        codes = (rounded.detach().long() * self.stride_Q).sum(-1)
        return Quantized(self.expand(self._center(digits)), codes, self.expand.weight.new_zeros(()))

    def flops(self, rows: int) -> int:
        """Multiply-adds x 2 of quantizing `rows` vectors."""
        return product_flops(self.project, rows) + product_flops(self.expand, rows)

    def lookup_flops(self, rows: int) -> int:
        """Multiply-adds x 2 of looking up `rows` codes."""
        return product_flops(self.expand, rows)


class LookupFreeQuantizer(nn.Module):
    """LFQ (MAGVIT-2, arXiv 2310.05737, eq. 3-6): a code is the signs of a few values, one bit each.

    The entropy penalty makes a token sure of its code and the batch use all codes evenly. Its probabilities are those
    of eq. 6's softmax of minus squared distances, which are independent bits.
    """

    def __init__(self, bits: int, dim: int, commitment_weight: float, entropy_weight: float) -> None:
        super().__init__()
        self.bits = bits
        self.commitment_weight, self.entropy_weight = commitment_weight, entropy_weight
        self.project = nn.Linear(dim, bits)
        self.expand = nn.Linear(bits, dim)
        self.register_buffer("stride_Q", 2 ** torch.arange(bits), persistent=False)
        self.stride_Q: Tensor

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) -> vectors (..., K)."""
        signs = torch.div(codes[..., None], self.stride_Q, rounding_mode="floor") % 2 * 2 - 1
        return self.expand(signs.to(self.expand.weight.dtype))

    def forward(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Quantized:
        """Quantize (..., K). Nothing is drawn: `generators` are for the bottleneck that samples."""
        values = self.project(x).to(self.expand.weight.dtype)
        positive = values > 0
        signs = torch.where(positive, 1.0, -1.0).to(values.dtype)
        codes = (positive * self.stride_Q).sum(-1)
        loss = self.commitment_weight * F.mse_loss(values, signs)
        loss = loss + self.entropy_weight * entropy_penalty(values.flatten(0, -2))
        return Quantized(self.expand(values + (signs - values).detach()), codes, loss)

    def flops(self, rows: int) -> int:
        """Multiply-adds x 2 of quantizing `rows` vectors, the entropy of their mean included."""
        entropy = sum(2 * rows * 2**size for size in _group_sizes(self.bits))
        return product_flops(self.project, rows) + product_flops(self.expand, rows) + entropy

    def lookup_flops(self, rows: int) -> int:
        """Multiply-adds x 2 of looking up `rows` codes."""
        return product_flops(self.expand, rows)


def entropy_penalty(values_MQ: Tensor) -> Tensor:
    """Mean entropy of the tokens' codes minus the entropy of the mean code distribution, in nats (LFQ, eq. 4).

    A bit is 1 with probability sigmoid(4 z): exp(-(z - 1)^2) against exp(-(z + 1)^2). The first term is exact: the
    entropy of independent bits is their sum. The second is exact for up to 12 bits; of more, it is the sum over groups
    (which is never less than the joint entropy). The mean is that of this process's part of the batch.
    """
    ones_MQ = torch.sigmoid(4 * values_MQ)
    token = _entropy(torch.stack([ones_MQ, 1 - ones_MQ])).sum(-1).mean()
    mean = ones_MQ.new_zeros(())
    for group in ones_MQ.split(_group_sizes(ones_MQ.shape[1]), dim=1):
        # The mean of outer products of two halves is one matrix product: no (M, 2^bits) table.
        low, high = (_joint(half) for half in group.tensor_split([group.shape[1] // 2], dim=1))
        with torch.autocast(group.device.type, enabled=False):
            joint = low.T @ high / len(group)
        mean = mean + _entropy(joint.flatten())
    return token - mean


def _group_sizes(bits: int) -> list[int]:
    groups = -(-bits // _JOINT_BITS)
    return [bits // groups + (index < bits % groups) for index in range(groups)]


def _joint(ones_MQ: Tensor) -> Tensor:
    """Probabilities (M, 2^Q) of all values of Q independent bits."""
    joint = ones_MQ.new_ones(len(ones_MQ), 1)
    for one_M in ones_MQ.unbind(1):
        joint = torch.cat([joint * (1 - one_M[:, None]), joint * one_M[:, None]], dim=1)
    return joint


def _entropy(probabilities: Tensor) -> Tensor:
    """Over the first axis, in nats; 0 log 0 = 0, with a gradient that stays finite."""
    return -(probabilities * probabilities.clamp_min(1e-12).log()).sum(0)


class Sampled(NamedTuple):
    """Result of a continuous bottleneck, named as `Quantized`: `vectors` (..., K), no codes, `loss` scalar."""

    vectors: Tensor
    codes: None
    loss: Tensor


class GaussianBottleneck(nn.Module):
    """beta-VAE (AdaWorld, arXiv 2503.18938): a normal distribution with a price on what it tells.

    It has no weights: the encoder's last layer gives mean and log variance.
    """

    def __init__(self, dim: int, kl_weight: float) -> None:
        super().__init__()
        self.dim, self.kl_weight = dim, kl_weight

    def forward(self, x: Tensor, generators: Sequence[torch.Generator] | None = None) -> Sampled:
        """Mean and log variance (B, ..., 2K) -> vectors (B, ..., K): samples in training, else the mean.

        Row b draws from `generators[b]`, a CPU generator; without generators the mean is taken in training too. The
        loss is `kl_weight` times the KL divergence from the standard normal, summed over K, mean over vectors.
        """
        mean, log_variance = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, dim=-1)
        assert mean.shape[-1] == self.dim, x.shape
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
        vectors = mean
        if self.training and generators is not None:
            assert len(generators) == len(x), (len(generators), len(x))
            noise = torch.stack([torch.randn(mean.shape[1:], generator=row) for row in generators])
            vectors = mean + (0.5 * log_variance).exp() * noise.to(mean.device)
        return Sampled(vectors, None, self.kl_weight * divergence)
