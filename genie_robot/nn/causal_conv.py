"""3-D convolutions that look back in time only (MAGVIT-2, arXiv 2310.05737), and their streaming cache.

Nothing shrinks or pools over time: each frame has its own group norm, so a frame depends on earlier ones through the
convolutions alone, and a stream needs the last frames of each convolution's input and nothing else.
Shapes: B batch, C channels, T frames, Y X pixels (of the current resolution).
"""

from __future__ import annotations

import math
import sys

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.nn.flops import product_flops


class ConvCache:
    """The last input frames of each causal convolution of one network. Never full: older frames have no influence."""

    is_full = False
    capacity = sys.maxsize

    def __init__(self) -> None:
        self.length = 0
        self._past: dict[nn.Module, Tensor] = {}
        self._next: dict[nn.Module, Tensor] = {}

    def extend(self, layer: nn.Module, x_BCTYX: Tensor, num_past: int) -> Tensor:
        """The `num_past` frames before these, as `layer` last saw them, followed by these."""
        seen = torch.cat([self._past.get(layer, still(x_BCTYX, num_past)), x_BCTYX], dim=2)
        self._next[layer] = seen[:, :, -num_past:]
        return seen

    def commit(self, frames: int) -> None:
        """The `frames` frames of the last pass are finished: later ones come after them."""
        self._past = {layer: seen.clone() for layer, seen in self._next.items()}
        self._next = {}
        self.length += frames

    def fork(self, copies: int) -> ConvCache:
        """A cache whose batch holds `copies` copies of each row, side by side."""
        assert copies >= 1, copies
        other = ConvCache()
        other.length = self.length
        other._past = {layer: seen.repeat_interleave(copies, dim=0) for layer, seen in self._past.items()}
        return other


def still(x_BCTYX: Tensor, frames: int) -> Tensor:
    """The first frame, `frames` times: before a clip the world stood still."""
    return x_BCTYX[:, :, :1].expand(-1, -1, frames, -1, -1)


class CausalConv(nn.Module):
    """A convolution over the last `time` frames and `space` x `space` pixels; `stride` is spatial."""

    def __init__(self, inputs: int, outputs: int, time: int = 3, space: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.num_past = time - 1
        self.conv = nn.Conv3d(
            inputs,
            outputs,
            (time, space, space),
            stride=(1, stride, stride),
            padding=(0, space // 2, space // 2),
        )

    def forward(self, x_BCTYX: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(B,C,T,Y,X) -> (B,C',T,Y',X')."""
        if not self.num_past:
            return self.conv(x_BCTYX)
        if cache is None:
            return self.conv(torch.cat([still(x_BCTYX, self.num_past), x_BCTYX], dim=2))
        return self.conv(cache.extend(self, x_BCTYX, self.num_past))

    def flops(self, pixels: int) -> int:
        """Multiply-adds x 2 of `pixels` output pixels, those of all frames together."""
        return product_flops(self.conv, pixels)


class FrameNorm(nn.GroupNorm):
    """Group norm of each frame alone, then SiLU."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(32, channels), channels)

    def forward(self, x_BCTYX: Tensor) -> Tensor:
        """(B,C,T,Y,X) -> the same shape."""
        frames = rearrange(x_BCTYX, "b c t y x -> (b t) c y x")
        return rearrange(F.silu(super().forward(frames)), "(b t) c y x -> b c t y x", b=len(x_BCTYX))


class ResidualBlock(nn.Module):
    """Norm, convolution, twice, beside a shortcut (a 1x1x1 convolution where the width changes)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = FrameNorm(inputs), CausalConv(inputs, outputs)
        self.norm2, self.conv2 = FrameNorm(outputs), CausalConv(outputs, outputs)
        self.shortcut = CausalConv(inputs, outputs, 1, 1) if inputs != outputs else None

    def forward(self, x_BCTYX: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(B,C,T,Y,X) -> (B,C',T,Y,X)."""
        out = self.conv1(self.norm1(x_BCTYX), cache)
        out = self.conv2(self.norm2(out), cache)
        return out + (x_BCTYX if self.shortcut is None else self.shortcut(x_BCTYX))

    def flops(self, pixels: int) -> int:
        """Multiply-adds x 2 of `pixels` pixels, those of all frames together."""
        total = self.conv1.flops(pixels) + self.conv2.flops(pixels)
        return total + (0 if self.shortcut is None else self.shortcut.flops(pixels))


class Upsample(nn.Module):
    """Twice the resolution: four output pixels from the channels of each (depth to space)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = CausalConv(inputs, 4 * outputs)

    def forward(self, x_BCTYX: Tensor, cache: ConvCache | None = None) -> Tensor:
        """(B,C,T,Y,X) -> (B,C',T,2Y,2X)."""
        out = self.conv(x_BCTYX, cache)
        return rearrange(out, "b (c p q) t y x -> b c t (y p) (x q)", p=2, q=2)

    def flops(self, pixels: int) -> int:
        """Multiply-adds x 2 of `pixels` output pixels, those of all frames together."""
        return self.conv.flops(pixels // 4)
