"""Calibration on known outcomes, floors that do not look, and the optimism test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.judges import StateJudge, Verdicts
from genie_robot.evaluation.judges.blind import ActionFloor, ShuffledFloor, blind_judges
from genie_robot.evaluation.judges.calibration import (
    calibrate,
    calibration_table,
    expected_calibration_error,
    films_by_task,
    judge_films,
)
from genie_robot.evaluation.judges.optimism import Optimism, optimism, replay
from genie_robot.evaluation.judges.state_judge import is_success
from tests.evaluation.judge_films import LENGTH, SUITE, KnowingProbe, labelled_films


def said(success: list[bool], confidence: list[float]) -> Verdicts:
    return Verdicts(
        np.array(success), np.ones(len(success)), np.array(confidence), np.zeros(len(success), bool)
    )


def test_calibration_by_hand() -> None:
    verdicts = said([True, True, False, False], [0.9, 0.6, 0.8, 1.0])  # p = .9, .6, .2, 0
    figures = calibrate(verdicts, np.array([True, False, True, False]))
    assert (figures.errors.sensitivity, figures.errors.specificity, figures.accuracy) == (0.5, 0.5, 0.5)
    assert figures.brier == pytest.approx((0.01 + 0.36 + 0.64 + 0) / 4)
    assert figures.ece == pytest.approx((0.1 + 0.6 + 0.8 + 0) / 4)


def test_expected_calibration_error_is_small_for_honest_probabilities_only() -> None:
    rng = np.random.default_rng(0)
    honest = rng.random(20_000)
    truth = rng.random(20_000) < honest
    assert expected_calibration_error(honest, truth) < 0.015
    assert expected_calibration_error(np.where(honest > 0.5, 1.0, 0.0), truth) == pytest.approx(
        0.25, abs=0.01
    )
    assert np.isnan(expected_calibration_error(np.array([np.nan, 0.1]), np.array([True, False])))


class PictureJudge:
    """Reads the films of `labelled_films`: dark is near."""

    name = hash = "picture"

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        dark_BT = frames_BTYXC.mean(axis=(2, 3, 4)) < 45
        success = (dark_BT[:, 1:] & dark_BT[:, :-1]).any(axis=1)
        return Verdicts(success, success.astype(float), np.ones(len(success)), np.zeros(len(success), bool))


def test_a_judge_that_sees_is_right_and_blind_ones_are_not() -> None:
    data, held_out = labelled_films(24), labelled_films(12, seed=1)
    seeing = judge_films(PictureJudge(), held_out)
    assert seeing["reach"].accuracy == seeing["all"].accuracy == 1.0
    floors = {judge.name: judge_films(judge, held_out)["all"] for judge in blind_judges(data)}
    assert floors["task and duration"].accuracy == 0.5
    assert floors["first frame"].accuracy < 0.9  # the first frames are alike
    assert floors["task and duration"].brier == pytest.approx(0.25)
    blank = np.full_like(held_out.frames_FYXC, 200)
    assert judge_films(PictureJudge(), held_out, blank)["all"].accuracy == 0.5
    assert "| reach | 12 | 6 | 1.000 [" in calibration_table(seeing)


def test_the_duration_floor_knows_that_nobody_succeeds_at_once() -> None:
    data = labelled_films(24)
    floor = blind_judges(data)[0]
    films = data.frames_FYXC.reshape(24, LENGTH, 64, 64, 3)
    assert floor.judge(films, "reach").probability_B == pytest.approx(0.5)
    assert floor.judge(films[:, :3], "reach").probability_B == pytest.approx(0.0)
    with pytest.raises(ConfigError, match="'drawer'"):
        floor.judge(films, "drawer")


def test_shuffled_films_keep_their_first_frame_and_their_frames() -> None:
    films = np.zeros((2, 6, 64, 64, 3), np.uint8)
    films[:] = np.arange(6)[:, None, None, None]
    seen = []

    class Watcher(PictureJudge):
        def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
            seen.append(frames_BTYXC[:, :, 0, 0, 0])
            return super().judge(frames_BTYXC, task)

    floor = ShuffledFloor(Watcher())
    floor.judge(films, "reach")
    floor.judge(films, "reach")
    assert (seen[0][:, 0] == 0).all() and (np.sort(seen[0]) == np.arange(6)).all()
    assert (seen[0] != np.arange(6)).any() and np.array_equal(seen[0], seen[1])


def test_actions_alone_tell_these_films_apart() -> None:
    data, held_out = labelled_films(24), labelled_films(12, seed=1)
    actions = held_out.actions_FA.reshape(12, LENGTH, 7)[:, :-1]
    probability = ActionFloor.fit(data).probability(actions, "reach")
    assert ((probability > 0.5) == (np.arange(12) % 2 == 1)).all()
    found = ActionFloor.fit(data).calibrate(held_out)
    assert found.accuracy == 1.0 and (found.errors.successes, found.errors.failures) == (6, 6)


def test_films_need_a_task_and_one_length() -> None:
    data = labelled_films(2)
    odd = type(data)(
        SUITE, data.frames_FYXC, data.states_FS, data.actions_FA, (LENGTH, LENGTH), ("", "reach")
    )
    with pytest.raises(DataError, match="task ''"):
        list(films_by_task(odd))
    cut = type(data)(SUITE, data.frames_FYXC, data.states_FS, data.actions_FA, (LENGTH, 3), data.tasks_E)
    with pytest.raises(DataError, match="3 to 8 frames"):
        list(films_by_task(cut))


def test_optimism_counts_failures_that_are_shown_as_successes(model, tmp_path: Path) -> None:
    data = labelled_films(6)
    success = np.repeat(data.states_FS.reshape(6, LENGTH, -1)[1:2], 6, axis=0)
    dreamer = StateJudge(KnowingProbe(success), "manipulation")  # whatever is imagined is read as a success
    assert optimism(model, dreamer, data, batch=6)["reach"] == Optimism(3, 3, 3, 3, 0)
    true = StateJudge(KnowingProbe(data.states_FS.reshape(6, LENGTH, -1)), "manipulation")
    honest = optimism(model, true, data, batch=6)["reach"]
    assert honest == Optimism(3, 0, 3, 3, 0) and honest.rate == 0.0
    assert is_success(SUITE, "reach", data.states_FS.reshape(6, LENGTH, -1)).tolist() == [False, True] * 3


def test_a_replay_is_open_loop_from_the_first_frame_and_repeatable(model) -> None:
    data = labelled_films(2)
    frames = data.frames_FYXC.reshape(2, LENGTH, 64, 64, 3)
    actions = data.actions_FA.reshape(2, LENGTH, 7)
    films = replay(model, frames, actions, maskgit_steps=1)
    assert films.shape == frames.shape and films.dtype == np.uint8
    assert np.array_equal(films, replay(model, frames, actions, maskgit_steps=1))
