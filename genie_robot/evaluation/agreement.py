"""How well success rates in imagination agree with those in MuJoCo.

Formulas and test vectors: evaluation.md, sections 1.1 and 2. A rate vector has one entry for each policy; the unit is the
independently made policy, not the checkpoint and not the task.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genie_robot.evaluation.bootstrap import bootstrap_interval
from genie_robot.evaluation.intervals import fisher_interval, wilson_interval

__all__ = [
    "GATE_MMRV",
    "GATE_R",
    "NoiseCeiling",
    "bootstrap_interval",
    "cohen_kappa",
    "drop_one_range",
    "fisher_interval",
    "mmrv",
    "noise_ceiling",
    "normalised_mutual_information",
    "paired_agreement",
    "pairs_ranked",
    "passes_gate",
    "pearson_r",
    "permutation_p",
    "ranks",
    "spearman_rho",
    "wilson_interval",
]

Floats = Sequence[float] | np.ndarray
Bools = Sequence[bool] | np.ndarray
GATE_R, GATE_MMRV = 0.98, 0.03
"""An action interface below these (perfect dynamics) is not to be scored with (evaluation.md, section 4.3)."""
_EXACT_UP_TO = 8  # policies: 8! = 40320 permutations are all looked at, beyond that a sample of them
_TIE, _DIGITS = 1e-9, 9  # rates are counts divided by counts: differences below this are rounding


def _vectors(x: Floats, y: Floats) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"rates have shapes {a.shape} and {b.shape}; wanted two vectors of one length")
    return a, b


def _outcomes(x: Bools, y: Bools) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, dtype=bool), np.asarray(y, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"outcomes have shapes {a.shape} and {b.shape}; wanted two vectors of one length")
    return a, b


def pearson_r(x: Floats, y: Floats) -> float:
    """Pearson correlation of two vectors; NaN for fewer than two entries or when one vector is constant."""
    a, b = _vectors(x, y)
    # Means of equal rates differ in the last digit: that is no variation.
    if len(a) < 2 or any(np.ptp(v) <= _TIE * np.abs(v).max() for v in (a, b)):
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
    return pearson_r(ranks(a.round(_DIGITS)), ranks(b.round(_DIGITS)))


def mmrv(*, imagined: Floats, ground_truth: Floats) -> float:
    """Mean maximum rank violation of SIMPLER (arXiv 2405.05941), in 0..1, lower is better.

    The weight of a violated pair is the gap of the *ground truth*, so the two arguments must not be swapped; they are
    keyword-only for that reason. A tie on one side only is a violation (strict comparison, as in SIMPLER's code).
    """
    s, r = _vectors(imagined, ground_truth)
    if len(s) == 0:
        return float("nan")
    violated = (s[:, None] - s[None, :] > _TIE) != (r[:, None] - r[None, :] > _TIE)
    gaps = np.abs(r[:, None] - r[None, :]) * violated
    return float(gaps.max(axis=1).mean())


def pairs_ranked(*, imagined: Floats, ground_truth: Floats, gap: float = 0.10) -> tuple[int, int]:
    """(pairs in the right order, pairs) among the pairs whose true rates differ by `gap` or more; a tie is wrong."""
    s, r = _vectors(imagined, ground_truth)
    first, second = np.triu_indices(len(r), k=1)
    true_gap, seen_gap = r[first] - r[second], s[first] - s[second]
    counted = np.abs(true_gap) >= gap - _TIE
    right = (seen_gap * np.sign(true_gap))[counted] > _TIE
    return int(right.sum()), int(counted.sum())


def drop_one_range(x: Floats, y: Floats, families: Sequence[str] | None = None) -> tuple[float, float]:
    """Smallest and largest Pearson r when any single policy is left out; NaNs for fewer than 3 policies.

    NaNs also where r is undefined without one of them: all of the agreement hung on that one. families: the family of each
    policy; then a whole family is left out at a time.
    """
    a, b = _vectors(x, y)
    names = np.arange(len(a)) if families is None else np.asarray(families)
    if names.shape != a.shape:
        raise ValueError(
            f"families have shape {names.shape}, rates {a.shape}; wanted one family for each rate"
        )
    kept = [names != name for name in np.unique(names)] if len(a) >= 3 else []
    values = [pearson_r(a[k], b[k]) for k in kept]
    defined = bool(values) and bool(np.isfinite(values).all())
    return (min(values), max(values)) if defined else (float("nan"), float("nan"))


def permutation_p(x: Floats, y: Floats, *, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided permutation p-value of Pearson r: how often a random assignment of rates to policies agrees so well.

    All permutations for 8 policies or fewer; else `draws` random ones, counted with the observed one so that p is never
    0. NaN where r is undefined.
    """
    a, b = _vectors(x, y)
    if not math.isfinite(pearson_r(a, b)):
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    observed = abs(a @ b) - _TIE * math.sqrt((a @ a) * (b @ b))
    if len(a) <= _EXACT_UP_TO:
        every = np.array(list(itertools.permutations(range(len(a)))))
        return float((np.abs(b[every] @ a) >= observed).mean())
    drawn = np.random.default_rng(seed).permuted(np.tile(b, (draws, 1)), axis=1)
    return float((1 + (np.abs(drawn @ a) >= observed).sum()) / (1 + draws))


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

    true_rates: (policies,), or (policies, tasks) where a policy's rate is the mean over tasks of `trials` episodes each.
    paired: share of episodes whose outcome is the same in both worlds because both start from the same state with the
    same policy noise; the others are drawn independently. 0 is the ceiling for independent seeds. Measured rates put in
    for true ones spread a little too far, which makes the ceiling slightly too high.
    """
    rates = np.clip(np.asarray(true_rates, dtype=np.float64), 0.0, 1.0)
    if trials < 1 or not 0.0 <= paired <= 1.0:
        raise ValueError(f"trials is {trials} and paired {paired}; wanted trials >= 1 and paired in 0..1")
    rates_PM = rates.reshape(len(rates), -1)
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        shared = rng.binomial(trials, paired, size=rates_PM.shape)
        common = rng.binomial(shared, rates_PM)
        s, r = (
            ((common + rng.binomial(trials - shared, rates_PM)) / trials).mean(axis=1) for _world in range(2)
        )
        rows.append((pearson_r(s, r), spearman_rho(s, r), mmrv(imagined=s, ground_truth=r)))
    values = np.asarray(rows)
    medians = [
        float(np.median(c[np.isfinite(c)])) if np.isfinite(c).any() else float("nan") for c in values.T
    ]
    return NoiseCeiling(medians[0], medians[1], medians[2], trials, paired)


def paired_agreement(x: Bools, y: Bools) -> tuple[float, tuple[float, float]]:
    """Share of paired episodes with the same outcome, and its Wilson interval; NaN without episodes."""
    a, b = _outcomes(x, y)
    same = int((a == b).sum())
    return (same / len(a) if len(a) else float("nan")), wilson_interval(same, len(a))


def cohen_kappa(x: Bools, y: Bools) -> float:
    """Cohen's kappa of two paired outcome lists; NaN when chance agreement is already 1 (both constant and equal)."""
    a, b = _outcomes(x, y)
    if len(a) == 0:
        return float("nan")
    observed = float((a == b).mean())
    chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return float("nan") if chance == 1.0 else (observed - chance) / (1.0 - chance)


def passes_gate(r: float | None, violation: float) -> bool:
    """Whether an action interface of this r and MMRV may be used to score policies; an undefined r passes nothing."""
    return r is not None and bool(r >= GATE_R and violation <= GATE_MMRV)


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
