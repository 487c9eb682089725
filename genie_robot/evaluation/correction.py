"""From biased rates to honest ones: correct a judge's known errors, or an imagined world's, with a few true outcomes.

`rogan_gladen` needs the judge's sensitivity and specificity; `prediction_powered` needs a few episodes that were run in
both worlds. The second assumes nothing about the errors and is the default (evaluation.md, sections 2 and 5.4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genie_robot.evaluation.intervals import normal_quantile

Values = Sequence[float] | Sequence[bool] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A success rate and its confidence interval, all in 0..1; NaN where it cannot be told."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class JudgeErrors:
    """A judge on episodes whose outcome is known: right verdicts among true successes and among true failures."""

    found_successes: int
    successes: int
    found_failures: int
    failures: int

    @property
    def sensitivity(self) -> float:
        """Share of the true successes that the judge calls success; NaN without any."""
        return self.found_successes / self.successes if self.successes else math.nan

    @property
    def specificity(self) -> float:
        """Share of the true failures that the judge calls failure; NaN without any."""
        return self.found_failures / self.failures if self.failures else math.nan


def judge_errors(judged: Values, truth: Values) -> JudgeErrors:
    """Count a judge's verdicts against the true outcomes of the same episodes."""
    a, b = np.asarray(judged, dtype=bool), np.asarray(truth, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"verdicts are {a.shape} and outcomes {b.shape}; wanted two vectors of one length")
    return JudgeErrors(int((a & b).sum()), int(b.sum()), int((~a & ~b).sum()), int((~b).sum()))


def rogan_gladen(
    judged_successes: int,
    trials: int,
    errors: JudgeErrors,
    *,
    draws: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """True success rate behind a judge's count: (observed + specificity - 1) / (sensitivity + specificity - 1), in 0..1.

    The formula is of Rogan and Gladen (1978). The interval is a parametric bootstrap: the observed rate and both of the
    judge's are drawn from what their counts leave open (Beta with Jeffreys' prior), so that "none of 20" and a judge that
    made no error yet do not pass for certainty. It always holds the rate.
    NaN when the judge is no better than chance, or was never tried on a success or on a failure.
    """
    if not 0 <= judged_successes <= trials or trials == 0:
        raise ValueError(
            f"{judged_successes} successes of {trials}; wanted 0 <= successes <= trials, trials > 0"
        )
    normal_quantile(confidence)  # checks the confidence
    rate = _unmix(judged_successes / trials, errors.sensitivity, errors.specificity)
    if not math.isfinite(rate):
        return Estimate(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    counts = (
        (judged_successes, trials),
        (errors.found_successes, errors.successes),
        (errors.found_failures, errors.failures),
    )
    drawn = _unmix(*(rng.beta(k + 0.5, n - k + 0.5, size=draws) for k, n in counts))
    tail = (1.0 - confidence) / 2.0
    low, high = np.nanquantile(drawn, [tail, 1.0 - tail])
    return Estimate(float(rate), float(min(low, rate)), float(max(high, rate)))


def _unmix(observed: np.ndarray | float, sensitivity: np.ndarray | float, specificity: np.ndarray | float):
    """The rate behind the observed one; NaN where the judge is no better than chance."""
    power = np.asarray(sensitivity + specificity - 1.0)
    corrected = (observed + specificity - 1.0) / np.where(power > 0.0, power, np.nan)
    return np.clip(corrected, 0.0, 1.0)


def prediction_powered(
    imagined: Values, paired_imagined: Values, paired_truth: Values, *, confidence: float = 0.95
) -> Estimate:
    """Success rate from many imagined episodes and a few run in both worlds (Angelopoulos 2023; SureSim 2510.04354).

    imagined: outcomes 0 / 1 (N,) of episodes run in imagination only. paired_imagined, paired_truth: outcomes (n,) of
    *other* episodes, run in both worlds. Rate = mean(imagined) + mean(paired_truth - paired_imagined), right on average
    however biased the imagined world is. The interval is normal, with the sum of both variances; these are taken with the
    pseudo-counts of Agresti and Coull (1998) and of Agresti and Min (2005), so that a handful of equal outcomes does not
    pass for certainty. NaN for fewer than two episodes on either side.
    """
    many, few, truth = (np.asarray(v, dtype=np.float64) for v in (imagined, paired_imagined, paired_truth))
    if many.ndim != 1 or few.ndim != 1 or few.shape != truth.shape:
        raise ValueError(
            f"outcomes are {many.shape}, {few.shape} and {truth.shape}; wanted (N,), and twice (n,) for the paired ones"
        )
    z = normal_quantile(confidence)
    if min(len(many), len(few)) < 2:
        return Estimate(math.nan, math.nan, math.nan)
    rate = many.mean() + (truth - few).mean()
    p, trials = (many.sum() + 2.0) / (len(many) + 4.0), len(many) + 4.0
    gains, losses = ((truth > few).sum() + 0.5), ((truth < few).sum() + 0.5)
    pairs = len(few) + 2.0
    variance = p * (1.0 - p) / trials + (gains + losses - (gains - losses) ** 2 / pairs) / pairs**2
    half = z * math.sqrt(variance)
    low, middle, high = np.clip([rate - half, rate, rate + half], 0.0, 1.0)
    return Estimate(float(middle), float(low), float(high))
