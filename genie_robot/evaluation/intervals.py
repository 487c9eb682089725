"""Confidence intervals of a success rate and of a correlation. Formulas: evaluation.md, section 2.

Wilson is the default. Clopper-Pearson is wider and is for a guarantee: it covers the truth *at least* as often as it says.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

_HALVINGS = 60  # of a bracket of length 1: below the resolution of a double


def normal_quantile(confidence: float) -> float:
    """How many standard deviations hold the central `confidence` of a normal distribution; 1.96 for 0.95."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence is {confidence}; wanted a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def _check_counts(successes: int, trials: int) -> None:
    if trials < 0 or not 0 <= successes <= max(trials, 0):
        raise ValueError(f"{successes} successes of {trials} trials; wanted 0 <= successes <= trials")


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a success rate; (0, 1) when there are no trials."""
    _check_counts(successes, trials)
    z = normal_quantile(confidence)
    if trials == 0:
        return 0.0, 1.0
    p = successes / trials
    scale = 1.0 + z * z / trials
    middle = (p + z * z / (2 * trials)) / scale
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / scale
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == trials else min(1.0, middle + half)
    return low, high


def clopper_pearson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact (Clopper-Pearson) interval of a success rate; (0, 1) when there are no trials.

    The ends are the rates at which so many successes or more, or so few or fewer, have probability (1 - confidence) / 2.
    """
    _check_counts(successes, trials)
    normal_quantile(confidence)  # checks the confidence
    tail = (1.0 - confidence) / 2.0

    def at_least(count: int, rate: float) -> float:
        return math.fsum(_binomial(k, trials, rate) for k in range(count, trials + 1))

    low = 0.0 if successes == 0 else _root(lambda p: at_least(successes, p) - tail)
    high = 1.0 if successes == trials else _root(lambda p: at_least(successes + 1, p) - (1.0 - tail))
    return low, high


def _binomial(k: int, n: int, rate: float) -> float:
    log_ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(log_ways + k * math.log(rate) + (n - k) * math.log1p(-rate))


def _root(rising: Callable[[float], float]) -> float:
    """Where a function that rises on (0, 1) is zero."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if not 0.0 < middle < 1.0 or middle in (low, high):
            break
        low, high = (middle, high) if rising(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0


def fisher_interval(r: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Fisher-z interval of a Pearson r over n policies; (-1, 1) for n <= 3 or an undefined r.

    (NaN, NaN) for an r of 1 or -1, where z is infinite and an interval without width would claim too much.
    """
    if n <= 3 or not np.isfinite(r):
        return -1.0, 1.0
    if abs(r) >= 1.0:
        return float("nan"), float("nan")
    centre, half = np.arctanh(r), normal_quantile(confidence) / np.sqrt(n - 3)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))
