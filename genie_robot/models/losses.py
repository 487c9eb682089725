"""Pixel losses. Shapes: B batch, T frames, Y X pixels, C channels."""

from __future__ import annotations

import torch
from torch import Tensor


def change_weights(
    video_BTYXC: Tensor, before_BTYXC: Tensor, weight: float, threshold: float = 0.04
) -> Tensor:
    """Per-pixel weights (B,T,Y,X,1) of mean 1 a frame: pixels that changed since `before` weigh `1 + weight`.

    Normalised frame by frame, so that a gripper that closes counts as much as an arm that sweeps.
    """
    changed = (video_BTYXC - before_BTYXC).abs().amax(-1, keepdim=True) > threshold
    weights = 1 + weight * changed.to(video_BTYXC.dtype)
    return weights / weights.mean(dim=(2, 3), keepdim=True)


def frame_change_weights(video_BTYXC: Tensor, weight: float) -> Tensor:
    """`change_weights` against the frame before; the first frame is compared with the second."""
    before = torch.cat([video_BTYXC[:, 1:2], video_BTYXC[:, :-1]], dim=1)
    return change_weights(video_BTYXC, before, weight)
