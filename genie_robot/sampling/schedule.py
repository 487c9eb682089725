"""How many tokens each MaskGIT pass reveals, and an order that spreads them over the frame."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from genie_robot.errors import ConfigError


def reveal_counts(num_tokens: int, steps: int, schedule: str = "cosine") -> list[int]:
    """Tokens revealed in each of `steps` passes; sums to `num_tokens`, at least one a pass.

    The share still hidden after a share r of the passes is cos(pi r / 2): few at first (MaskGIT, arXiv 2202.04200,
    section 3.3); or with "arccos" acos(r) 2 / pi: more at first, most at the end (arXiv 2503.17076).
    """
    if not 1 <= steps <= num_tokens:
        raise ConfigError(f"maskgit_steps: got {steps}, wanted 1 to {num_tokens} (the tokens of a frame)")
    counts, left = [], num_tokens
    for step in range(1, steps + 1):
        if schedule == "cosine":
            share = math.cos(math.pi / 2 * step / steps)
        else:
            share = math.acos(step / steps) * 2 / math.pi
        # One at least now, and one at least for each step to come.
        reveal = min(max(left - math.floor(num_tokens * share), 1), left - (steps - step))
        counts.append(reveal)
        left -= reveal
    counts[-1] += left
    return counts


@cache
def halton_ranks(rows: int, columns: int) -> np.ndarray:
    """When each cell of a grid is revealed, (rows * columns,) int64 ranks from 0: any cells that follow each other lie apart.

    The Halton sequence (bases 2 and 3) visits the cells; each counts at its first visit (arXiv 2503.17076, for
    grids of any shape).
    """
    # Columns and rows hold whole intervals of 1 / 2^a and 1 / 3^b, and 2^a 3^b points meet each pair of those once.
    twos = 2 ** (math.ceil(math.log2(columns)) + 1)
    threes = 3 ** (math.ceil(math.log(rows, 3)) + 1)
    points = np.arange(1, twos * threes + 1)
    cells = (_radical_inverse(points, 3) * rows).astype(np.int64) * columns
    cells += (_radical_inverse(points, 2) * columns).astype(np.int64)
    visited, first = np.unique(cells, return_index=True)
    assert len(visited) == rows * columns, (rows, columns)
    return first.argsort().argsort()


def _radical_inverse(numbers: np.ndarray, base: int) -> np.ndarray:
    """The digits of each number in `base`, mirrored at the point: 6 = 110 in base 2 becomes 0.011 = 3/8."""
    left, scale, result = numbers, 1 / base, np.zeros(len(numbers))
    while left.any():
        result += left % base * scale
        left, scale = left // base, scale / base
    return result
