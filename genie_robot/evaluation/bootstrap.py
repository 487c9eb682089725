"""Hierarchical bootstrap of an agreement figure: policies are drawn first, then the starts (evaluation.md, 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Statistic = Callable[[np.ndarray, np.ndarray], float]
MIN_POLICIES = 6
"""With 5 policies or fewer there are too few distinct resamples: such an interval would mean nothing."""


def bootstrap_intervals(
    statistics: Mapping[str, Statistic],
    imagined: np.ndarray,
    ground_truth: np.ndarray,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    resample_policies: bool = True,
) -> dict[str, tuple[float, float]]:
    """Percentile interval of each `statistic(imagined rates, true rates)`, all from the same resamples.

    Outcomes have shape (policies, episodes) or (policies, tasks, episodes), paired by seed; NaN is an episode that does not
    count. Policies are resampled first, then the seeds of each task: all policies meet the same starts, so a start is drawn
    for all of them, in both worlds together. The tasks stay, they are part of the question. (NaN, NaN) for fewer than
    MIN_POLICIES policies, and where the statistic is undefined in more than half of the resamples.
    """
    a, b = _cells(imagined, ground_truth)
    nothing = dict.fromkeys(statistics, (float("nan"), float("nan")))
    if len(a) < MIN_POLICIES:
        return nothing
    rng = np.random.default_rng(seed)
    policies, tasks, _ = a.shape
    values: dict[str, list[float]] = {name: [] for name in statistics}
    for _ in range(draws):
        rows = rng.integers(policies, size=policies) if resample_policies else np.arange(policies)
        seeds = rng.integers(a.shape[2], size=a.shape[1:])
        index = rows[:, None, None], np.arange(tasks)[:, None], seeds
        x, y = _rates(a[index]), _rates(b[index])
        known = np.isfinite(x) & np.isfinite(y)
        for name, statistic in statistics.items():
            values[name].append(statistic(x[known], y[known]))
    return {name: _percentiles(np.asarray(drawn), confidence) for name, drawn in values.items()}


def bootstrap_interval(
    statistic: Statistic,
    imagined: np.ndarray,
    ground_truth: np.ndarray,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    resample_policies: bool = True,
) -> tuple[float, float]:
    """`bootstrap_intervals` of one statistic."""
    return bootstrap_intervals(
        {"": statistic},
        imagined,
        ground_truth,
        draws=draws,
        confidence=confidence,
        seed=seed,
        resample_policies=resample_policies,
    )[""]


def _cells(imagined: np.ndarray, ground_truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(imagined, dtype=np.float64), np.asarray(ground_truth, dtype=np.float64)
    if a.shape != b.shape or a.ndim not in (2, 3) or 0 in a.shape[1:]:
        raise ValueError(
            f"outcomes have shapes {a.shape} and {b.shape}; wanted two equal (policies, episodes) or "
            "(policies, tasks, episodes) with at least one episode"
        )
    return (a[:, None], b[:, None]) if a.ndim == 2 else (a, b)


def _rates(outcomes_PMK: np.ndarray) -> np.ndarray:
    """Mean over tasks of the mean over the episodes that count; NaN where a task has none."""
    counted = np.isfinite(outcomes_PMK)
    successes = np.where(counted, outcomes_PMK, 0.0).sum(axis=2)
    trials = counted.sum(axis=2)
    return np.where(trials > 0, successes / np.maximum(trials, 1), np.nan).mean(axis=1)


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[float, float]:
    finite = drawn[np.isfinite(drawn)]
    if 2 * len(finite) < len(drawn) or not len(finite):
        return float("nan"), float("nan")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return float(low), float(high)
