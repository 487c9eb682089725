"""Judges: the state judge applies MuJoCo's own rule, the classifier learns it from pictures, a user's own is checked."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.errors import ConfigError, ImageError, ModelFolderError, PolicyError
from genie_robot.evaluation.judges import StateJudge, Verdicts, combine, load_judge, plugins, save_classifier
from genie_robot.evaluation.judges.classifier import ClassifierJudge, FrameClassifier, sustained
from genie_robot.evaluation.judges.train_judge import frame_labels, train_classifier
from genie_robot.evaluation.judges.validity import film_measures, freeze_limits, is_invalid
from genie_robot.evaluation.probe import ProbePair
from genie_robot.simulation.success import SUSTAIN, success_step
from tests.evaluation.judge_films import SUITE, KnowingProbe, black, labelled_films, reach_states


def state_judge(states_BTS: np.ndarray, **options) -> Verdicts:
    return StateJudge(KnowingProbe(states_BTS, **options), "manipulation").judge(black(states_BTS), "reach")


def test_success_is_mujocos_rule_on_the_read_states_two_frames_in_a_row() -> None:
    approach = np.full((3, 6), 0.1)
    approach[1, [1, 3]] = 0.0  # there twice, never two frames in a row
    approach[2, 3:5] = 0.0  # there for two frames, then gone again
    verdicts = state_judge(reach_states(approach))
    assert verdicts.success_B.tolist() == [False, False, True]
    assert verdicts.score_B[2] == 1.0 and verdicts.score_B[0] == pytest.approx(0.0, abs=1e-6)
    assert verdicts.score_B[1] == pytest.approx(1.0) and not verdicts.success_B[1]
    assert verdicts.states_BTS is not None and verdicts.states_BTS.shape == (3, 6, 14)
    assert not verdicts.invalid_B.any()


def test_a_hand_in_front_of_the_goal_does_not_move_it() -> None:
    states = reach_states(np.full((1, 7), 0.1))
    states[0, 2:4, 7:9] = 0.0  # the goal is misread in two frames
    read = state_judge(states).states_BTS
    assert read is not None and np.allclose(read[0, :, 7:9], (0.4, 0.1))


def test_confidence_falls_where_the_reading_error_could_turn_the_verdict() -> None:
    near, far = (reach_states(np.full((1, 4), away)) for away in (0.036, 0.15))
    sure = state_judge(far, error_m=0.003).confidence_B[0]
    unsure = state_judge(near, error_m=0.003).confidence_B[0]
    assert sure == 1.0 and unsure < 0.8
    assert state_judge(near, error_m=0.003).confidence_B[0] == unsure
    assert np.isnan(state_judge(near, error_m=np.nan).confidence_B[0])


def test_a_probe_of_another_suite_and_a_wrong_task_are_refused(probes: ProbePair) -> None:
    with pytest.raises(ConfigError, match="9 numbers"):
        StateJudge(probes.judge, "manipulation")
    judge = StateJudge(probes.judge, "tabletop")
    with pytest.raises(ConfigError, match="'reach'"):
        judge.judge(np.zeros((1, 2, 64, 64, 3), np.uint8), "reach")
    with pytest.raises(ImageError, match="64, 64, 3"):
        judge.judge(np.zeros((1, 2, 32, 32, 3), np.uint8), "push")
    assert judge.hash != StateJudge(probes.eyes, "tabletop").hash


def test_films_that_jump_or_cannot_be_read_are_invalid_not_failures() -> None:
    smooth = reach_states(np.linspace(0.18, 0.0, 10)[None].repeat(4, axis=0))
    doubt = np.full((4, 10), 0.004)
    limits = freeze_limits(film_measures(smooth, doubt))
    assert not is_invalid(smooth, doubt, limits).any() and not is_invalid(smooth, doubt, None).any()
    jumping = smooth.copy()
    jumping[1, 5:, 4] += 0.2  # the object is elsewhere from one frame to the next
    jumping[2, 5, 4] += 0.2  # one misread frame
    doubt[3] = 0.02
    assert is_invalid(jumping, doubt, limits).tolist() == [False, True, False, True]
    judged = state_judge(jumping, limits={"uncertainty_m": 1.0, "hand_step_m": 0.05, "object_step_m": 0.05})
    assert judged.invalid_B.tolist() == [False, True, False, False] and judged.success_B[3]


def test_judges_that_differ_are_undecided() -> None:
    def said(*success: bool) -> Verdicts:
        ones = np.ones(len(success))
        return Verdicts(np.array(success), ones, ones, np.zeros(len(success), bool))

    both = combine(said(True, True, False, False), said(True, False, True, False))
    assert both.tolist() == ["success", "undecided", "undecided", "failure"]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_the_classifier_follows_the_rule_of_all_worlds(probabilities: list[float]) -> None:
    fulfilled = np.array(probabilities) > 0.5
    assert (sustained(np.array([probabilities]))[0] > 0.5) == (success_step(fulfilled) > 0)
    assert SUSTAIN == 2


def test_frame_labels_are_the_suites_own() -> None:
    data = labelled_films(4)
    fulfilled, progress = frame_labels(data)
    assert fulfilled.tolist() == [SUITE.task_success("reach", state) for state in data.states_FS]
    assert (progress[fulfilled] == 1).all() and progress.reshape(4, -1)[:, 0].max() == 0
    assert progress.reshape(4, -1)[0, -1] == pytest.approx(1 / 3, abs=0.01)


def test_the_classifier_learns_success_and_progress_from_pictures(tmp_path: Path) -> None:
    data, held_out = labelled_films(24), labelled_films(10, seed=1)
    judge = train_classifier([data.frames_FYXC], data, seed=3, steps=30, batch_size=24, progress=False)
    films = held_out.frames_FYXC.reshape(10, -1, 64, 64, 3)
    verdicts = judge.judge(films, "reach")
    assert verdicts.success_B.tolist() == [False, True] * 5
    assert verdicts.score_B[1::2].min() > verdicts.score_B[::2].max()
    assert (verdicts.confidence_B >= 0.5).all() and np.allclose(
        verdicts.probability_B > 0.5, verdicts.success_B
    )

    digest = save_classifier(tmp_path, judge, "card")
    loaded = load_judge(tmp_path, "manipulation")
    assert loaded.hash == digest and np.array_equal(loaded.judge(films, "reach").score_B, verdicts.score_B)
    with pytest.raises(ModelFolderError, match="wanted tabletop"):
        load_judge(tmp_path, "tabletop")
    onward = train_classifier(
        [data.frames_FYXC],
        data,
        seed=3,
        init=judge,
        steps=2,
        learning_rate=1e-5,
        batch_size=4,
        progress=False,
    )
    assert onward.judge(films, "reach").success_B.tolist() == [False, True] * 5


def test_the_classifier_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    judge = ClassifierJudge(FrameClassifier(5), "manipulation", 0)
    with pytest.raises(ConfigError, match="'fly'"):
        judge.judge(np.zeros((1, 3, 64, 64, 3), np.uint8), "fly")
    with pytest.raises(ImageError, match="classifier"):
        judge.judge(np.zeros((1, 3, 64, 64, 3), np.float32), "reach")
    with pytest.raises(ModelFolderError, match="no config"):
        load_judge(tmp_path, "manipulation")
    with pytest.raises(ConfigError, match="neither-folder-nor-judge"):
        load_judge("neither-folder-nor-judge", "manipulation")


class VisionJudge:
    """A user's judge, as an entry point makes it."""

    name, hash = "vision", "abc"

    def __init__(self, suite: str) -> None:
        self.suite = suite

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> SimpleNamespace:
        count = len(frames_BTYXC)
        if task == "push":
            raise RuntimeError("no network")
        invalid = np.zeros(1 if task == "pick_lift" else count, bool)
        words = np.full(count, "sure") if task == "pick_place" else np.full(count, 0.9)
        score = np.full(count, 1.5 if task == "drawer" else 0.5)
        return SimpleNamespace(
            success_B=np.ones(count, bool), score_B=score, confidence_B=words, invalid_B=invalid
        )


def test_a_users_judge_comes_by_entry_point_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("vlm", f"{__name__}:VisionJudge", plugins.GROUP),
        EntryPoint("odd", "builtins:str", plugins.GROUP),
        EntryPoint("gone", "no_such_module:make", plugins.GROUP),
    ]
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: entries if group == "genie_robot.judges" else []
    )
    judge, films = load_judge("vlm", "manipulation"), np.zeros((2, 3, 64, 64, 3), np.uint8)
    assert (judge.name, judge.hash) == ("vision", "abc")
    verdicts = judge.judge(films, "reach")
    assert verdicts.success_B.all() and not verdicts.invalid_B.any() and verdicts.states_BTS is None
    for task, message in (
        ("push", "no network"),
        ("drawer", "from 0 to 1"),
        ("pick_lift", r"invalid \(1,\)"),
        ("pick_place", "sure"),
    ):
        with pytest.raises(PolicyError, match=message) as caught:
            judge.judge(films, task)
        assert "\n" not in str(caught.value)
    for name, message in (
        ("odd", "wanted an object"),
        ("gone", "no_such_module"),
        ("other", "gone, odd, vlm"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_judge(name, "manipulation")
