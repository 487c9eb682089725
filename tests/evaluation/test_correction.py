"""Corrected rates: hand vectors, and simulated judges and worlds whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genie_robot.evaluation.correction import (
    JudgeErrors,
    judge_errors,
    prediction_powered,
    rogan_gladen,
)


def test_judge_errors_by_hand() -> None:
    errors = judge_errors([1, 1, 0, 0, 1], [1, 1, 1, 0, 0])
    assert errors == JudgeErrors(found_successes=2, successes=3, found_failures=1, failures=2)
    assert errors.sensitivity == pytest.approx(2 / 3) and errors.specificity == 0.5
    assert math.isnan(judge_errors([True], [True]).specificity)


def test_rogan_gladen_by_hand() -> None:
    # sensitivity .9, specificity .8, observed .55: (.55 + .8 - 1) / (.9 + .8 - 1) = .5
    errors = JudgeErrors(90, 100, 80, 100)
    estimate = rogan_gladen(55, 100, errors)
    assert estimate.rate == pytest.approx(0.5)
    assert estimate.low < 0.5 < estimate.high
    perfect = rogan_gladen(30, 100, JudgeErrors(100, 100, 100, 100))
    assert perfect.rate == pytest.approx(0.3)
    assert rogan_gladen(1, 100, errors).rate == 0.0, "clipped: fewer than the judge's false alarms"


def test_rogan_gladen_of_no_success_at_all_is_not_certain() -> None:
    nothing = rogan_gladen(0, 20, JudgeErrors(30, 30, 30, 30))
    assert nothing.rate == nothing.low == 0.0 and 0.05 < nothing.high < 0.25


def test_rogan_gladen_of_a_useless_judge_is_unknown() -> None:
    assert math.isnan(rogan_gladen(50, 100, JudgeErrors(50, 100, 50, 100)).rate)
    assert math.isnan(rogan_gladen(50, 100, JudgeErrors(50, 100, 0, 0)).rate)
    with pytest.raises(ValueError, match="trials > 0"):
        rogan_gladen(0, 0, JudgeErrors(9, 10, 9, 10))


def test_rogan_gladen_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    covered, sizes = 0, []
    for _ in range(300):
        errors = JudgeErrors(int(rng.binomial(80, 0.7)), 80, int(rng.binomial(80, 0.95)), 80)
        truth = rng.random(150) < 0.4
        judged = np.where(truth, rng.random(150) < 0.7, rng.random(150) < 0.05)
        estimate = rogan_gladen(int(judged.sum()), 150, errors, draws=300)
        covered += estimate.low <= 0.4 <= estimate.high
        sizes.append(estimate.rate)
    assert covered / 300 > 0.91
    assert np.mean(sizes) == pytest.approx(0.4, abs=0.015), "the judge alone says .40 * .70 + .60 * .05 = .31"


def worlds(
    rng: np.random.Generator, episodes: int, rate: float, kind: float
) -> tuple[np.ndarray, np.ndarray]:
    """True outcomes, and an imagination that turns a share `kind` of the failures into successes."""
    truth = rng.random(episodes) < rate
    return truth.astype(float), (truth | (rng.random(episodes) < kind)).astype(float)


def test_prediction_powered_by_hand() -> None:
    estimate = prediction_powered([1, 1, 1, 0], [1, 1], [1, 0])
    assert estimate.rate == pytest.approx(0.75 - 0.5)
    assert 0.0 <= estimate.low < 0.25 < estimate.high <= 1.0
    assert math.isnan(prediction_powered([1, 0], [1], [1]).rate)
    with pytest.raises(ValueError, match="twice"):
        prediction_powered([1, 0], [1, 1], [1])


@pytest.mark.parametrize(("rate", "kind"), [(0.5, 0.3), (0.05, 0.0), (0.9, 0.1)])
def test_prediction_powered_is_unbiased_and_covers_where_imagination_is_biased(
    rate: float, kind: float
) -> None:
    rng = np.random.default_rng(2)
    rates, covered, runs = [], 0, 400
    for _ in range(runs):
        _, many = worlds(rng, 120, rate, kind)
        truth, few = worlds(rng, 30, rate, kind)
        estimate = prediction_powered(many, few, truth)
        rates.append(estimate.rate)
        covered += estimate.low <= rate <= estimate.high
    assert np.mean(rates) == pytest.approx(rate, abs=0.015)
    assert covered / runs > 0.93, "also where the few paired episodes happen to agree in full"


def test_prediction_powered_is_narrower_than_the_few_true_episodes_alone_when_imagination_is_good() -> None:
    rng = np.random.default_rng(3)
    _, many = worlds(rng, 500, 0.5, 0.02)
    truth, few = worlds(rng, 30, 0.5, 0.02)
    estimate = prediction_powered(many, few, truth)
    assert estimate.high - estimate.low < 0.7 * 2 * 1.96 * math.sqrt(0.25 / 30)
