"""How well success rates in imagination agree with those in MuJoCo.

Formulas and test vectors: evaluation.md, sections 1.1 and 2. A rate vector has one entry for each policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

Floats = Sequence[float] | np.ndarray


def _vectors(x: Floats, y: Floats) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"rates have shapes {a.shape} and {b.shape}; wanted two vectors of one length")
    return a, b


def _z(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; wanted a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def pearson_r(x: Floats, y: Floats) -> float:
    """Pearson correlation of two vectors; NaN for fewer than two entries or when one vector is constant."""
    a, b = _vectors(x, y)
    if len(a) < 2 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def ranks(x: Floats) -> np.ndarray:
    """Ranks from 1, ties share their mean rank; shape (n,)."""
    values = np.asarray(x, dtype=np.float64)
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse.reshape(-1)]


def spearman_rho(x: Floats, y: Floats) -> float:
    """Spearman rank correlation (Pearson r of the ranks, ties averaged); NaN as for `pearson_r`."""
    a, b = _vectors(x, y)
    return pearson_r(ranks(a), ranks(b))


def mmrv(*, imagined: Floats, ground_truth: Floats) -> float:
    """Mean maximum rank violation of SIMPLER (arXiv 2405.05941), in 0..1, lower is better.

    The weight of a violated pair is the gap of the *ground truth*, so the two arguments must not be swapped; they are
    keyword-only for that reason. A tie on one side only is a violation (strict comparison, as in SIMPLER's code).
    """
    s, r = _vectors(imagined, ground_truth)
    if len(s) == 0:
        return float("nan")
    violated = (s[:, None] > s[None, :]) != (r[:, None] > r[None, :])
    gaps = np.abs(r[:, None] - r[None, :]) * violated
    return float(gaps.max(axis=1).mean())


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate; (0, 1) when there are no trials."""
    if trials < 0 or not 0 <= successes <= max(trials, 0):
        raise ValueError(f"{successes} successes of {trials} trials; wanted 0 <= successes <= trials")
    if trials == 0:
        return 0.0, 1.0
    z, p = _z(confidence), successes / trials
    scale = 1.0 + z * z / trials
    middle = (p + z * z / (2 * trials)) / scale
    half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / scale
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return float(low), float(high)


def fisher_interval(r: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Fisher-z interval of a Pearson r over n policies; (-1, 1) for n <= 3 or an undefined r."""
    if n <= 3 or not np.isfinite(r):
        return -1.0, 1.0
    if abs(r) >= 1.0:
        return float(r), float(r)
    centre, half = np.arctanh(r), _z(confidence) / np.sqrt(n - 3)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def bootstrap_interval(
    statistic: Callable[[np.ndarray, np.ndarray], float],
    imagined_PK: np.ndarray,
    ground_truth_PK: np.ndarray,
    *,
    draws: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    resample_policies: bool = True,
) -> tuple[float, float]:
    """Hierarchical bootstrap interval of `statistic(imagined rates, true rates)`.

    Outcomes have shape (policies, episodes), paired by seed. Policies are resampled first, then the seeds within a
    policy (both worlds together). Returns (NaN, NaN) for 5 policies or fewer, where such an interval means nothing.
    """
    a, b = np.asarray(imagined_PK, dtype=np.float64), np.asarray(ground_truth_PK, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(
            f"outcomes have shapes {a.shape} and {b.shape}; wanted two equal (policies, episodes)"
        )
    if len(a) <= 5:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    policies, episodes = a.shape
    values = []
    for _ in range(draws):
        rows = rng.integers(policies, size=policies) if resample_policies else np.arange(policies)
        seeds = rng.integers(episodes, size=(policies, episodes))
        index = rows[:, None], seeds
        values.append(statistic(a[index].mean(axis=1), b[index].mean(axis=1)))
    finite = np.asarray(values)[np.isfinite(values)]
    if len(finite) < draws // 2:
        return float("nan"), float("nan")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    return float(low), float(high)


def drop_one_range(x: Floats, y: Floats) -> tuple[float, float]:
    """Smallest and largest Pearson r when any single policy is left out; NaNs for fewer than 3 policies."""
    a, b = _vectors(x, y)
    values = [pearson_r(np.delete(a, k), np.delete(b, k)) for k in range(len(a))] if len(a) >= 3 else []
    values = [v for v in values if np.isfinite(v)]
    return (min(values), max(values)) if values else (float("nan"), float("nan"))


@dataclass(frozen=True)
class NoiseCeiling:
    """Median agreement that a *perfect* evaluator would show, given only the noise of finitely many episodes."""

    pearson_r: float
    spearman_rho: float
    mmrv: float
    trials: int
    paired: float


def noise_ceiling(
    true_rates: Floats, trials: int, *, paired: float = 0.0, draws: int = 500, seed: int = 0
) -> NoiseCeiling:
    """Median r, rho, MMRV between two worlds that have the *same* true success rates and `trials` episodes each.

    paired: share of episodes whose outcome is the same in both worlds because both start from the same state with the
    same policy noise; the others are drawn independently. 0 is the ceiling for independent seeds.
    """
    rates = np.clip(np.asarray(true_rates, dtype=np.float64), 0.0, 1.0)
    if trials < 1 or not 0.0 <= paired <= 1.0:
        raise ValueError(f"trials is {trials} and paired {paired}; wanted trials >= 1 and paired in 0..1")
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        shape = (len(rates), trials)
        truth = rng.random(shape) < rates[:, None]
        fresh = rng.random(shape) < rates[:, None]
        other = np.where(rng.random(shape) < paired, truth, fresh)
        s, r = other.mean(axis=1), truth.mean(axis=1)
        rows.append((pearson_r(s, r), spearman_rho(s, r), mmrv(imagined=s, ground_truth=r)))
    values = np.asarray(rows)
    medians = [
        float(np.median(c[np.isfinite(c)])) if np.isfinite(c).any() else float("nan") for c in values.T
    ]
    return NoiseCeiling(medians[0], medians[1], medians[2], trials, paired)


def cohen_kappa(x: Sequence[bool] | np.ndarray, y: Sequence[bool] | np.ndarray) -> float:
    """Cohen's kappa of two paired outcome lists; NaN when chance agreement is already 1 (both constant and equal)."""
    a, b = np.asarray(x, dtype=bool), np.asarray(y, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"outcomes have shapes {a.shape} and {b.shape}; wanted two vectors of one length")
    if len(a) == 0:
        return float("nan")
    observed = float((a == b).mean())
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return float("nan") if chance == 1.0 else (observed - chance) / (1.0 - chance)


def normalised_mutual_information(
    codes: Sequence[int] | np.ndarray, labels: Sequence[int] | np.ndarray
) -> float:
    """Mutual information of two label lists divided by the mean of their entropies, in 0..1.

    Same normalisation as scikit-learn's default ("arithmetic"); 0 when either list is constant.
    """
    a, b = np.asarray(codes).reshape(-1), np.asarray(labels).reshape(-1)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} codes and {len(b)} labels; wanted one label for each code")
    if len(a) == 0:
        return 0.0
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1.0 / len(a))
    p, q = joint.sum(axis=1), joint.sum(axis=0)
    used = joint > 0
    information = float((joint[used] * np.log(joint[used] / np.outer(p, q)[used])).sum())
    entropies = -float((p * np.log(p)).sum()) - float((q * np.log(q)).sum())
    return 0.0 if entropies <= 0.0 else max(0.0, 2.0 * information / entropies)
