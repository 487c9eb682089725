"""Drift, object permanence, inverse dynamics, counterfactual pairs: what they say where the answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation import counterfactual, drift
from genie_robot.evaluation.controllability import measure_delta, of_another_episode
from genie_robot.evaluation.drift import (
    at_horizons,
    errors_m,
    inverse_dynamics_excess,
    lost_after,
    measure_drift,
    object_permanence,
)
from genie_robot.evaluation.heldout import HeldOut, collect_clips
from genie_robot.evaluation.imagination import ModelEvalConfig, RobotDrive, films
from genie_robot.evaluation.probe import ProbePair
from genie_robot.evaluation.video import psnr_per_frame
from genie_robot.simulation.action_interface import infer_codes

CONFIG = ModelEvalConfig(prompt_frames=1, horizon=4, draws=1, maskgit_steps=1, batch_size=4)


class TableReader:
    """A probe that knows the state of each frame it was shown before, found by its bytes; elsewhere it guesses."""

    def __init__(
        self, frames: np.ndarray, states: np.ndarray, guess: float, *, knows_doubt: bool = False
    ) -> None:
        self.known = {
            f.tobytes(): s
            for f, s in zip(frames.reshape(-1, *frames.shape[-3:]), states.reshape(-1, 9), strict=True)
        }
        self.guess, self.knows_doubt = guess, knows_doubt

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.read(images)[0]

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States, and an expected error of 1 mm where the frame is known and 1 m elsewhere; or none at all."""
        found = [self.known.get(f.tobytes()) for f in images.reshape(-1, *images.shape[-3:])]
        states = np.stack([np.full(9, self.guess) if state is None else state for state in found])
        doubt = np.array([1.0 if state is None else 0.001 for state in found])
        errors = np.repeat(doubt[:, None], 9, axis=1) if self.knows_doubt else np.full_like(states, np.nan)
        shape = (*images.shape[:-3], 9)
        return states.reshape(shape), errors.reshape(shape)


def two_readers(clips: HeldOut, wanted: str = "disagreement") -> ProbePair:
    """Two readers that know true frames; elsewhere they disagree, or the first is unsure while they agree."""
    guesses = (0.0, 0.1) if wanted == "disagreement" else (0.0, 0.0)
    assert clips.states_BTS is not None
    knows_doubt = wanted == "expected error"
    readers: list[Any] = [
        TableReader(clips.video_BTYXC, clips.states_BTS, guess, knows_doubt=knows_doubt) for guess in guesses
    ]
    return ProbePair(judge=readers[0], eyes=readers[1])


@pytest.fixture(scope="module")
def clips(episodes: list) -> HeldOut:
    return collect_clips(episodes, clips=6, frames=7)


def test_an_object_that_fell_off_the_table_does_not_count(model, clips) -> None:
    probes, codes = two_readers(clips), infer_codes(model, clips.video_BTYXC)
    states = clips.states_BTS.copy()
    states[0, 3:, 6], states[:, 6:, 6] = -80.0, -80.0  # from then on it falls and falls
    result = measure_drift(model, replace(clips, states_BTS=states), codes, CONFIG, probes)
    assert result.curves["object_on_table"]["true_frames"] == pytest.approx([1, 1, *[5 / 6] * 3, 0], abs=1e-4)
    assert result.curves["object_rmse_cm"]["true_frames"] == [0.0] * 5 + [None]
    assert result.curves["object_median_cm"]["imagined"][5] is None
    assert result.curves["ee_rmse_cm"]["true_frames"] == [0.0] * 6


def test_copy_last_is_the_prompt_and_true_frames_have_no_error(model, clips) -> None:
    codes = infer_codes(model, clips.video_BTYXC)
    result = measure_drift(model, clips, codes, CONFIG, two_readers(clips))
    video = clips.video_BTYXC
    want = psnr_per_frame(video[:, 1:], np.broadcast_to(video[:, :1], video[:, 1:].shape)).mean(axis=0)
    assert result.curves["psnr_db"]["copy_last"] == pytest.approx(want, abs=1e-3)
    assert result.curves["ee_rmse_cm"]["true_frames"] == [0.0] * 6
    moved = np.linalg.norm(clips.states_BTS[:, 1:, :3] - clips.states_BTS[:, :1, :3], axis=-1)
    assert result.curves["ee_median_cm"]["copy_last"] == pytest.approx(
        100 * np.median(moved, axis=0), abs=1e-2
    )
    assert result.metrics["h_eps"] == 1 and result.metrics["horizon"] == 6
    assert result.metrics["at"]["psnr_db"]["imagined"]["4"] == result.curves["psnr_db"]["imagined"][3]
    assert result.metrics["at"]["psnr_db"]["imagined"]["8"] is None
    assert result.film_BTYXC.shape == (6, 7, 64, 64, 3)


def test_without_probe_there_are_pictures_alone(model, clips) -> None:
    codes = infer_codes(model, clips.video_BTYXC)[:, :2]
    result = measure_drift(model, replace(clips, video_BTYXC=clips.video_BTYXC[:, :3]), codes, CONFIG)
    assert set(result.curves) == {"psnr_db", "ssim"} and "h_eps" not in result.metrics


def test_errors_and_the_first_lost_frame_by_hand() -> None:
    truth = np.zeros((3, 4, 9))
    read = truth.copy()
    read[..., 0] = [0.0, 0.01, 0.021, 0.05]
    read[..., 4] = 0.03
    read[0, 1, 0] = 0.9  # one clip of three: the median does not mind
    assert errors_m(truth, read)["object"] == pytest.approx(0.03)
    assert lost_after(truth, read) == {"h_eps": 3, "eps_cm": 2.0}
    assert lost_after(truth, truth)["h_eps"] is None


