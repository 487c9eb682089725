"""Robot action <-> latent code: fit, file, dictionary, bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.episode import Episode
from genie_robot.errors import ActionError, ConfigError, DataError, ModelFolderError
from genie_robot.simulation.action_interface import (
    ADAPTER_FILE,
    ActionAdapter,
    fit_adapter,
    fit_adapter_from_episodes,
    infer_codes,
    labelled_transitions,
    load_adapter,
    top1_agreement,
)
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action

PERMUTATION = np.array([5, 2, 7, 0, 1, 3, 6, 4])


def keyboard(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy key presses, and the codes of a model whose numbering has nothing to do with the keys' order."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(8, size=count)
    actions = np.stack([key_action(KEYS[k], float(rng.uniform(0.85, 1.0))) for k in keys])
    return actions, PERMUTATION[keys]


@pytest.fixture(scope="module")
def adapter() -> ActionAdapter:
    return fit_adapter(*keyboard(500), 8)


class CountingModel:
    """Labels a transition with the value that its second frame carries; refuses clips beyond its window."""

    num_actions = 8
    hash = "counting"
    config = SimpleNamespace(video=SimpleNamespace(num_frames=4))

    def infer_actions(self, video: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert 2 <= video.shape[1] <= 4
        codes = video[:, 1:, 0, 0, 0].astype(np.int64)
        return codes, np.eye(8, dtype=np.float32)[codes]


def episode(length: int, seed: int = 0) -> Episode:
    actions, codes = keyboard(length - 1, seed)
    frames = np.zeros((length, 8, 8, 3), dtype=np.uint8)
    frames[1:, 0, 0, 0] = codes
    return Episode(
        frames, 0.2, f"e/{seed}", actions_TA=np.concatenate([actions, np.zeros((1, 7))]).astype(np.float32)
    )


def test_every_key_finds_its_code_whatever_the_numbering(adapter: ActionAdapter) -> None:
    actions, codes = keyboard(300, seed=1)
    assert top1_agreement(adapter, actions, codes) == 1.0
    assert adapter.code(actions[0]).shape == ()
    assert adapter.code(actions.reshape(3, 100, 7)).shape == (3, 100)


def test_agreement_falls_to_the_noise_of_the_labels() -> None:
    actions, codes = keyboard(4000)
    rng = np.random.default_rng(5)
    noisy = np.where(rng.random(4000) < 0.3, rng.integers(8, size=4000), codes)
    fitted = fit_adapter(actions[:500], noisy[:500], 8)
    assert top1_agreement(fitted, actions[500:], noisy[500:]) == pytest.approx(0.7 + 0.3 / 8, abs=0.04)


def test_dictionary_is_the_mean_action_of_each_code(adapter: ActionAdapter) -> None:
    actions, codes = keyboard(500)
    for code in range(8):
        for is_open in (True, False):  # this adapter was fitted without knowing the gripper
            assert np.allclose(
                adapter.robot_action(code, is_open), actions[codes == code].mean(axis=0), atol=1e-5
            )
        assert adapter.code(adapter.robot_action(code, True)) == code


def test_one_code_for_both_gripper_keys_closes_an_open_and_opens_a_closed_gripper() -> None:
    actions, codes = keyboard(400)
    fingers = np.abs(actions[:, 6]) > 0.5
    codes = np.where(fingers, 3, np.where(codes == 3, 5, codes))
    is_open = np.where(fingers, actions[:, 6] > 0, np.arange(400) % 2 == 0)
    fitted = fit_adapter(actions, codes, 8, is_open)
    assert fitted.robot_action(3, True)[6] == 1.0 and fitted.robot_action(3, False)[6] == -1.0
    assert np.allclose(fitted.robot_action(np.array([3, 3]), np.array([False, True]))[:, 6], [-1, 1])


def test_gripper_before_a_transition_is_read_from_the_state_or_from_the_commands() -> None:
    actions = np.zeros((5, 7), np.float32)
    actions[1, 6], actions[3, 6] = 1.0, -1.0
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    told = Episode(frames, 0.2, "e", actions_TA=actions)
    assert labelled_transitions(CountingModel(), [told], 10)[2].tolist() == [True, True, False, False]
    state = np.zeros((5, 9), np.float32)
    state[[0, 4], 3] = 1.0
    seen = replace(told, state_TS=state)
    assert labelled_transitions(CountingModel(), [seen], 10)[2].tolist() == [True, False, False, False]


def test_codes_never_seen_are_never_chosen() -> None:
    actions, codes = keyboard(400)
    kept = codes != 3
    fitted = fit_adapter(actions[kept], codes[kept], 8)
    everything = np.random.default_rng(0).uniform(-1, 1, (2000, 7))
    assert 3 not in fitted.code(everything)
    assert np.array_equal(fitted.robot_action(3, True), np.zeros(7))


def test_file_round_trip(adapter: ActionAdapter, tmp_path: Path) -> None:
    replace(adapter, evidence={"labelled_transitions": 500}).save(tmp_path)
    loaded = load_adapter(tmp_path)
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 7))
    assert np.array_equal(loaded.logits(actions), adapter.logits(actions))
    assert loaded.evidence == {"labelled_transitions": 500}
    assert np.array_equal(loaded.counts_C, adapter.counts_C)


def test_metres_a_unit_are_stored_when_they_are_not_one(adapter: ActionAdapter, tmp_path: Path) -> None:
    assert "metres_per_unit" not in adapter.save(tmp_path).read_text()
    assert load_adapter(tmp_path).metres_per_unit == 1.0
    tabletop = replace(adapter, metres_per_unit=0.04)
    tabletop.save(tmp_path)
    assert load_adapter(tmp_path).metres_per_unit == 0.04
    assert np.allclose(
        tabletop.to_si(np.array([1, -0.5, 0.25, 3, 2, 1, -1])), [0.04, -0.02, 0.01, 3, 2, 1, -1]
    )
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="metres_per_unit"):
            replace(adapter, metres_per_unit=wrong)
    with pytest.raises(ActionError, match=r"shape \(6,\)"):
        tabletop.from_si(np.zeros(6))


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7),
    st.floats(1e-4, 10.0),
)
def test_actions_come_back_from_metres_bit_for_bit(action: list[float], metres: float) -> None:
    adapter = replace(fit_adapter(*keyboard(20), 8), metres_per_unit=metres)
    sent = np.array(action, np.float32)
    there = adapter.to_si(sent)
    back = adapter.from_si(there)
    assert there.dtype == np.float64 and back.dtype == np.float32
    assert np.array_equal(back, sent)


def test_an_si_action_beyond_float32_is_refused_not_wrapped(adapter: ActionAdapter) -> None:
    huge = replace(adapter, metres_per_unit=0.04).from_si(np.full(7, 1e300))
    with pytest.raises(ActionError, match="not finite"):
        adapter.code(huge)


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"format": 1}', '{"format": 9, "evidence": {}}'])
def test_missing_or_damaged_file_is_refused_in_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / ADAPTER_FILE).write_text(content)
    with pytest.raises(ModelFolderError) as caught:
        load_adapter(tmp_path)
    assert "\n" not in str(caught.value) and ADAPTER_FILE in str(caught.value)


def test_wrong_actions_and_codes_are_refused(adapter: ActionAdapter) -> None:
    with pytest.raises(ActionError, match=r"shape \(6,\)"):
        adapter.code(np.zeros(6))
    with pytest.raises(ActionError, match="not finite"):
        adapter.code(np.full(7, np.nan))
    for wrong in (8, -1, 1.5):
        with pytest.raises(ActionError, match=r"0\.\.7"):
            adapter.robot_action(wrong, True)  # type: ignore[arg-type]


def test_long_videos_are_labelled_in_clips_that_share_a_frame() -> None:
    one = episode(12)
    assert np.array_equal(
        infer_codes(CountingModel(), one.frames_TYXC[None])[0], one.frames_TYXC[1:, 0, 0, 0]
    )


def test_labels_pair_each_action_with_the_code_of_its_own_transition() -> None:
    actions, codes, _ = labelled_transitions(CountingModel(), [episode(9, 1), episode(9, 2)], 12)
    assert len(codes) == 12
    assert np.array_equal(PERMUTATION[[int(np.flatnonzero(_key(a))[0]) for a in actions]], codes)


def _key(action: np.ndarray) -> np.ndarray:
    return np.array([(np.sign(key_action(k)) == np.sign(action)).all() for k in KEYS])


def test_fit_from_episodes_reports_heldout_agreement_and_blind_guess() -> None:
    episodes = [episode(25, seed) for seed in range(60)]
    fitted = fit_adapter_from_episodes(
        CountingModel(), episodes, transitions=500, heldout=600, metres_per_unit=0.04
    )
    assert fitted.metres_per_unit == 0.04
    assert fitted.evidence["labelled_transitions"] == 500 and fitted.evidence["heldout_transitions"] == 600
    assert fitted.evidence["heldout_top1"] == 1.0 and 0.125 <= fitted.evidence["heldout_majority"] < 0.25
    assert fitted.counts_C.sum() == 500
    with pytest.raises(DataError, match="wanted 500"):
        fit_adapter_from_episodes(CountingModel(), episodes[:5])


def test_episodes_without_actions_are_refused() -> None:
    with pytest.raises(DataError, match="no actions"):
        labelled_transitions(CountingModel(), [replace(episode(5), actions_TA=None)], 10)
