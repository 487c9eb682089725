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


def test_mmrv_counts_a_tie_on_one_side_for_one_end_of_the_pair() -> None:
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


def test_noise_ceiling_reproduces_the_reference_table() -> None:
    # evaluation.md 1.3: N=12, rates ~ U(.05,.95); K=50: r .954, K=200: .988; 90 % paired, K=50: .996.
    rates = np.linspace(0.05, 0.95, 12)
    assert ag.noise_ceiling(rates, 50).pearson_r == pytest.approx(0.96, abs=0.02)
    assert ag.noise_ceiling(rates, 200).pearson_r == pytest.approx(0.989, abs=0.008)
    paired = ag.noise_ceiling(rates, 50, paired=0.9)
    assert paired.pearson_r == pytest.approx(0.996, abs=0.003)
    assert paired.mmrv < ag.noise_ceiling(rates, 50).mmrv
    assert ag.noise_ceiling(rates, 20, paired=1.0).pearson_r == pytest.approx(1.0)


def test_noise_ceiling_of_several_tasks_is_that_of_more_episodes() -> None:
    rates = np.linspace(0.05, 0.95, 12)
    three_tasks = ag.noise_ceiling(np.stack([rates] * 3, axis=1), 50)
    assert three_tasks.pearson_r == pytest.approx(ag.noise_ceiling(rates, 150).pearson_r, abs=0.004)
    assert three_tasks.pearson_r > ag.noise_ceiling(rates, 50).pearson_r + 0.01


@pytest.mark.parametrize("k", [4, 5])
def test_permutation_p_is_scipys_exact_one(k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.random(k)
    y = x + 0.4 * rng.random(k)
    want = stats.permutation_test(
        (x,),
        lambda a: abs(np.corrcoef(a, y)[0, 1]),
        permutation_type="pairings",
        n_resamples=10**6,
        alternative="greater",
    )
    assert ag.permutation_p(x, y) == pytest.approx(want.pvalue)


def test_permutation_p_by_hand_and_by_sampling() -> None:
    # three policies in order: 1 of 6 permutations is as good, and the reversed one has the same |r|
    assert ag.permutation_p([0, 1, 2], [0, 1, 2]) == pytest.approx(2 / 6)
    x = np.linspace(0, 1, 12)
    assert ag.permutation_p(x, x, draws=999) == pytest.approx(1 / 1000), "never 0"
    unrelated = np.random.default_rng(5).permutation(x)
    assert ag.permutation_p(x, unrelated) > 0.05
    assert math.isnan(ag.permutation_p([1, 1, 1], [0, 1, 2]))


def test_pairs_ranked_leaves_out_close_pairs_and_counts_ties_as_wrong() -> None:
    truth = [0.0, 0.05, 0.15, 0.9]  # gaps below .10: only (0, .05)
    assert ag.pairs_ranked(imagined=truth, ground_truth=truth) == (5, 5)
    assert ag.pairs_ranked(imagined=[0.0, 0.5, 0.5, 1.0], ground_truth=truth) == (4, 5)
    assert ag.pairs_ranked(imagined=[0.2, 0.1], ground_truth=[0.4, 0.3]) == (1, 1), (
        "a gap of .10 after rounding"
    )


def test_paired_agreement() -> None:
    share, (low, high) = ag.paired_agreement([True] * 9 + [False], [True] * 10)
    assert share == 0.9
    assert (low, high) == ag.wilson_interval(9, 10)
    with pytest.raises(ValueError, match="one length"):
        ag.paired_agreement([True], [True, False])


def test_drop_one_range() -> None:
    low, high = ag.drop_one_range([0, 0, 0.1, 1.0], [0.1, 0, 0, 1.0])
    assert low == pytest.approx(ag.pearson_r([0, 0, 0.1], [0.1, 0, 0]))
    assert high > 0.9
    # Without the last one all rates are 0 and r is undefined: 1.0 of the others alone would hide that.
    assert all(math.isnan(v) for v in ag.drop_one_range([0, 0, 0, 1.0], [0, 0, 0, 1.0]))


def test_drop_one_range_of_whole_families() -> None:
    """Each good policy holds up r without the other; without both, nothing agrees."""
    imagined, truth = [0.0, 0.1, 0.2, 0.9, 1.0], [0.2, 0.1, 0.0, 0.9, 1.0]
    assert ag.drop_one_range(imagined, truth)[0] > 0.9
    low, high = ag.drop_one_range(imagined, truth, ["bad 1", "bad 2", "bad 3", "good", "good"])
    assert low == pytest.approx(-1.0) and high > 0.9
    with pytest.raises(ValueError, match="one family for each rate"):
        ag.drop_one_range(imagined, truth, ["good"])


def test_rates_that_are_equal_but_for_rounding_are_ties() -> None:
    near = (0.1 + 0.2 + 0.3) / 3
    exact = 0.6 / 3
    assert near != exact, "the last digit"
    truth = [0.0, 0.5, 1.0]
    for first, second in ((near, exact), (exact, near)):
        assert ag.mmrv(imagined=[first, second], ground_truth=[0.2, 0.8]) == pytest.approx(0.3)
        assert ag.mmrv(imagined=[0.2, 0.8], ground_truth=[first, second]) == pytest.approx(0.0)
        assert ag.spearman_rho([first, second, 0.9], truth) == ag.spearman_rho([0.2, 0.2, 0.9], truth)
        assert math.isnan(ag.pearson_r([first, second, first], truth))


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
