"""`genie_robot/Imagined-v0`: the same face as `genie_robot/Tabletop-v0`, seeded, honest about success."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from genie_robot.data.commands import COMMAND_SIZE, commands, poses_of
from genie_robot.errors import ActionError, ConfigError, ImageError
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import fit_adapter
from genie_robot.simulation.imagined_env import ENV_ID, ImaginedEnv, register_envs
from genie_robot.simulation.interfaces import NativeInterface, TableInterface
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action
from genie_robot.simulation.success import SUSTAIN, success_step
from genie_robot.simulation.suites import get_suite
from genie_robot.simulation.world_session import WorldSession
from tests.small_models import small_world_model

pytest.importorskip("mujoco")

FAR = np.array([0.4, 0, 0.1, 1, 0.4, 0, 0.028, 0.4, 0.17], dtype=np.float32)
NEAR = np.array([0.4, 0, 0.1, 1, 0.4, 0, 0.028, 0.4, 0.02], dtype=np.float32)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return small_world_model()


@pytest.fixture(scope="module")
def adapter():
    actions = np.stack([key_action(key) for key in KEYS] * 10)
    return fit_adapter(actions, np.tile([5, 2, 7, 0, 1, 3, 6, 4], 10), 8)


@pytest.fixture(scope="module")
def codes(model, adapter) -> TableInterface:
    return TableInterface(adapter, model)


class ScriptedJudge:
    """Sees the goal reached at the given calls."""

    def __init__(self, *reached: bool) -> None:
        self.reached = list(reached)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.stack([NEAR if self.reached.pop(0) else FAR for _ in images])


def test_check_env_is_clean_and_spaces_are_those_of_the_tabletop(model, codes) -> None:
    from genie_robot.simulation.mujoco import register_envs as register_tabletop

    register_envs()
    register_tabletop()
    env = gymnasium.make(ENV_ID, model=model, interface=codes, maskgit_steps=1)
    truth = gymnasium.make("genie_robot/Tabletop-v0")
    assert env.observation_space == truth.observation_space
    assert env.action_space == truth.action_space
    assert env.spec is not None and truth.spec is not None
    assert env.spec.max_episode_steps == truth.spec.max_episode_steps
    check_env(env.unwrapped, skip_render_check=True)


def test_opens_a_model_folder(model, adapter, tmp_path) -> None:
    model.save(tmp_path)
    adapter.save(tmp_path)
    register_envs()
    env = gymnasium.make(ENV_ID, model=tmp_path, maskgit_steps=1)
    image, _ = env.reset(seed=0, options={"frames": np.zeros((1, 64, 64, 3), np.uint8)})
    assert image.shape == (64, 64, 3)


def test_prompt_is_the_tabletops_first_image_of_the_same_seed(model, codes) -> None:
    from genie_robot.simulation.mujoco.env import TabletopEnv

    env = ImaginedEnv(model, interface=codes, maskgit_steps=1)
    image, _ = env.reset(seed=11)
    first, _ = TabletopEnv("push").reset(seed=11)
    assert np.array_equal(image, WorldSession(model).reset(first[None]))
    given, _ = env.reset(seed=12, options={"frames": first[None]})
    assert np.array_equal(given, image)


def test_an_action_goes_through_the_adapter_to_the_session(model, codes) -> None:
    prompt = np.full((1, 64, 64, 3), 90, np.uint8)
    env = ImaginedEnv(model, interface=codes, maskgit_steps=2)
    env.reset(seed=5, options={"frames": prompt})
    session = WorldSession(model, maskgit_steps=2)
    session.reset(prompt, seed=5)
    for key, code in zip(KEYS[:4], [5, 2, 7, 0], strict=True):
        image, reward, done, _, info = env.step(key_action(key))
        assert info == {"task": "push"} and reward == 0.0 and not done
        assert np.array_equal(image, session.step(code))


def test_success_must_last(model, codes) -> None:
    assert SUSTAIN == 2
    env = ImaginedEnv(
        model, interface=codes, judge=ScriptedJudge(False, True, False, True, True), maskgit_steps=1
    )
    env.reset(seed=0, options={"frames": np.zeros((1, 64, 64, 3), np.uint8)})
    outcomes = [env.step(key_action("left"))[1:3] for _ in range(4)]
    assert outcomes == [(0.0, False), (0.0, False), (0.0, False), (1.0, True)]


def test_success_step_counts_from_the_first_frame() -> None:
    assert success_step(np.array([True, True, False])) == 1
    assert success_step(np.array([False, True, False, True, True, True])) == 4
    assert success_step(np.array([True, False, True])) == success_step(np.zeros(0)) == 0


def test_manipulation_with_the_robots_own_actions() -> None:
    model = small_world_model(robot_action_dim=7)
    interface = NativeInterface(model)
    env = ImaginedEnv(model, "drawer", suite="manipulation", interface=interface, maskgit_steps=1)
    image, info = env.reset(seed=3)
    prompt, _ = get_suite("manipulation").make_env("drawer").reset(seed=3)
    session = WorldSession(model, maskgit_steps=1)
    assert np.array_equal(image, session.reset(prompt[None], seed=3)) and info == {"task": "drawer"}
    action = np.array([0.5, -0.2, 0.1, 0, 0, 0.3, 1], np.float32)
    again, *_ = env.step(action)
    assert np.array_equal(again, session.step(model.action_rows(robot_BR=action[None])))
    env.reset(seed=3, options={"task": "push"})
    assert env.task == "push"
    env.close()


def test_a_model_that_is_led_by_poses_is_told_where_the_gripper_begins() -> None:
    model = small_world_model(robot_action_dim=COMMAND_SIZE)
    env = ImaginedEnv(model, "reach", suite="manipulation", interface=NativeInterface(model), maskgit_steps=1)
    env.reset(seed=3)
    suite = get_suite("manipulation")
    prompt, info = suite.make_env("reach").reset(seed=3)
    session = WorldSession(model, maskgit_steps=1)
    session.reset(prompt[None], seed=3)
    actions = np.full((2, 7), 0.4, np.float32)
    rows = model.action_rows(robot_BR=commands(poses_of(info["state"], suite.state_names), actions))
    for action, row in zip(actions, rows, strict=True):
        assert np.array_equal(env.step(action)[0], session.step(row[None]))
    with pytest.raises(ConfigError, match="start poses"):
        env.reset(options={"frames": prompt[None]})
    env.reset(options={"frames": prompt[None], "pose": (0.4, 0.0, 0.1, 0.0, 1.0)})
    env.close()


def test_wrong_use_is_told(model, codes) -> None:
    with pytest.raises(ConfigError, match="load_interface"):
        ImaginedEnv(model)
    with pytest.raises(ConfigError, match="task"):
        ImaginedEnv(model, "fly", interface=codes)
    with pytest.raises(ConfigError, match="render_mode"):
        ImaginedEnv(model, interface=codes, render_mode="human")
    with pytest.raises(ConfigError, match="suite"):
        ImaginedEnv(model, suite="kitchen", interface=codes)
    env = ImaginedEnv(model, interface=codes)
    with pytest.raises(ActionError, match="before any prompt"):
        env.step(np.zeros(7))
    with pytest.raises(ImageError):
        env.reset(seed=0, options={"frames": np.zeros((1, 32, 32, 3), np.uint8)})
    env.reset(seed=0, options={"frames": np.zeros((1, 64, 64, 3), np.uint8)})
    with pytest.raises(ActionError):
        env.step(np.zeros(3))
