"""Frames to patches and back. Shapes: B batch, T frames, Y X pixels, C channels, N patches, P patch values."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor


def patchify(video_BTYXC: Tensor, patch: int) -> Tensor:
    """Cut frames into square patches: (B,T,Y,X,C) -> (B,T,N,P), N row by row, P = patch * patch * C."""
    return rearrange(video_BTYXC, "b t (h p) (w q) c -> b t (h w) (p q c)", p=patch, q=patch)


def unpatchify(patches_BTNP: Tensor, patch: int, height: int) -> Tensor:
    """Inverse of `patchify`; `height` in pixels fixes the grid."""
    return rearrange(
        patches_BTNP, "b t (h w) (p q c) -> b t (h p) (w q) c", h=height // patch, p=patch, q=patch
    )
