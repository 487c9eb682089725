from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from genie_robot.data.commands import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.errors import ActionError, ConfigError
from genie_robot.simulation.mujoco import register_envs
from genie_robot.simulation.mujoco.behaviours import KEYS, Expert, key_action
from genie_robot.simulation.mujoco.env import TabletopEnv, TabletopSimulator
from genie_robot.simulation.mujoco.tasks import MAX_STEPS, OPENING

CENTRE_M = np.array([0.40, 0.0, 0.17])


def centred(seed: int) -> TabletopSimulator:
    """Return a simulator whose gripper is well inside the workspace and free of the object."""
    made = TabletopSimulator()
    made.reset(np.random.default_rng(seed))
    for _ in range(12):
        gap = np.clip((CENTRE_M - made.commanded_m) / 0.04, -1, 1)
        made.step(np.array([*gap, 0, 0, 0, 0]))
    return made


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("key", KEYS[:6])
def test_each_move_key_moves_the_gripper_along_its_axis_by_4_cm(key, seed):
    made = centred(seed)
    before = made.state
    made.step(key_action(key))
    moved = (made.state - before)[:3]
    axis = KEYS.index(key) // 2
    sign = 1 if KEYS.index(key) % 2 == 0 else -1
    assert moved[axis] * sign == pytest.approx(0.04, abs=0.002)
    assert np.abs(np.delete(moved, axis)).max() < 0.002


@pytest.mark.parametrize("seed", range(3))
def test_gripper_opens_and_closes_fully_in_one_step(seed):
    made = centred(seed)
    for key, opening in (("open", 1.0), ("close", 0.0), ("open", 1.0)):
        made.step(key_action(key))
        assert made.state[OPENING] == pytest.approx(opening, abs=0.05)
    made.step(np.zeros(7))  # 0 keeps it
    assert made.state[OPENING] == pytest.approx(1.0, abs=0.05)


def test_closing_is_visible():
    made = TabletopSimulator()
    made.reset(np.random.default_rng(0))
    made.step(key_action("open"))
    before = made.frame().astype(int)
    made.step(key_action("close"))
    changed = np.abs(made.frame().astype(int) - before).max(axis=2) > 24
    assert changed.sum() >= 30


def test_commanded_position_stays_in_the_workspace():
    made = TabletopSimulator()
    made.reset(np.random.default_rng(0))
    for key in ("left", "forward", "up"):
        for _ in range(15):
            made.step(key_action(key))
    np.testing.assert_allclose(made.commanded_m, WORKSPACE_HIGH_M)
    for key in ("right", "back"):
        for _ in range(15):
            made.step(key_action(key))
    np.testing.assert_allclose(made.commanded_m[:2], WORKSPACE_LOW_M[:2])


def test_rotation_is_not_used():
    first, second = centred(0), centred(0)
    first.step(np.array([0.5, 0, 0, 0, 0, 0, 0]))
    second.step(np.array([0.5, 0, 0, 1, -1, 1, 0]))
    assert np.array_equal(first.state, second.state)


def test_check_env_is_clean():
    register_envs()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("genie_robot/Tabletop-v0", render_mode="rgb_array").unwrapped)


def test_seed_determines_the_episode():
    def rollout(seed: int) -> tuple[np.ndarray, np.ndarray]:
        env = TabletopEnv("lift")
        frame, info = env.reset(seed=seed)
        frames, states = [frame], [info["state"]]
        for key in ("down", "forward", "close", "left"):
            frame, _, _, _, info = env.step(key_action(key))
            frames.append(frame)
            states.append(info["state"])
        return np.stack(frames), np.stack(states)

    for first, second, other in zip(rollout(1), rollout(1), rollout(2), strict=True):
        assert np.array_equal(first, second)
        assert not np.array_equal(first, other)


def test_registered_env_is_made_truncated_and_solved():
    register_envs()
    register_envs()
    env = gymnasium.make("genie_robot/Tabletop-v0", task="push")
    _, info = env.reset(seed=0)
    for step in range(MAX_STEPS):
        _, reward, terminated, truncated, _ = env.step(np.zeros(7, np.float32))
        assert (reward, terminated) == (0.0, False)
        assert truncated == (step == MAX_STEPS - 1)
    expert = Expert("lift")
    expert.reset(np.random.default_rng(0))
    _, info = env.reset(seed=0, options={"task": "lift"})
    terminated = False
    while not terminated:
        _, reward, terminated, truncated, info = env.step(expert.act(info["state"]))
        assert not truncated
    assert reward == 1.0
    assert info["is_success"]
    env.close()


@pytest.mark.parametrize(
    "options", [{"task": "fly"}, {"render_mode": "human"}, {"image_size": 3}], ids=["task", "render", "size"]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        TabletopEnv(**options)


def test_wrong_task_in_reset_is_refused():
    with pytest.raises(ConfigError, match="fly"):
        TabletopEnv().reset(seed=0, options={"task": "fly"})


@pytest.mark.parametrize(
    "action", [np.zeros(6), np.zeros((1, 7)), np.full(7, np.nan)], ids=["short", "batched", "nan"]
)
def test_wrong_actions_are_refused(action):
    made = centred(0)
    before = made.state
    with pytest.raises(ActionError):
        made.step(action)
    assert np.array_equal(made.state, before)
