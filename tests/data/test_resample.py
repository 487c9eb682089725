from __future__ import annotations

import itertools
import logging

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.resample import combine_actions, stride_for
from genie_robot.errors import ConfigError


@pytest.mark.parametrize(
    ("rate_hz", "wanted_hz", "stride"),
    [(3, 3, 1), (15, 3, 5), (10, 3, 3), (5, 3, 2), (30, 5, 6), (12.5, 0, 1), (3, 3.2, 1)],
)
def test_strides(rate_hz: float, wanted_hz: float, stride: int) -> None:
    assert stride_for("toy", rate_hz, wanted_hz) == stride


def test_a_slower_recording_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"got 5, but toy was recorded at 3 Hz.*model.video.rate_hz=3.*leave the dataset out",
    ):
        stride_for("toy", 3, 5)


def test_a_rate_that_is_missed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        stride_for("toy", 15, 3)
        assert not caplog.records
        stride_for("toy", 4.2, 3)
        stride_for("toy", 2, 3)
    assert "4.2 Hz where 3 was wanted" in caplog.text
    assert "2 Hz where 3 was wanted" in caplog.text


@given(st.integers(0, 20), st.integers(1, 6))
def test_actions_lead_from_one_kept_frame_to_the_next(num_frames: int, stride: int) -> None:
    """Adding actions up gives the position at every kept frame, whatever the stride."""
    rng = np.random.default_rng([num_frames, stride])
    actions_TA = rng.integers(-8, 9, (num_frames, 7)).astype(np.float32)  # whole numbers: sums are exact
    positions = np.concatenate([np.zeros((1, 3)), np.cumsum(actions_TA[:, :3], axis=0)])
    kept = list(range(0, num_frames, stride))
    combined = combine_actions(actions_TA, stride)
    assert len(combined) == len(kept)
    for row, (first, last) in enumerate(itertools.pairwise(kept)):
        np.testing.assert_array_equal(positions[first] + combined[row, :3], positions[last])


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_turns_are_made_one_after_another(stride: int) -> None:
    """An arm that turns by each action stands at every kept frame as it would without leaving any out."""
    rng = np.random.default_rng(stride)
    actions_TA = np.zeros((11, 7), np.float32)
    actions_TA[:, 3:6] = rng.normal(scale=0.2, size=(11, 3))  # about 20 degrees a step
    orientations = [np.eye(3)]
    for vector in actions_TA[:, 3:6].astype(np.float64):
        orientations.append(cv2.Rodrigues(vector)[0] @ orientations[-1])
    turn = np.eye(3)
    for row, last in zip(combine_actions(actions_TA, stride), range(stride, 11, stride), strict=False):
        turn = cv2.Rodrigues(row[3:6].astype(np.float64))[0] @ turn
        np.testing.assert_allclose(turn, orientations[last], atol=1e-6)


def test_a_step_with_an_unknown_action_is_unknown() -> None:
    actions = np.zeros((6, 7), np.float32)
    actions[1] = np.nan
    assert np.isnan(combine_actions(actions, 2)).any(axis=1).tolist() == [True, False, False]
    assert np.isnan(combine_actions(actions, 2)[0]).all()


def test_the_gripper_does_what_it_was_told_last() -> None:
    actions = np.zeros((6, 7), np.float32)
    actions[:, 6] = [1, 0, 0, -1, 1, 0]  # a 0 keeps
    assert combine_actions(actions, 3)[:, 6].tolist() == [1, 1]
    assert combine_actions(actions, 4)[:, 6].tolist() == [-1, 1]
    assert combine_actions(np.zeros((5, 7), np.float32), 2)[:, 6].tolist() == [0, 0, 0]
