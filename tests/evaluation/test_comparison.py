"""Two policies against each other: exact tests against SciPy, the sequential one by its error rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import beta

from genie_robot.evaluation.comparison import (
    barnard_p,
    compare_sequentially,
    discordant,
    e_value,
    mcnemar_p,
)


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(wins: int, losses: int) -> None:
    want = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar_p(wins, losses) == pytest.approx(want, rel=1e-9)


def test_mcnemar_of_many_pairs_does_not_overflow() -> None:
    assert mcnemar_p(1000, 1000) == 1.0
    assert 0.0 < mcnemar_p(800, 1200) < 1e-15


def test_discordant_pairs() -> None:
    assert discordant([True, True, False, False], [True, False, True, False]) == (1, 1)
    assert discordant([True, True], [False, False]) == (2, 0)
    with pytest.raises(ValueError, match="one length"):
        discordant([True], [True, False])


def test_barnard_matches_scipys_example() -> None:
    # SciPy's own example: 7 of 15 vaccinated and 12 of 15 not vaccinated; 0.03407 one-sided
    assert barnard_p((7, 12), (15, 15)) == pytest.approx(
        stats.barnard_exact([[7, 12], [8, 3]]).pvalue, rel=1e-9
    )
    assert barnard_p((3, 3), (10, 10)) > 0.9
    assert barnard_p((1, 9), (10, 10)) < 0.01
    with pytest.raises(ValueError, match="11 successes of 10 trials"):
        barnard_p((11, 1), (10, 10))


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_e_value_is_the_reference_formula(wins: int, losses: int) -> None:
    n = wins + losses
    want = 2.0**n * beta(wins + 0.5, losses + 0.5) / beta(0.5, 0.5)
    assert e_value(wins, losses) == pytest.approx(want, rel=1e-9)
    # a martingale under equal policies: the mean of the next value is this one
    assert (e_value(wins + 1, losses) + e_value(wins, losses + 1)) / 2 == pytest.approx(want, rel=1e-9)


def test_e_value_by_hand() -> None:
    assert e_value(0, 0) == 1.0
    assert e_value(1, 0) == pytest.approx(1.0), "one pair tells nothing"
    assert e_value(2, 0) == pytest.approx(1.5)  # 4 B(2.5, .5) / B(.5, .5) = 4 * 3/8
    assert e_value(5000, 0) > 1e300, "no overflow"
    with pytest.raises(ValueError, match="0 or more"):
        e_value(-1, 2)


def decisions(win_probability: float, runs: int, pairs: int, seed: int) -> list[tuple[str, int]]:
    """Winner and length of `runs` comparisons in which every pair is discordant."""
    rng = np.random.default_rng(seed)
    wins = rng.random((runs, pairs)) < win_probability
    results = (compare_sequentially(row, ~row) for row in wins)
    return [(result.winner, result.decided_after) for result in results]


def test_equal_policies_are_told_apart_in_fewer_than_5_percent_however_often_one_looks() -> None:
    wrong = sum(winner != "" for winner, _ in decisions(0.5, 1000, 200, seed=0))
    assert 15 <= wrong <= 50, (
        "evaluation.md measured 3.2 % over 200 pairs; 0 % would be a test that never decides"
    )


def test_unequal_policies_are_told_apart_as_soon_as_the_reference_says() -> None:
    for probability, median in ((0.7, 48), (0.8, 19)):
        found = decisions(probability, 300, 400, seed=1)
        assert sum(winner == "first" for winner, _ in found) > 290
        assert np.median([length for _, length in found]) == pytest.approx(median, abs=6)


def test_a_sequential_comparison_stops_and_says_for_whom() -> None:
    better, worse = [True] * 30, [False] * 30
    result = compare_sequentially(worse, better)
    assert result.winner == "second" and result.wins == 0
    assert result.decided_after == result.losses < 10
    assert result.p_value <= 0.05
    same = compare_sequentially(better, better)
    assert (same.winner, same.decided_after, same.p_value) == ("", 0, 1.0)
    late = compare_sequentially([True] * 20 + better, [True] * 20 + worse)
    assert late.decided_after == 20 + result.decided_after, "pairs that agree are run, and tell nothing"
    with pytest.raises(ValueError, match="alpha"):
        compare_sequentially(better, worse, alpha=5.0)