@pytest.mark.parametrize("sign", ["disagreement", "expected error"])
def test_an_object_that_the_probes_cannot_find_is_gone(clips, sign: str) -> None:
    future = clips.video_BTYXC[:, 1:]
    broken = future.copy()
    broken[:, 3:] = 0
    found = object_permanence(two_readers(clips, sign), future, {"imagined": broken, "tokenizer": future})
    assert found == {"imagined": [1.0, 1.0, 1.0, 0.0, 0.0, 0.0], "tokenizer": [1.0] * 6}


def test_at_horizons_beyond_the_clip_is_none() -> None:
    found = at_horizons({"x": {"imagined": [1.0] * 8}}, 8)["x"]["imagined"]
    assert found == {"1": 1.0, "4": 1.0, "8": 1.0, "16": None, "32": None, "64": None}


def driven(count: int = 12, steps: int = 6) -> tuple[HeldOut, np.ndarray]:
    """Frames whose red is the gripper's x; each action moves it by a tenth of itself."""
    rng = np.random.default_rng(0)
    actions = np.zeros((count, steps, 7))
    actions[..., 0] = rng.uniform(-1, 1, (count, steps))
    place = 0.5 + np.concatenate([np.zeros((count, 1)), np.cumsum(0.05 * actions[..., 0], axis=1)], axis=1)
    video = np.zeros((count, steps + 1, 8, 8, 3), np.uint8)
    video[...] = (255 * place)[..., None, None, None].round()
    return HeldOut(video, None, actions.astype(np.float32)), video


def red(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images[..., 0, 0, :1]) / 255.0


def test_inverse_dynamics_excess_is_zero_for_the_truth_and_large_for_a_still_film() -> None:
    clips, video = driven()
    truth = inverse_dynamics_excess(red, clips, video, CONFIG)
    assert truth["excess"] == pytest.approx(0.0, abs=1e-8)
    assert len(truth["excess_per_horizon"]) == 6 and truth["true_error"] < 0.02
    still = np.repeat(video[:, :1], 7, axis=1)
    assert inverse_dynamics_excess(red, clips, still, CONFIG)["excess"] > 5 * truth["true_error"]
    with pytest.raises(DataError, match="no actions"):
        inverse_dynamics_excess(red, replace(clips, actions_BSA=None), video, CONFIG)


def test_every_clip_gets_the_actions_of_another() -> None:
    for seed in range(20):
        order = of_another_episode(7, np.random.default_rng(seed))
        assert sorted(order) == list(range(7)) and (order != np.arange(7)).all()


def test_robot_actions_reach_a_model_of_codes_by_its_adapter_alone(model, adapter, clips) -> None:
    actions = clips.actions_BSA
    drive = RobotDrive(model, adapter)
    assert drive.interface == "adapter"
    assert np.array_equal(drive.inputs(actions), adapter.code(actions))
    with pytest.raises(ConfigError, match="genie-robot actions MODEL"):
        RobotDrive(model).inputs(actions)


def test_delta_is_zero_between_equal_actions(model, clips) -> None:
    codes = infer_codes(model, clips.video_BTYXC)[:, :4]
    prompts = clips.video_BTYXC[:, :1]
    own = films(model, prompts, codes, CONFIG)[:, 4]
    delta = measure_delta(model, prompts, clips.video_BTYXC[:, 4], own, [codes], CONFIG)
    assert delta.metrics(0)["delta_psnr_t4_db"] == pytest.approx(0.0, abs=1e-9)


@pytest.fixture
def perfect(monkeypatch: pytest.MonkeyPatch):
    """Counterfactual pairs whose imagination is MuJoCo itself (sign 1), or does the opposite (sign -1)."""

    def measure(sign: float, actions: np.ndarray):
        from genie_robot.simulation.suites import get_suite

        ends: list[np.ndarray] = []
        outcome = counterfactual._outcome

        def spy(env, seed, sequence):
            image, first, last = outcome(env, seed, sequence)
            ends.append(last)
            return image, first, last

        def imagined(model, prompts, inputs, config):
            side = ends[imagined.calls :: 2]
            imagined.calls += 1
            return np.stack(side)[:, None]

        imagined.calls = 0
        monkeypatch.setattr(counterfactual, "_outcome", spy)
        monkeypatch.setattr(counterfactual, "imagine", imagined)
        return counterfactual.counterfactual_pairs(
            None, get_suite("tabletop"), actions, lambda a, starts: a, lambda x: sign * x, CONFIG, pairs=4
        )

    return measure


def test_counterfactual_pairs_of_a_perfect_and_of_an_opposite_world(perfect, clips) -> None:
    actions = np.zeros((2, 4, 7), np.float32)
    actions[0, :, 0], actions[1, :, 0] = 1.0, -1.0
    right = perfect(1.0, actions)
    assert right["ee"]["right_sign"] == 1.0 and right["ee"]["axes"] >= 4
    assert right["suite"] == "tabletop" and right["steps"] == 4


def test_counterfactual_pairs_of_an_opposite_world(perfect) -> None:
    actions = np.zeros((2, 4, 7), np.float32)
    actions[0, :, 0], actions[1, :, 0] = 1.0, -1.0
    assert perfect(-1.0, actions)["ee"]["right_sign"] == 0.0


def test_counterfactual_pairs_want_outcomes_that_differ(perfect) -> None:
    with pytest.raises(DataError, match="livelier"):
        perfect(1.0, np.zeros((2, 4, 7), np.float32))


def test_the_fd_window_is_cut_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(drift, "fd_state", lambda truth, imagined, seed: seen.append(truth[0, 0, 0]) or {})
    states = np.arange(20.0)[None, :, None]
    assert list(drift._windowed_fd(states, states, 0)) == ["1", "9"] and seen == [0.0, 8.0]
