"""The commanded pose: the simulator's own, found again from the actions alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genie_robot.data.commands import (
    COMMAND_SIZE,
    MAX_YAW_RAD,
    POSE_NAMES,
    WORKSPACE_HIGH_M,
    WORKSPACE_LOW_M,
    commands,
    next_pose,
    poses_of,
)
from genie_robot.errors import DataError
from genie_robot.simulation.mujoco.tasks import STATE_NAMES

START = np.array([0.4, 0.0, 0.1, 0.0, 1.0])


def test_one_step_by_hand() -> None:
    action = np.array([1.0, -0.5, 0.25, 0.9, 0.9, 1.0, 0.6])
    assert next_pose(START, action) == pytest.approx([0.44, -0.02, 0.11, 0.35, 0.0])
    assert next_pose(START, 0.4 * action)[4] == 1.0  # a weak gripper action leaves it as it is
    assert next_pose(next_pose(START, action), -action)[4] == 1.0


@given(arrays(np.float64, (6, 3, 7), elements=st.floats(-1, 1)))
def test_poses_stay_in_reach_and_a_batch_is_its_episodes(actions: np.ndarray) -> None:
    starts = np.stack([START] * 6)
    rows = commands(starts, actions)
    assert rows.shape == (6, 3, COMMAND_SIZE) and np.array_equal(rows[2], commands(START, actions[2]))
    assert (rows[..., 7:10] >= WORKSPACE_LOW_M - 1e-6).all() and (
        rows[..., 7:10] <= WORKSPACE_HIGH_M + 1e-6
    ).all()
    assert (np.abs(rows[..., 10]) <= MAX_YAW_RAD + 1e-6).all() and np.isin(rows[..., 11], (0.0, 1.0)).all()


def test_the_simulator_goes_where_the_commands_say() -> None:
    pytest.importorskip("mujoco")
    from genie_robot.simulation.suites import get_suite

    suite, rng = get_suite("manipulation"), np.random.default_rng(0)
    env = suite.make_env("reach")
    _, info = env.reset(seed=3)
    start = poses_of(info["state"], suite.state_names)
    actions = rng.uniform(-0.6, 0.6, (12, 7))
    reached = [poses_of(env.step(action)[-1]["state"], suite.state_names) for action in actions]
    asked = commands(start, actions)[:, 7:]
    assert np.abs(np.array(reached)[:, :3] - asked[:, :3]).max() < 0.006
    assert np.abs(np.array(reached)[:, 3] - asked[:, 3]).max() < 0.06
    assert np.abs(env.unwrapped.simulator.commanded_m - asked[-1, :3]).max() < 0.003


def test_states_without_a_yaw_or_without_a_gripper() -> None:
    states = np.arange(9.0)[None]
    assert poses_of(states, STATE_NAMES).tolist() == [[0.0, 1.0, 2.0, 0.0, 3.0]]
    with pytest.raises(DataError, match=POSE_NAMES[0]):
        poses_of(states, ("joint_1",) * 9)
    assert commands(START, np.zeros((0, 7))).shape == (0, COMMAND_SIZE)
