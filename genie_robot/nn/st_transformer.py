"""The spatiotemporal transformer (Genie, section 2.1): per block spatial attention, causal temporal attention, one FFN.

Two other kinds of attention serve the paper's comparison of tokenizers (its Table 3): frames alone (ViT) and every
token to all tokens of its own and earlier frames (C-ViViT).

Shapes: B batch, T frames, N tokens per frame (extra tokens first, then Y' * X' patches row by row), D width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import TransformerConfig
from genie_robot.nn.attention import FullAttention, SpatialAttention, TemporalAttention, mask_tokens
from genie_robot.nn.cache import LayerCache, TemporalCache, causal_mask
from genie_robot.nn.flops import product_flops


class FeedForward(nn.Module):
    """Linear, squared ReLU, linear."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Applied to the last axis."""
        return self.down(F.relu(self.up(x)).square())

    def flops(self, rows: int) -> int:
        """Multiply-adds x 2."""
        return product_flops(self.up, rows) + product_flops(self.down, rows)


class LocalConv(nn.Module):
    """3x3 depthwise convolution among the patches of one frame: the motion prior of small models."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D); tokens before those of the grid have no place in it and get 0."""
        extra = x_BTND.shape[2] - self.grid[0] * self.grid[1]
        frames = rearrange(x_BTND[:, :, extra:], "b t (h w) d -> (b t) d h w", h=self.grid[0])
        mixed = rearrange(self.conv(frames), "(b t) d h w -> b t (h w) d", t=x_BTND.shape[1])
        return F.pad(mixed, (0, 0, extra, 0)) if extra else mixed

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2."""
        return product_flops(self.conv, frames * self.grid[0] * self.grid[1])


class Norm(nn.LayerNorm):
    """LayerNorm; with `conditioned` its result is scaled and shifted by a projection of a condition (adaLN).

    The projection starts at zero (DiT, arXiv 2212.09748), so a new norm is a plain one.
    """

    def __init__(self, dim: int, conditioned: bool) -> None:
        super().__init__(dim)
        self.modulate = nn.Linear(dim, 2 * dim) if conditioned else None
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(self, x_BTND: Tensor, condition_BTD: Tensor | None = None) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D); the condition of a frame is that of all its tokens."""
        x_BTND = super().forward(x_BTND)
        if self.modulate is None or condition_BTD is None:
            return x_BTND
        scale, shift = self.modulate(condition_BTD)[:, :, None].chunk(2, dim=-1)
        return x_BTND * (1 + scale) + shift


