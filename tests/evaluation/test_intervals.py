"""Intervals of rates and correlations, and the bootstrap, against SciPy and the reference's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genie_robot.evaluation import agreement as ag
from genie_robot.evaluation.bootstrap import bootstrap_interval, bootstrap_intervals
from genie_robot.evaluation.intervals import clopper_pearson_interval, fisher_interval, wilson_interval


@given(st.integers(1, 200), st.data())
@settings(max_examples=60, deadline=None)
def test_rate_intervals_match_scipy(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    confidence = data.draw(st.sampled_from([0.9, 0.95, 0.99]))
    test = stats.binomtest(successes, trials)
    for method, ours in (("wilson", wilson_interval), ("exact", clopper_pearson_interval)):
        want = test.proportion_ci(confidence, method=method)
        assert ours(successes, trials, confidence) == pytest.approx((want.low, want.high), abs=1e-8)


def test_the_references_vector_and_bad_input() -> None:
    assert wilson_interval(37, 50) == pytest.approx((0.604, 0.841), abs=5e-4)
    assert clopper_pearson_interval(37, 50) == pytest.approx((0.597, 0.854), abs=5e-4)
    for interval in (wilson_interval, clopper_pearson_interval):
        assert interval(0, 0) == (0.0, 1.0)
        with pytest.raises(ValueError, match="5 successes of 4 trials"):
            interval(5, 4)
        with pytest.raises(ValueError, match="between 0 and 1"):
            interval(1, 2, 95.0)


def test_fisher_interval_matches_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(12)
    y = x + 0.3 * rng.random(12)
    result = stats.pearsonr(x, y)
    want = result.confidence_interval(0.95)
    assert fisher_interval(float(result.statistic), 12) == pytest.approx((want.low, want.high), abs=1e-9)
    assert fisher_interval(0.9, 3) == (-1.0, 1.0)
    assert fisher_interval(float("nan"), 10) == (-1.0, 1.0)


def two_worlds(policies: int = 8, tasks: int = 2, seeds: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rates = np.linspace(0.05, 0.95, policies)[:, None, None]
    shape = policies, tasks, seeds
    truth = rng.random(shape) < rates
    imagined = np.where(rng.random(shape) < 0.8, truth, rng.random(shape) < rates)
    return imagined.astype(float), truth.astype(float)


def test_bootstrap_covers_the_point_and_is_repeatable() -> None:
    imagined, truth = two_worlds()
    point = ag.pearson_r(imagined.mean(axis=(1, 2)), truth.mean(axis=(1, 2)))
    low, high = bootstrap_interval(ag.pearson_r, imagined, truth, draws=200, seed=3)
    assert low < point <= high + 1e-6
    assert high <= 1.0
    assert (low, high) == bootstrap_interval(ag.pearson_r, imagined, truth, draws=200, seed=3)
    both = bootstrap_intervals(
        {"r": ag.pearson_r, "rho": ag.spearman_rho}, imagined, truth, draws=200, seed=3
    )
    assert both["r"] == (low, high), "another statistic does not change the draws"


def test_no_bootstrap_for_five_policies_or_fewer() -> None:
    imagined, truth = two_worlds()
    assert all(math.isnan(v) for v in bootstrap_interval(ag.pearson_r, imagined[:5], truth[:5]))
    assert all(math.isfinite(v) for v in bootstrap_interval(ag.pearson_r, imagined[:6], truth[:6], draws=50))


def test_bootstrap_has_the_width_of_the_binomial_where_that_is_known() -> None:
    """One policy's rate in eight copies, episodes resampled only: the standard error of a mean of 400 coins."""
    rng = np.random.default_rng(1)
    truth = np.tile((rng.random(400) < 0.3).astype(float), (8, 1))
    p = truth[0].mean()
    low, high = bootstrap_interval(
        lambda s, r: float(r[0]), truth, truth, draws=1500, resample_policies=False, confidence=0.95
    )
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(p * (1 - p) / 400), rel=0.1)


def test_resampling_policies_is_the_wider_interval() -> None:
    imagined, truth = two_worlds()

    def bias(s: np.ndarray, r: np.ndarray) -> float:
        return float(r.mean())

    def width(resample: bool) -> float:
        low, high = bootstrap_interval(bias, imagined, truth, draws=300, resample_policies=resample)
        return high - low

    assert width(True) > 3 * width(False), "the spread of the policies' rates is the larger part"


def test_episodes_that_do_not_count_are_left_out() -> None:
    imagined, truth = two_worlds()
    hole = imagined.copy()
    hole[:, :, ::3] = np.nan
    low, high = bootstrap_interval(lambda s, r: float(s.mean()), hole, truth, draws=200)
    assert low < np.nanmean(hole) < high
    with pytest.raises(ValueError, match="two equal"):
        bootstrap_interval(ag.pearson_r, imagined, truth[:, :, :5])
