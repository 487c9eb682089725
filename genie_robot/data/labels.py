"""Robot actions of a few episodes, kept beside the frames of a clip cache: which episodes, the file, its statistics.

Shapes: T frames of an episode, F frames of a cache, A numbers of a robot action.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from genie_robot.errors import ConfigError


def is_labelled(source: str, share: float) -> bool:
    """Whether the episode `source` (dataset/split/number) is one of the `share` whose actions are read.

    Depends on nothing but the two, and a larger share contains a smaller one.
    """
    place = int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big")
    return place < share * 2**64


def write_labels(
    path: Path, actions: Mapping[int, np.ndarray], num_frames: int, share: float
) -> dict[str, list[float]]:
    """Write `actions`, (T,A) by the number of their first frame, as float32 (F,A); returns mean and deviation (A,).

    Frames of other episodes, and the last frame of each (no frame follows it), are NaN. A number that never changes
    gets deviation 1. ConfigError when no step is labelled.
    """
    steps = sum(len(rows) - 1 for rows in actions.values() if len(rows))
    if steps < 1:
        raise ConfigError(
            f"label_share: got {share}, which chooses {len(actions)} episode(s) with {steps} steps; wanted a larger share"
        )
    labels_FA = np.full((num_frames, next(iter(actions.values())).shape[1]), np.nan, np.float32)
    for first, rows_TA in actions.items():
        labels_FA[first : first + len(rows_TA) - 1] = rows_TA[:-1]
    labels_FA.tofile(path)
    known = labels_FA[~np.isnan(labels_FA).any(axis=1)].astype(np.float64)
    deviation = known.std(axis=0)
    return {
        "mean": known.mean(axis=0).tolist(),
        "deviation": np.where(deviation > 1e-6, deviation, 1.0).tolist(),
    }
