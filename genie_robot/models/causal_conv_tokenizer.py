"""Encoder and decoder of causal 3-D convolutions (after MAGVIT-2, arXiv 2310.05737, section 3.2).

As there: residual blocks, strided convolutions down, depth to space up. Unlike there: time keeps its resolution (the
dynamics works frame by frame), each frame is normalised alone, and the decoder has no adaptive group norm.
Shapes: B batch, T frames, Y X pixels, C channels, N tokens per frame, K code width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from genie_robot.config import TokenizerConfig, VideoConfig
from genie_robot.nn.causal_conv import CausalConv, ConvCache, FrameNorm, ResidualBlock, Upsample


def _widths(config: TokenizerConfig) -> list[int]:
    """Channels at each resolution, from pixels to tokens: doubled at each halving, up to 4x."""
    halvings = config.patch_size.bit_length() - 1
    return [config.conv_channels * min(2**level, 4) for level in range(halvings + 1)]


class CausalConvEncoder(nn.Module):
    """Video -> one vector a token."""

    def __init__(self, config: TokenizerConfig, video: VideoConfig) -> None:
        super().__init__()
        self.pixels = video.height * video.width
        widths = _widths(config)
        layers: list[nn.Module] = [CausalConv(3, widths[0])]
        for level, width in enumerate(widths):
            if level:
                layers.append(CausalConv(widths[level - 1], width, stride=2))
            layers += [ResidualBlock(width, width) for _ in range(config.conv_blocks)]
        self.layers = nn.ModuleList(layers)
        self.norm = FrameNorm(widths[-1])
        self.project = CausalConv(widths[-1], config.code_dim, 1, 1)

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,3) in [0, 1] -> (B,T,N,K)."""
        x_BCTYX = rearrange(2 * video_BTYXC - 1, "b t y x c -> b c t y x")
        for layer in self.layers:
            x_BCTYX = layer(x_BCTYX)
        return rearrange(self.project(self.norm(x_BCTYX)), "b k t y x -> b t (y x) k")

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2."""
        total, pixels = 0, frames * self.pixels
        for layer in self.layers:
            assert isinstance(layer, CausalConv | ResidualBlock)
            if isinstance(layer, CausalConv) and layer.conv.stride[1] == 2:
                pixels //= 4
            total += layer.flops(pixels)
        return total + self.project.flops(pixels)


class CausalConvDecoder(nn.Module):
    """One vector a token -> video."""

    def __init__(self, config: TokenizerConfig, video: VideoConfig) -> None:
        super().__init__()
        self.rows, self.columns = video.height // config.patch_size, video.width // config.patch_size
        widths = _widths(config)[::-1]
        layers: list[nn.Module] = [CausalConv(config.code_dim, widths[0])]
        for level, width in enumerate(widths):
            if level:
                layers.append(Upsample(widths[level - 1], width))
            layers += [ResidualBlock(width, width) for _ in range(config.conv_blocks)]
        self.layers = nn.ModuleList(layers)
        self.norm = FrameNorm(widths[-1])
        self.project = CausalConv(widths[-1], 3)

    def forward(self, vectors_BTNK: Tensor, cache: ConvCache | None = None, commit: bool = False) -> Tensor:
        """(B,T,N,K) -> logits (B,T,Y,X,3); with `cache` the frames after those in the cache."""
        x_BCTYX = rearrange(vectors_BTNK, "b t (y x) k -> b k t y x", y=self.rows)
        for layer in self.layers:
            x_BCTYX = layer(x_BCTYX, cache)
        x_BCTYX = self.norm(x_BCTYX)
        # In bf16 oneDNN gives NaN weight gradients for a convolution to so few channels (torch 2.13); pixels gain, too.
        with torch.autocast(x_BCTYX.device.type, enabled=False):
            x_BCTYX = self.project(x_BCTYX.to(self.project.conv.weight.dtype), cache)
        logits = rearrange(x_BCTYX, "b c t y x -> b t y x c")
        if cache is not None and commit:
            cache.commit(vectors_BTNK.shape[1])
        return logits

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2; cached frames cost nothing."""
        total, pixels = 0, frames * self.rows * self.columns
        for layer in self.layers:
            assert isinstance(layer, CausalConv | ResidualBlock | Upsample)
            if isinstance(layer, Upsample):
                pixels *= 4
            total += layer.flops(pixels)
        return total + self.project.flops(pixels)
