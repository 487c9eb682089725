"""The spatiotemporal transformer (Genie, section 2.1): per block spatial attention, causal temporal attention, one FFN.

Shapes: B batch, T frames, N tokens per frame (N = Y' * X' patches), D width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import TransformerConfig
from genie_robot.nn.attention import SpatialAttention, TemporalAttention
from genie_robot.nn.cache import LayerCache, TemporalCache, causal_mask


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


class LocalConv(nn.Module):
    """3x3 depthwise convolution among the patches of one frame: the motion prior of small models."""

    def __init__(self, dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D)."""
        frames = rearrange(x_BTND, "b t (h w) d -> (b t) d h w", h=self.grid[0])
        return rearrange(self.conv(frames), "(b t) d h w -> b t (h w) d", t=x_BTND.shape[1])


class STBlock(nn.Module):
    """Pre-norm block: space, time, FFN. Output projections start at zero, so a new block is the identity."""

    def __init__(self, config: TransformerConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        dim = config.dim
        self.norm_space, self.norm_time, self.norm_ffn = (nn.LayerNorm(dim) for _ in range(3))
        self.space = SpatialAttention(dim, config.num_heads)
        self.time = TemporalAttention(dim, config.num_heads)
        self.ffn = FeedForward(dim, config.ffn_ratio)
        self.local = LocalConv(dim, grid) if config.local_conv else None
        for projection in (self.space.out, self.time.out, self.ffn.down):
            nn.init.zeros_(projection.weight)

    def forward(
        self, x_BTND: Tensor, mask_TS: Tensor | None, cache: LayerCache | None = None, commit: bool = False
    ) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D)."""
        if self.local is not None:
            x_BTND = x_BTND + self.local(x_BTND)
        x_BTND = x_BTND + self.space(self.norm_space(x_BTND))
        x_BTND = x_BTND + self.time(self.norm_time(x_BTND), mask_TS, cache, commit)
        return x_BTND + self.ffn(self.norm_ffn(x_BTND))


class STTransformer(nn.Module):
    """Positions, blocks and a final norm. Causal in time."""

    def __init__(self, config: TransformerConfig, grid: tuple[int, int], max_frames: int) -> None:
        super().__init__()
        self.config = config
        self.max_frames = max_frames
        num_tokens = grid[0] * grid[1]
        self.position_space_ND = nn.Parameter(0.02 * torch.randn(num_tokens, config.dim))
        self.position_time_TD = nn.Parameter(0.02 * torch.randn(max_frames, config.dim))
        self.blocks = nn.ModuleList(STBlock(config, grid) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)

    def new_cache(self) -> TemporalCache:
        """An empty cache for this stack."""
        return TemporalCache(len(self.blocks), self.max_frames)

    def forward(
        self,
        x_BTND: Tensor,
        *,
        frame_index_T: Tensor | None = None,
        mask_TS: Tensor | None = None,
        cache: TemporalCache | None = None,
        commit: bool = False,
    ) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D).

        Without further arguments: frames 0..T-1, causal. With `cache`: the frames after those in the cache;
        `commit` adds them to it. `frame_index_T` and `mask_TS` (True = may attend) replace both defaults.
        """
        past = 0 if cache is None else cache.length
        frames = x_BTND.shape[1]
        if frame_index_T is None:
            assert past + frames <= self.max_frames, (past, frames, self.max_frames)
            frame_index_T = torch.arange(past, past + frames, device=x_BTND.device)
            mask_TS = causal_mask(frames, past, x_BTND.device)
        x_BTND = x_BTND + self.position_space_ND + self.position_time_TD[frame_index_T][:, None]
        for index, block in enumerate(self.blocks):
            x_BTND = block(x_BTND, mask_TS, None if cache is None else cache.layers[index], commit)
        return self.norm(x_BTND)
