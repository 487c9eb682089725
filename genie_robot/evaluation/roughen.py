"""Spoil true frames as a small world model does, so that what is trained on them can read imagined ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CLEAN = 0.3
"""Share of images that are left as they are."""


def roughen(images_BCYX: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil float images (0..1); each one is left clean with probability CLEAN.

    Light and contrast shift, blur, 4x4 patches that lose part of their detail or take on a slightly wrong colour (as
    wrong tokens do), noise.
    """
    batch = len(images_BCYX)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    spoiled = torch.nonzero(draw(batch) >= CLEAN)[:, 0]
    if not len(spoiled):
        return images_BCYX
    count, (rows, columns) = len(spoiled), (size // 4 for size in images_BCYX.shape[2:])
    y = images_BCYX[spoiled] * (1.0 + 0.1 * (2 * draw(count, 3, 1, 1) - 1))
    y = y + 0.04 * (2 * draw(count, 1, 1, 1) - 1)
    soft = functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    y = torch.lerp(y, soft, draw(count, 1, 1, 1))
    flat = functional.avg_pool2d(y, 4) + 0.06 * (2 * draw(count, 3, rows, columns) - 1)
    patch = 0.7 * (draw(count, 1, rows, columns) < 0.25 * draw(count, 1, 1, 1)).float()
    flat, patch = (functional.interpolate(part, scale_factor=4.0) for part in (flat, patch))
    y = torch.lerp(y, flat, patch)
    y = y + 0.07 * draw(count, 1, 1, 1) * (2 * draw(*y.shape) - 1)
    return images_BCYX.index_copy(0, spoiled, y.clamp(0.0, 1.0))
