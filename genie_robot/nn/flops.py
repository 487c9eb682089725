"""Counting floating-point operations: a multiply-add is 2, norms and activations are left out."""

from __future__ import annotations

from torch import nn


def product_flops(layer: nn.Linear | nn.Conv2d | nn.Conv3d, outputs: int) -> int:
    """Of a layer that computes `outputs` rows or pixels: each meets every weight once, groups included."""
    return 2 * outputs * layer.weight.numel()
