"""Stored actions to the common convention; scipy's rotations are the oracle."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from genie_robot.data.actions import ActionStatistics, common_actions
from genie_robot.data.open import open_dataset
from genie_robot.data.registry import REGISTRY, feature_path
from genie_robot.errors import DataError

numbers = st.floats(-2, 2, width=32)
rows = arrays(np.float32, st.tuples(st.integers(0, 9), st.just(7)), elements=numbers)
FRACTAL = {
    "steps/action/world_vector": np.array([[0.1, 0, 0], [0, -0.2, 0.3]]),
    "steps/action/rotation_delta": np.array([[0, 0, 0.5], [0.1, 0, 0]]),
    "steps/action/gripper_closedness_action": np.array([[1.0], [-1.0]]),
}


def walk(seed: int = 0, steps: int = 6) -> tuple[np.ndarray, Rotation, np.ndarray]:
    """Positions (T, 3) [m], orientations, and the actions (T, 6) that lead from each to the next."""
    rng = np.random.default_rng(seed)
    positions = np.cumsum(rng.normal(scale=0.02, size=(steps, 3)), axis=0) + [0.4, 0, 0.3]
    turns = Rotation.from_rotvec(rng.normal(scale=0.1, size=(steps - 1, 3)))
    orientations = [Rotation.from_rotvec(rng.normal(size=3))]
    for turn in turns:
        orientations.append(turn * orientations[-1])
    motion = np.zeros((steps, 6))
    motion[:-1, :3], motion[:-1, 3:] = np.diff(positions, axis=0), turns.as_rotvec()
    return positions, Rotation.concatenate(orientations), motion


def test_fractal_is_the_convention() -> None:
    actions_TA = common_actions("fractal20220817_data", FRACTAL)
    np.testing.assert_array_equal(
        actions_TA, np.concatenate(list(FRACTAL.values()), axis=1).astype(np.float32)
    )
    assert actions_TA.dtype == np.float32


@given(rows)
def test_an_unknown_data_set_is_taken_as_it_is(action: np.ndarray) -> None:
    np.testing.assert_array_equal(common_actions("mine", {"steps/action": action}), action)


@given(rows)
def test_bridge_angles_and_open_gripper(action: np.ndarray) -> None:
    actions_TA = common_actions("bridge_dataset", {"steps/action": action})
    np.testing.assert_array_equal(actions_TA[:, :3], action[:, :3])
    if len(action):
        turn = Rotation.from_euler("xyz", action[:, 3:6])
        got = Rotation.from_rotvec(actions_TA[:, 3:6])
        assert (got * turn.inv()).magnitude().max() < 1e-5
    np.testing.assert_allclose(actions_TA[:, 6], 1 - 2 * np.clip(action[:, 6], 0, 1), atol=1e-6)


def test_bridge_actions_are_the_measured_motion_of_their_step(shared_dataset: Callable[[str], Path]) -> None:
    """On real episodes: right axes, signs, units and step; the arm lags, so the match is not exact."""
    steps, before, measured, closing = [], [], [], []
    for episode in open_dataset(shared_dataset("bridge_octo_rlds")).episodes(actions=True, state=True):
        assert episode.actions_TA is not None
        assert episode.state_TS is not None
        orientations = Rotation.from_euler("xyz", episode.state_TS[:, 3:6])
        turns = (orientations[1:] * orientations[:-1].inv()).as_rotvec()
        motion = np.c_[np.diff(episode.state_TS[:, :3], axis=0), turns]
        steps.append(episode.actions_TA[1:-1])
        before.append(motion[:-1])
        measured.append(motion[1:])
        closing.append(-np.diff(episode.state_TS[:, 6])[1:])  # the state is how far it is open
    action, measured, before = (np.concatenate(parts) for parts in (steps, measured, before))
    for axis in range(6):
        slope = action[:, axis] @ measured[:, axis] / (action[:, axis] @ action[:, axis])
        assert 0.5 < slope < 1.2, axis
        same_step = np.corrcoef(action[:, axis], measured[:, axis])[0, 1]
        assert same_step > 0.75, axis
        assert same_step > np.corrcoef(action[:, axis], before[:, axis])[0, 1], axis
    shut = action[:, 6] > 0
    assert np.concatenate(closing)[shut].mean() > 0.1 > np.concatenate(closing)[~shut].mean()


def test_bridge_of_open_x_embodiment_has_a_bool() -> None:
    parts = {"steps/action/open_gripper": np.array([True, False]), **FRACTAL}
    assert common_actions("bridge", parts)[:, 6].tolist() == [-1, 1]


def test_taco_units_are_centimetres_and_its_gripper_opens_at_one() -> None:
    action = np.array([[1, -1, 0.5, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, -1]])
    actions_TA = common_actions("taco_play", {"steps/action/rel_actions_world": action})
    np.testing.assert_allclose(actions_TA[0], [0.02, -0.02, 0.01, 0, 0, 0.05, -1], atol=1e-7)
    assert actions_TA[1, 6] == 1


def test_language_table_moves_in_the_plane() -> None:
    actions_TA = common_actions("language_table", {"steps/action": np.array([[0.01, -0.02]])})
    np.testing.assert_allclose(actions_TA, [[0.01, -0.02, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("seed", range(5))
def test_motion_from_measured_poses(seed: int) -> None:
    positions, orientations, motion = walk(seed)
    steps = len(positions)
    matrices = np.tile(np.eye(4), (steps, 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = orientations.as_matrix(), positions
    columns = matrices.transpose(0, 2, 1).reshape(steps, 16)
    wxyz = np.roll(orientations.as_quat(), 1, axis=1)
    # scipy, as DLR's own page: lower case letters are turns about fixed axes
    zxy = orientations.as_euler("zxy")
    gripper = np.linspace(0, 1, steps)
    cases: dict[str, dict[str, Any]] = {
        "droid": {
            "observation/cartesian_position": np.c_[positions, orientations.as_euler("xyz")],
            "action_dict/gripper_position": gripper[:, None],
        },
        "austin_sailor_dataset": {"observation/state_ee": columns, "action": np.zeros((steps, 7))},
        "uiuc_d3field": {"observation/state": matrices},
        "maniskill_dataset": {
            "observation/tcp_pose": np.c_[positions, wxyz],
            "action": np.ones((steps, 7)),
        },
        "stanford_hydra_dataset": {
            "observation/state": np.c_[positions, orientations.as_quat(), np.zeros((steps, 20))],
            "action": np.zeros((steps, 7)),
        },
        "dlr_sara_pour": {"observation/state": np.c_[positions, zxy]},
        "bc_z": {
            "observation/present/xyz": positions,
            "observation/present/axis_angle": orientations.as_rotvec(),
            "action/future/target_close": np.ones((steps, 10), np.int64),
        },
    }
    grippers = {"droid": 2 * gripper - 1, "austin_sailor_dataset": -1, "maniskill_dataset": -1, "bc_z": 1}
    for name, values in cases.items():
        full = {"steps/" + key: value for key, value in values.items()}
        actions_TA = common_actions(name, full)
        np.testing.assert_allclose(actions_TA[:, :6], motion, atol=1e-5, err_msg=name)
        wanted = grippers.get(name, -1 if "action" in values else 0)
        np.testing.assert_allclose(actions_TA[:, 6], np.broadcast_to(wanted, steps), atol=1e-6, err_msg=name)


def test_a_target_is_reached_one_frame_later() -> None:
    positions, orientations, motion = walk()
    reached = np.c_[positions * 1000, orientations.as_euler("xyz", degrees=True), np.zeros(6), np.zeros(6)]
    target = np.r_[reached[1:], reached[-1:]]  # the pose of frame t + 1 is commanded in step t
    actions_TA = common_actions("ucsd_kitchen_dataset", {"steps/action": target})
    np.testing.assert_allclose(actions_TA[0, :6], 0)  # where the arm stood before is not stored
    np.testing.assert_allclose(actions_TA[1:-1, :6], motion[1:-1], atol=1e-5)
    assert (actions_TA[:, 6] == 1).all()


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_metres_and_millimetres_are_told_apart(unit: float) -> None:
    positions, _, motion = walk()
    state = np.c_[positions * unit, np.zeros((6, 4))]
    values = {"steps/observation/state": state, "steps/action": np.zeros((6, 8))}
    actions_TA = common_actions("utokyo_pr2_opening_fridge", values)
    np.testing.assert_allclose(actions_TA[:, :3], motion[:, :3], atol=1e-6)


def test_a_pose_that_was_never_set_gives_no_motion() -> None:
    positions, orientations, motion = walk()
    matrices = np.tile(np.eye(4), (6, 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = orientations.as_matrix(), positions
    states = matrices.transpose(0, 2, 1).reshape(6, 16)
    states[2] = 0
    values = {"steps/observation/state_ee": states, "steps/action": np.zeros((6, 7))}
    actions_TA = common_actions("austin_sirius_dataset", values)
    still = np.abs(actions_TA[:, :6]).max(axis=1) < 1e-9
    assert still.tolist() == [False, True, True, False, False, True]
    np.testing.assert_allclose(actions_TA[3, :6], motion[3], atol=1e-5)


@pytest.mark.parametrize("name", sorted(REGISTRY))
@settings(max_examples=5, deadline=None)
@given(num_steps=st.integers(0, 4), seed=st.integers(0, 99))
def test_every_layout_gives_finite_numbers_or_says_why_not(name: str, num_steps: int, seed: int) -> None:
    facts, rng = REGISTRY[name], np.random.default_rng(seed)
    if not facts.actions:
        with pytest.raises(DataError, match=f"{name} has no end-effector motion") as caught:
            common_actions(name, {"steps/action": np.zeros((2, 7))})
        assert facts.no_action in str(caught.value)
        return
    for layout in facts.actions:
        wide = {feature_path(place): rng.normal(size=(num_steps, 40)) for place in layout.places}
        for place in layout.places:  # without columns, the width of a place is the one of its meaning
            if "[" not in place:
                size = 16 if "matrix" in layout.rotation_as and place != layout.gripper else 3
                wide[feature_path(place)] = wide[feature_path(place)][
                    :, : 1 if place == layout.gripper else size
                ]
        actions_TA = common_actions(name, wide)
        assert actions_TA.shape == (num_steps, 7)
        assert np.isfinite(actions_TA).all()
        if layout.gripper_as != "step":
            assert np.abs(actions_TA[:, 6]).max(initial=0) <= 1


def test_what_cannot_be_used_is_one_line() -> None:
    broken = {**FRACTAL, "steps/action/world_vector": np.array([[np.nan, 0, 0], [0, 0, 0]])}
    for name, values, message in (
        ("fractal20220817_data", broken, "steps/action/world_vector holds NaN"),
        ("mine", {"steps/action": np.zeros((2, 8))}, "hold 8 numbers a step; wanted 7"),
        ("droid", {"steps/action": np.zeros((2, 7))}, "droid has no end-effector motion in"),
        ("robo_set", {"steps/action": np.zeros((2, 8))}, "joint positions"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            common_actions(name, values)
        assert "\n" not in str(caught.value)


@given(arrays(np.float32, st.tuples(st.integers(1, 50), st.just(7)), elements=numbers))
def test_statistics_survive_json(actions_NA: np.ndarray) -> None:
    statistics = ActionStatistics.of(actions_NA)
    again = ActionStatistics.from_dict(json.loads(json.dumps(statistics.as_dict())))
    assert again.count == len(actions_NA)
    np.testing.assert_allclose(again.mean, actions_NA.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(again.deviation, actions_NA.astype(np.float64).std(axis=0))
    assert (again.q01 <= again.q99).all()
    assert (again.q01 >= actions_NA.min(axis=0) - 1e-9).all()
    assert (again.q99 <= actions_NA.max(axis=0) + 1e-9).all()


def test_statistics_that_cannot_be_had_are_one_line() -> None:
    with pytest.raises(DataError, match="no action to take statistics of"):
        ActionStatistics.of(np.zeros((0, 7)))
    good = ActionStatistics.of(np.zeros((3, 7))).as_dict()
    for change in ({"mean": [0.0]}, {"count": "many"}, {"q01": None}):
        with pytest.raises(DataError, match="action statistics"):
            ActionStatistics.from_dict({**good, **change})