class STBlock(nn.Module):
    """Pre-norm block: space, time, FFN. Output projections start at zero, so a new block is the identity.

    `config.attention` says what "space" and "time" are: "space_time" has both; "space" has no attention through
    time; "full" has one attention in place of both.
    """

    def __init__(self, config: TransformerConfig, grid: tuple[int, int], conditioned: bool = False) -> None:
        super().__init__()
        dim, heads, kind = config.dim, config.num_heads, config.attention
        self.space = self.time = None
        if kind != "full":
            self.norm_space = Norm(dim, conditioned)
            self.space = SpatialAttention(dim, heads)
            nn.init.zeros_(self.space.out.weight)
        if kind != "space":
            self.norm_time = Norm(dim, conditioned)
            self.time = FullAttention(dim, heads) if kind == "full" else TemporalAttention(dim, heads)
            nn.init.zeros_(self.time.out.weight)
        self.norm_ffn = Norm(dim, conditioned)
        self.ffn = FeedForward(dim, config.ffn_ratio)
        nn.init.zeros_(self.ffn.down.weight)
        self.local = LocalConv(dim, grid) if config.local_conv else None

    def forward(
        self,
        x_BTND: Tensor,
        mask: Tensor | None,
        condition_BTD: Tensor | None = None,
        cache: LayerCache | None = None,
        past: int = 0,
    ) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D). `mask` as the attention through time wants it; `past` frames are in `cache`."""
        if self.local is not None:
            x_BTND = x_BTND + self.local(x_BTND)
        if self.space is not None:
            x_BTND = x_BTND + self.space(self.norm_space(x_BTND, condition_BTD))
        if self.time is not None:
            x_BTND = x_BTND + self.time(self.norm_time(x_BTND, condition_BTD), mask, cache, past)
        return x_BTND + self.ffn(self.norm_ffn(x_BTND, condition_BTD))

    def flops(self, frames: int, num_tokens: int, past: int) -> int:
        """Multiply-adds x 2 of `frames` frames of `num_tokens` tokens after `past` cached ones."""
        queries, seen = frames * num_tokens, past + frames
        total = self.ffn.flops(queries)
        if self.local is not None:
            total += self.local.flops(frames)
        if self.space is not None:
            total += self.space.flops(queries, num_tokens)
        if self.time is not None:
            full = isinstance(self.time, FullAttention)
            total += self.time.flops(queries, seen * num_tokens if full else seen)
        modulations = (part.modulate for part in self.children() if isinstance(part, Norm))
        return total + sum(product_flops(layer, frames) for layer in modulations if layer is not None)


class STTransformer(nn.Module):
    """Positions, blocks and a final norm. Causal in time.

    Args:
        config: size and kind of the blocks.
        grid: rows and columns of the patches of a frame.
        max_frames: frames in a window.
        extra_tokens: tokens of each frame that are no patches. They come first among its N tokens.
        conditioned: whether each block's norms are scaled and shifted by a condition (adaLN).
    """

    def __init__(
        self,
        config: TransformerConfig,
        grid: tuple[int, int],
        max_frames: int,
        *,
        extra_tokens: int = 0,
        conditioned: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.max_frames = max_frames
        self.conditioned = conditioned
        num_tokens = extra_tokens + grid[0] * grid[1]
        self.position_space_ND = nn.Parameter(0.02 * torch.randn(num_tokens, config.dim))
        # A frame that is seen alone looks the same wherever it stands in the clip.
        self.position_time_TD = (
            nn.Parameter(0.02 * torch.randn(max_frames, config.dim)) if config.attention != "space" else None
        )
        self.blocks = nn.ModuleList(STBlock(config, grid, conditioned) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)

    def new_cache(self) -> TemporalCache:
        """An empty cache for this stack."""
        return TemporalCache(len(self.blocks), self.max_frames)

    def forward(
        self,
        x_BTND: Tensor,
        *,
        condition_BTD: Tensor | None = None,
        frame_index_T: Tensor | None = None,
        mask_TS: Tensor | None = None,
        cache: TemporalCache | None = None,
        commit: bool = False,
    ) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D).

        Without further arguments: frames 0..T-1, causal. With `cache`: the frames after those in the cache;
        `commit` adds them to it. `frame_index_T` and `mask_TS` (True = may attend) replace both defaults.
        `condition_BTD` must be given to a conditioned stack, and to no other.
        """
        assert self.conditioned == (condition_BTD is not None), self.conditioned
        past = 0 if cache is None else cache.length
        frames, num_tokens = x_BTND.shape[1:3]
        if frame_index_T is None:
            assert past + frames <= self.max_frames, (past, frames, self.max_frames)
            frame_index_T = torch.arange(past, past + frames, device=x_BTND.device)
            mask_TS = causal_mask(frames, past, x_BTND.device)
        mask = mask_TS
        if mask_TS is not None and self.config.attention == "full":
            mask = mask_tokens(mask_TS, num_tokens)
        x_BTND = x_BTND + self.position_space_ND
        if self.position_time_TD is not None:
            x_BTND = x_BTND + self.position_time_TD[frame_index_T][:, None]
        for index, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[index]
            x_BTND = block(x_BTND, mask, condition_BTD, layer, past)
        if cache is not None and commit:
            cache.length = past + frames
        return self.norm(x_BTND)

    def flops(self, frames: int, past: int = 0) -> int:
        """Multiply-adds x 2 of one clip's `frames` new frames after `past` cached ones, attention included."""
        num_tokens = len(self.position_space_ND)
        return sum(
            block.flops(frames, num_tokens, past) for block in self.blocks if isinstance(block, STBlock)
        )
