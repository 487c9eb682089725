"""Labelled transitions that the tests of action interfaces share, and the spaces of their labels."""

from __future__ import annotations

import numpy as np

from genie_robot.simulation.interfaces import (
    LatentSpace,
    Transitions,
)

DIM = 8


def make_transitions(count: int, seed: int = 0, *, by_image: bool = False) -> Transitions:
    """The first level's code says which half of x, y and z an action has; with `by_image`, bright pictures mirror it."""
    rng = np.random.default_rng(seed)
    actions_NA = np.zeros((count, 7), np.float32)
    actions_NA[:, :3] = rng.uniform(0.2, 1, (count, 3)) * rng.choice([-1, 1], (count, 3))
    bright_N = rng.random(count) < 0.5
    pattern_YXC = np.random.default_rng(9).integers(0, 90, (32, 32, 3)).astype(np.uint8)
    images_NYXC = pattern_YXC + np.where(bright_N, 150, 0).astype(np.uint8)[:, None, None, None]
    seen_N3 = np.where(bright_N[:, None] & by_image, -1, 1) * actions_NA[:, :3]
    codes_NL = np.stack([(seen_N3 > 0) @ [1, 2, 4], (np.abs(seen_N3) > 0.6) @ [1, 2, 4]], axis=1)
    vectors_NK = np.concatenate([0.1 * seen_N3, np.zeros((count, DIM - 3))], axis=1).astype(np.float32)
    return Transitions(images_NYXC, actions_NA, rng.random(count) < 0.5, codes_NL, vectors_NK)


ONE, TWO, VECTORS = LatentSpace(8, 1, DIM), LatentSpace(8, 2, DIM), LatentSpace(0, 0, DIM)
