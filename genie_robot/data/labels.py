"""Robot actions of a few episodes, kept beside the frames of a clip cache: which episodes, and how they are standardised."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from genie_robot.data.actions import ActionStatistics
from genie_robot.errors import ConfigError


def is_labelled(source: str, share: float) -> bool:
    """Whether the episode `source` (dataset/split/number) is one of the `share` whose actions are read.

    Depends on nothing but the two, and a larger share contains a smaller one.
    """
    place = int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big")
    return place < share * 2**64


def statistics(labels_FA: np.ndarray, share: float) -> ActionStatistics:
    """Statistics of the labelled steps (rows without NaN); mean and deviation are those after `limited`.

    ConfigError when no step is labelled.
    """
    known = labels_FA[~np.isnan(labels_FA).any(axis=1)]
    if not len(known):
        raise ConfigError(
            f"label_share: got {share}, which labels no step of this dataset; wanted a larger share"
        )
    raw = ActionStatistics.of(known)
    usual = limited(known.astype(np.float64), raw)
    return replace(raw, mean=usual.mean(axis=0), deviation=usual.std(axis=0))


def limited(actions_TA: np.ndarray, given: ActionStatistics) -> np.ndarray:
    """Motions cut to their 1 % and 99 % quantiles: raw logs hold steps of metres. Not the gripper, which moves rarely."""
    low_A, high_A = given.q01.copy(), given.q99.copy()
    low_A[-1], high_A[-1] = -np.inf, np.inf
    return np.clip(actions_TA, low_A, high_A)


def standardised(actions_TA: np.ndarray, given: ActionStatistics) -> np.ndarray:
    """Actions (T, A) -> float32 with mean 0 and deviation 1 over the labelled steps; a number that never changes is 0."""
    deviation_A = np.where(given.deviation > 1e-6, given.deviation, 1.0)
    return ((limited(actions_TA, given) - given.mean) / deviation_A).astype(np.float32)


def pooled(parts: Sequence[ActionStatistics]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (A,) of the labelled steps of several datasets, each dataset counted alike."""
    means, deviations = (np.stack([getattr(part, name) for part in parts]) for name in ("mean", "deviation"))
    return means.mean(axis=0), np.sqrt((deviations**2).mean(axis=0) + means.var(axis=0))
