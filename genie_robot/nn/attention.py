"""Attention within a frame, through time, or both at once, with QK-norm.

Shapes: B batch, T new frames, S frames attended to (past ones of the cache first), N tokens, D width, H heads,
E head width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.nn.cache import LayerCache
from genie_robot.nn.flops import product_flops


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention over the last two axes; `mask` is True where attention is allowed.

    On CPU in bf16 the plain products are 6 to 14 times faster than torch's fused kernel
    (forward and backward), elsewhere the fused kernel wins.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class Attention(nn.Module):
    """Multi-head projections with QK-norm, shared by all kinds."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        head = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.scale_q = nn.Parameter(torch.ones(head))
        self.scale_k = nn.Parameter(torch.ones(head))

    def project(self, x_BTND: Tensor, layout: str) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised q and k, and v, rearranged to `layout` (an einops pattern of b t n h e)."""
        q, k, v = (
            rearrange(part, f"b t n (h e) -> {layout}", h=self.num_heads)
            for part in self.qkv(x_BTND).chunk(3, dim=-1)
        )
        return _rms_norm(q, self.scale_q), _rms_norm(k, self.scale_k), v

    def flops(self, queries: int, keys: int) -> int:
        """Multiply-adds x 2 of `queries` tokens that attend to `keys` tokens each (masked ones are computed too)."""
        projections = product_flops(self.qkv, queries) + product_flops(self.out, queries)
        return projections + 4 * queries * keys * self.out.in_features


def _rms_norm(x: Tensor, scale_E: Tensor) -> Tensor:
    # Same type for both, else torch leaves its fused kernel (which sums in fp32).
    return F.rms_norm(x, scale_E.shape, scale_E.to(x.dtype), eps=1e-6)


class SpatialAttention(Attention):
    """Attention among the tokens of one frame."""

    def forward(self, x_BTND: Tensor) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D); frames do not see each other."""
        q, k, v = self.project(x_BTND, "(b t) h n e")
        return self.out(rearrange(attend(q, k, v), "(b t) h n e -> b t n (h e)", t=x_BTND.shape[1]))


class TemporalAttention(Attention):
    """Attention of a token to the same place in other frames."""

    def forward(
        self, x_BTND: Tensor, mask_TS: Tensor | None, cache: LayerCache | None = None, past: int = 0
    ) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D). `past`: finished frames in `cache`, the first ones of S."""
        q, k, v = self.project(x_BTND, "b n h t e")
        if cache is not None:
            k, v = cache.extend(k, v, past)
        # Fused kernels want 4 axes; places and heads are both batch here.
        out = attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask_TS)
        return self.out(rearrange(out, "(b n) h t e -> b t n (h e)", n=x_BTND.shape[2]))


class FullAttention(Attention):
    """Attention of a token to every token of its own and earlier frames (block-causal; C-ViViT)."""

    def forward(
        self, x_BTND: Tensor, mask_LM: Tensor | None, cache: LayerCache | None = None, past: int = 0
    ) -> Tensor:
        """(B,T,N,D) -> (B,T,N,D). `mask_LM`: L = T * N queries by M = S * N keys; see `mask_tokens`."""
        q, k, v = self.project(x_BTND, "b n h t e")
        if cache is not None:
            k, v = cache.extend(k, v, past)
        q, k, v = (rearrange(part, "b n h t e -> b h (t n) e") for part in (q, k, v))
        return self.out(rearrange(attend(q, k, v, mask_LM), "b h (t n) e -> b t n (h e)", n=x_BTND.shape[2]))


def mask_tokens(mask_TS: Tensor, num_tokens: int) -> Tensor:
    """A mask between frames as one between all their tokens: (T,S) -> (T * N, S * N)."""
    return mask_TS.repeat_interleave(num_tokens, 0).repeat_interleave(num_tokens, 1)
