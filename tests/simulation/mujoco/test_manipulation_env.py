from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from genie_robot.data.commands import MAX_YAW_RAD, TURN_RAD
from genie_robot.errors import ActionError, ConfigError
from genie_robot.simulation.mujoco import MANIPULATION_IDS, TABLETOP_ID, register_envs
from genie_robot.simulation.mujoco.manipulation.behaviours import Scripted
from genie_robot.simulation.mujoco.manipulation.env import ManipulationEnv, ManipulationSimulator
from genie_robot.simulation.mujoco.manipulation.tasks import EE_YAW, MAX_STEPS, OBJECT_YAW, TASKS


@pytest.mark.parametrize("task", TASKS)
def test_check_env_is_clean_and_the_spaces_are_those_of_tabletop(task):
    register_envs()
    env = gymnasium.make(MANIPULATION_IDS[task], render_mode="rgb_array")
    tabletop = gymnasium.make(TABLETOP_ID)
    assert env.observation_space == tabletop.observation_space
    assert env.action_space == tabletop.action_space
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


@pytest.mark.parametrize("task", TASKS)
def test_an_expert_ends_the_episode_and_doing_nothing_runs_into_the_limit(task):
    register_envs()
    env = gymnasium.make(MANIPULATION_IDS[task])
    expert = Scripted(task)
    _, info = env.reset(seed=3)
    expert.reset(np.random.default_rng(0))
    terminated = truncated = False
    while not (terminated or truncated):
        _, reward, terminated, truncated, info = env.step(expert.act(info["state"]))
    assert (reward, terminated, info["is_success"]) == (1.0, True, True)
    assert task.split("_")[0] in info["task"]
    env.reset(seed=3)
    for step in range(MAX_STEPS):
        _, reward, terminated, truncated, info = env.step(np.zeros(7, np.float32))
        assert (reward, terminated, truncated) == (0.0, False, step == MAX_STEPS - 1)


def test_seed_determines_the_episode():
    def rollout(seed: int) -> tuple[np.ndarray, np.ndarray]:
        env = ManipulationEnv("drawer")
        frame, info = env.reset(seed=seed)
        frames, states = [frame], [info["state"]]
        for action in np.random.default_rng(0).uniform(-1, 1, (5, 7)):
            frame, _, _, _, info = env.step(action)
            frames.append(frame)
            states.append(info["state"])
        return np.stack(frames), np.stack(states)

    for first, second, other in zip(rollout(1), rollout(1), rollout(2), strict=True):
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)


def test_yaw_turns_the_gripper_and_stops_at_its_limit():
    made = ManipulationSimulator("reach")
    made.reset(np.random.default_rng(0))
    turn = np.array([0, 0, 0, 1, 1, 1.0, 0])  # the other two rotations do nothing
    place = made.state[:3]
    made.step(turn)
    assert made.state[EE_YAW] == pytest.approx(TURN_RAD, abs=0.03)
    for _ in range(4):
        made.step(turn)
    assert made.state[EE_YAW] == pytest.approx(MAX_YAW_RAD, abs=0.03)
    np.testing.assert_allclose(made.state[:3], place, atol=2e-3)


def test_the_object_yaw_is_that_of_the_box():
    for seed in range(10):
        made = ManipulationSimulator("push")
        made.reset(np.random.default_rng(seed))
        wanted = made.scene.object_yaw_rad if made.scene.object_shape == "box" else 0.0
        assert made.state[OBJECT_YAW] == pytest.approx(wanted, abs=1e-6)


def test_a_picture_of_an_earlier_moment_is_the_picture_that_was():
    made = ManipulationSimulator("pick_lift")
    made.reset(np.random.default_rng(0))
    before, joints = made.frame(), made.data.qpos.copy()
    for action in np.random.default_rng(0).uniform(-1, 1, (4, 7)):
        made.step(action)
    assert not np.array_equal(made.frame(), before)
    assert np.array_equal(made.frame_at(joints), before)


@pytest.mark.parametrize(
    "options",
    [{"task": "fly"}, {"render_mode": "human"}, {"image_hw": (64, 3)}],
    ids=["task", "render", "size"],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        ManipulationEnv(**options)


def test_wrong_actions_are_refused():
    made = ManipulationSimulator("push")
    made.reset(np.random.default_rng(0))
    for action in (np.zeros(6), np.full(7, np.inf)):
        with pytest.raises(ActionError):
            made.step(action)
