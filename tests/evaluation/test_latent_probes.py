"""Linear probes, code usage, cycle consistency, consistency of codes, on actions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.errors import DataError
from genie_robot.evaluation.consistency import other_code_cosine
from genie_robot.evaluation.latent_actions import CodeMeasurement, mean_code_cosine
from genie_robot.evaluation.latent_probes import (
    code_health,
    crossfit,
    cycle_consistency,
    linear_probes,
    one_hot_codes,
    predict,
    probe_actions,
    r_squared,
    ridge,
    state_pairs,
)


def actions_of(seed: int, episodes: int = 20, steps: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    actions = np.zeros((episodes, steps, 7))
    actions[..., :3] = rng.normal(size=(episodes, steps, 3))
    actions[..., 6] = rng.choice([-1.0, 0.0, 1.0], size=(episodes, steps), p=[0.2, 0.6, 0.2])
    return actions


def test_ridge_finds_a_linear_map_whatever_the_unit() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(500, 5)), rng.normal(size=(5, 2))
    y = x @ weights + [3.0, -1.0]
    for unit in (1.0, 1e-3, 1e3):
        assert predict(ridge(x * unit, y), x * unit) == pytest.approx(y, abs=0.05)
    assert predict(ridge(np.ones((10, 3)), y[:10]), np.ones((1, 3)))[0] == pytest.approx(y[:10].mean(axis=0))


def test_a_probe_reads_what_is_there_and_nothing_from_noise() -> None:
    actions = actions_of(0)
    vectors = actions[..., :3] @ np.random.default_rng(1).normal(size=(3, 4))
    vectors = np.concatenate([vectors, actions[..., 6:]], axis=-1)
    good = probe_actions(vectors, actions)
    assert good["r2"]["dx"] > 0.99 and good["r2"]["droll"] is None  # nothing turns: nothing to explain
    assert good["r2_mean"] > 0.99 and good["gripper_accuracy"] == 1.0
    noise = np.random.default_rng(2).normal(size=vectors.shape)
    blind = probe_actions(noise, actions)
    assert abs(blind["r2_mean"]) < 0.05
    assert blind["gripper_accuracy"] == pytest.approx(blind["gripper_majority"], abs=0.03)
    assert blind["gripper_majority"] == pytest.approx(0.6, abs=0.05)


def test_the_scored_episodes_are_never_those_fitted() -> None:
    """With an indicator of each episode as feature, a probe that saw the episode would know its mean action."""
    actions = np.repeat(np.random.default_rng(0).normal(size=(20, 1, 7)), 5, axis=1)
    features = np.repeat(np.eye(20)[:, None], 5, axis=1)
    scores = r_squared(actions, crossfit(features, actions))
    assert all(score is not None and score < 0.05 for score in scores)
    with pytest.raises(DataError, match="got 3 episodes; wanted 4"):
        crossfit(features[:3], actions[:3])


def test_codes_of_several_codebooks_are_unpacked_coarsest_first() -> None:
    hot = one_hot_codes(np.array([[0, 9, 8 * 3 + 5]]), 8, 2)
    assert hot.shape == (1, 3, 16) and hot.sum(axis=-1).tolist() == [[2, 2, 2]]
    assert hot[0, 2, :8].argmax() == 5 and hot[0, 2, 8:].argmax() == 3


@given(st.lists(st.integers(0, 63), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None)
def test_perplexity_lies_between_one_and_the_codes_in_use(codes: list[int]) -> None:
    health = code_health(np.array([codes]), 8, 2)
    for level in range(2):
        used = 8 - health["dead_codes_per_codebook"][level]
        assert 1.0 - 1e-3 <= health["perplexity_per_codebook"][level] <= used + 1e-3


def test_perplexity_by_hand() -> None:
    health = code_health(np.array([[0, 0, 1, 1]]), 8, 1)
    assert health["perplexity_per_codebook"] == [2.0] and health["dead_codes_per_codebook"] == [6]


def test_inverse_dynamics_sees_the_state_and_its_change() -> None:
    pairs = state_pairs(np.arange(12.0).reshape(1, 4, 3) ** 2)
    assert pairs.shape == (1, 3, 6)
    assert pairs[0, 0].tolist() == [0, 1, 4, 9, 15, 21]


def test_probes_of_a_model(model, episodes: list) -> None:
    video = np.stack([e.frames_TYXC for e in episodes])
    actions = np.stack([e.actions_TA[:-1] for e in episodes])
    states = np.stack([e.state_TS for e in episodes])
    result = linear_probes(model, video, actions, true_states_BTS=states)
    assert set(result) == {"codes", "vectors", "shuffled", "inverse_dynamics", "episodes", "transitions"}
    assert result["transitions"] == 6 * 11
    # The true states nearly say the action; an untrained model's codes cannot.
    assert result["inverse_dynamics"]["r2"]["dx"] > 0.8 > result["codes"]["r2"]["dx"]


def test_cycle_consistency_is_one_for_its_own_labels_and_knows_chance(model, episodes: list) -> None:
    from genie_robot.simulation.action_interface import infer_codes

    video = np.stack([e.frames_TYXC for e in episodes])
    codes = infer_codes(model, video)
    assert cycle_consistency(model, video, codes)["rate"] == 1.0
    wrong = cycle_consistency(model, video, (codes + 1) % 8)
    share = np.bincount(codes.reshape(-1), minlength=8) / codes.size
    assert wrong["rate"] == 0.0
    assert wrong["chance"] == pytest.approx(float((share * np.roll(share, 1)).sum()))


def measurement(code: int, direction: tuple[float, float, float]) -> CodeMeasurement:
    rng = np.random.default_rng(code)
    moves = 0.04 * np.array(direction) + 0.001 * rng.normal(size=(6, 3))
    return CodeMeasurement(code, moves, np.zeros(6), np.ones(6), steps=1)


def test_codes_that_do_different_things_have_less_cosine_than_one_code_with_itself() -> None:
    right = [
        measurement(0, (1, 0, 0)),
        measurement(1, (0, 1, 0)),
        measurement(2, (-1, 0, 0)),
        measurement(3, (0, -1, 0)),
    ]
    assert mean_code_cosine(right) > 0.95
    assert other_code_cosine(right) == pytest.approx(
        -1 / 3, abs=0.02
    )  # 2 of 6 pairs opposite, 4 at right angles
    same = [measurement(0, (1, 0, 0)), measurement(1, (1, 0, 0))]
    assert other_code_cosine(same) > 0.95
    assert np.isnan(other_code_cosine([measurement(0, (1, 0, 0)), measurement(1, (0, 0, 0))]))
