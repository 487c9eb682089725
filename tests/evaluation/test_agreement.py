"""Agreement statistics: hand vectors, scipy cross-checks, properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genie_robot.evaluation import agreement as ag

RATES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.8, 1.0]), min_size=3, max_size=9)


def test_mmrv_asymmetric_vector() -> None:
    s, r = [0.5, 0.4], [0.2, 0.8]
    assert ag.mmrv(imagined=s, ground_truth=r) == pytest.approx(0.6)
    assert ag.mmrv(imagined=r, ground_truth=s) == pytest.approx(0.1)


def test_mmrv_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        ag.mmrv([0.5, 0.4], [0.2, 0.8])  # type: ignore[misc]


def test_mmrv_counts_a_tie_on_one_side_for_both_ends_of_the_pair_that_differ() -> None:
    # Truth says 1 > 0, imagination says equal: only the ordered pair (1, 0) has unequal comparisons.
    assert ag.mmrv(imagined=[0.5, 0.5], ground_truth=[0.0, 1.0]) == pytest.approx(0.5)
    assert ag.mmrv(imagined=[0.0, 1.0], ground_truth=[0.5, 0.5]) == 0.0
    assert ag.mmrv(imagined=[0.1, 0.5, 0.9], ground_truth=[0.0, 0.2, 0.3]) == 0.0


@given(RATES, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_correlations_match_scipy(x: list[float], random: object) -> None:
    y = list(x)
    random.shuffle(y)  # type: ignore[attr-defined]
    if len(set(x)) < 2:
        assert math.isnan(ag.pearson_r(x, y))
        assert math.isnan(ag.spearman_rho(x, y))
        return
    assert ag.pearson_r(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
    assert ag.spearman_rho(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


@given(st.integers(1, 60), st.data())
@settings(max_examples=60, deadline=None)
def test_wilson_matches_scipy(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    want = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert ag.wilson_interval(successes, trials) == pytest.approx((want.low, want.high), abs=1e-9)


def test_wilson_vector_and_bad_input() -> None:
    assert ag.wilson_interval(37, 50) == pytest.approx((0.604, 0.841), abs=5e-4)
    assert ag.wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 successes of 4 trials"):
        ag.wilson_interval(5, 4)


def test_fisher_interval_matches_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(12)
    y = x + 0.3 * rng.random(12)
    result = stats.pearsonr(x, y)
    want = result.confidence_interval(0.95)
    assert ag.fisher_interval(float(result.statistic), 12) == pytest.approx((want.low, want.high), abs=1e-9)
    assert ag.fisher_interval(0.9, 3) == (-1.0, 1.0)
    assert ag.fisher_interval(float("nan"), 10) == (-1.0, 1.0)


def test_bootstrap_covers_the_point_and_is_repeatable() -> None:
    rng = np.random.default_rng(0)
    rates = np.linspace(0.05, 0.95, 8)
    truth = (rng.random((8, 40)) < rates[:, None]).astype(float)
    imagined = np.where(rng.random((8, 40)) < 0.8, truth, rng.random((8, 40)) < rates[:, None]).astype(float)
    point = ag.pearson_r(imagined.mean(1), truth.mean(1))
    low, high = ag.bootstrap_interval(ag.pearson_r, imagined, truth, draws=200, seed=3)
    assert low < point <= high + 1e-6
    assert high <= 1.0
    assert (low, high) == ag.bootstrap_interval(ag.pearson_r, imagined, truth, draws=200, seed=3)
    assert all(math.isnan(v) for v in ag.bootstrap_interval(ag.pearson_r, imagined[:5], truth[:5]))


def test_noise_ceiling_reproduces_the_reference_table() -> None:
    # evaluation.md 1.3: N=12, rates ~ U(.05,.95); K=50: r .954, K=200: .988; 90 % paired, K=50: .996.
    rates = np.linspace(0.05, 0.95, 12)
    assert ag.noise_ceiling(rates, 50).pearson_r == pytest.approx(0.96, abs=0.02)
    assert ag.noise_ceiling(rates, 200).pearson_r == pytest.approx(0.989, abs=0.008)
    paired = ag.noise_ceiling(rates, 50, paired=0.9)
    assert paired.pearson_r == pytest.approx(0.996, abs=0.003)
    assert paired.mmrv < ag.noise_ceiling(rates, 50).mmrv
    assert ag.noise_ceiling(rates, 20, paired=1.0).pearson_r == pytest.approx(1.0)


def test_drop_one_range() -> None:
    low, high = ag.drop_one_range([0, 0, 0.1, 1.0], [0.1, 0, 0, 1.0])
    assert low == pytest.approx(ag.pearson_r([0, 0, 0.1], [0.1, 0, 0]))
    assert high > 0.9


def test_cohen_kappa() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: the textbook table with kappa 0.4.
    a = [True] * 25 + [False] * 25
    b = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    assert ag.cohen_kappa(a, b) == pytest.approx(0.4)
    assert math.isnan(ag.cohen_kappa([True, True], [True, True]))


def test_nmi() -> None:
    codes = np.repeat(np.arange(4), 25)
    assert ag.normalised_mutual_information(codes, 3 - codes) == pytest.approx(1.0)
    assert ag.normalised_mutual_information(codes, np.zeros(100, int)) == 0.0
    # Two of four codes share a label: I = H(label) = ln 2, H(code) = ln 4 -> 2 ln2 / (ln2 + ln4) = 2/3.
    assert ag.normalised_mutual_information(codes, codes // 2) == pytest.approx(2 / 3)
    shuffled = np.random.default_rng(0).permutation(np.repeat(np.arange(8), 500))
    assert ag.normalised_mutual_information(shuffled, np.repeat(np.arange(8), 500)) < 0.02
