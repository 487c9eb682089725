"""Networks that are given rows of a batch, with results that do not depend on who shares it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

BLOCK = 8


def in_blocks(network: Callable[..., np.ndarray], images_BYXC: np.ndarray, *more: np.ndarray) -> np.ndarray:
    """Outputs (B, ...) of a network that is given `BLOCK` images (and rows of `more`) at a time, the last ones repeated.

    Kernels are chosen by batch size, and differ in the last bits. At one size an image's output does not depend on
    whom it shares the batch with, so that an episode run alone is the episode run among others, bit for bit.
    """
    arrays = (images_BYXC, *more)
    parts = []
    for start in range(0, len(images_BYXC), BLOCK):
        rows = np.minimum(np.arange(start, start + BLOCK), len(images_BYXC) - 1)
        parts.append(network(*(array[rows] for array in arrays))[: len(images_BYXC) - start])
    return np.concatenate(parts)
