"""`genie_robot/Imagined-v0`: the same face as `genie_robot/Tabletop-v0`, seeded, honest about success."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from genie_robot.errors import ActionError, ConfigError, ImageError
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import fit_adapter
from genie_robot.simulation.imagined_env import ENV_ID, SUSTAIN, ImaginedEnv, imagined_rollouts, register_envs
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action
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


class ScriptedJudge:
    """Sees the goal reached at the given calls."""

    def __init__(self, *reached: bool) -> None:
        self.reached = list(reached)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.stack([NEAR if self.reached.pop(0) else FAR for _ in images])


def test_check_env_is_clean_and_spaces_are_those_of_the_tabletop(model, adapter) -> None:
    from genie_robot.simulation.mujoco import register_envs as register_tabletop

    register_envs()
    register_tabletop()
    env = gymnasium.make(ENV_ID, model=model, adapter=adapter, maskgit_steps=1)
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


def test_prompt_is_the_tabletops_first_image_of_the_same_seed(model, adapter) -> None:
    from genie_robot.simulation.mujoco.env import TabletopEnv

    env = ImaginedEnv(model, adapter=adapter, maskgit_steps=1)
    image, _ = env.reset(seed=11)
    first, _ = TabletopEnv("push").reset(seed=11)
    assert np.array_equal(image, WorldSession(model).reset(first[None]))
    given, _ = env.reset(seed=12, options={"frames": first[None]})
    assert np.array_equal(given, image)


def test_an_action_goes_through_the_adapter_to_the_session(model, adapter) -> None:
    prompt = np.full((1, 64, 64, 3), 90, np.uint8)
    env = ImaginedEnv(model, adapter=adapter, maskgit_steps=2)
    env.reset(seed=5, options={"frames": prompt})
    session = WorldSession(model, maskgit_steps=2)
    session.reset(prompt, seed=5)
    for key, code in zip(KEYS[:4], [5, 2, 7, 0], strict=True):
        image, reward, done, _, info = env.step(key_action(key))
        assert info["code"] == code and reward == 0.0 and not done
        assert np.array_equal(image, session.step(code))


def test_success_must_last(model, adapter) -> None:
    assert SUSTAIN == 2
    env = ImaginedEnv(
        model, adapter=adapter, judge=ScriptedJudge(False, True, False, True, True), maskgit_steps=1
    )
    env.reset(seed=0, options={"frames": np.zeros((1, 64, 64, 3), np.uint8)})
    outcomes = [env.step(key_action("left"))[1:3] for _ in range(4)]
    assert outcomes == [(0.0, False), (0.0, False), (0.0, False), (1.0, True)]


def test_batched_rollouts_equal_single_ones(model, adapter) -> None:
    prompts = np.stack([np.full((1, 64, 64, 3), v, np.uint8) for v in (40, 120, 200)])
    seeds = np.array([7, 3, 99])
    far = lambda images: np.tile(FAR, (len(images), 1))  # noqa: E731
    keys = ["left", "up", "close", "back"]

    def script(images: np.ndarray) -> np.ndarray:
        step = script.calls = getattr(script, "calls", -1) + 1
        return np.stack([key_action(keys[(step + row) % 4]) for row in range(len(images))])

    batch = imagined_rollouts(
        model, adapter, far, "push", prompts, seeds, script, max_steps=4, maskgit_steps=1
    )
    assert batch.frames_BTYXC.shape == (3, 5, 64, 64, 3) and not batch.success_B.any()
    for row in range(3):
        env = ImaginedEnv(model, adapter=adapter, maskgit_steps=1)
        env.reset(seed=int(seeds[row]), options={"frames": prompts[row]})
        for step in range(4):
            image, *_, info = env.step(key_action(keys[(step + row) % 4]))
            assert info["code"] == batch.codes_BS[row, step]
        assert np.abs(image.astype(int) - batch.frames_BTYXC[row, -1]).mean() < 1.0


def test_batched_success_step_and_early_end(model, adapter) -> None:
    prompts = np.zeros((2, 1, 64, 64, 3), np.uint8)
    #                reset         step 1       step 2        step 3
    judge = ScriptedJudge(False, False, True, False, True, True, False, True)
    left = lambda images: np.tile(key_action("left"), (len(images), 1))  # noqa: E731
    result = imagined_rollouts(
        model, adapter, judge, "push", prompts, np.arange(2), left, max_steps=9, maskgit_steps=1
    )
    assert result.success_step_B.tolist() == [2, 3] and result.success_B.all()
    assert result.codes_BS.shape[1] == 3


def test_wrong_use_is_told(model, adapter) -> None:
    with pytest.raises(ConfigError, match="adapter"):
        ImaginedEnv(model)
    with pytest.raises(ConfigError, match="task"):
        ImaginedEnv(model, "fly", adapter=adapter)
    with pytest.raises(ConfigError, match="render_mode"):
        ImaginedEnv(model, adapter=adapter, render_mode="human")
    env = ImaginedEnv(model, adapter=adapter)
    with pytest.raises(ImageError):
        env.reset(seed=0, options={"frames": np.zeros((1, 32, 32, 3), np.uint8)})
    with pytest.raises(ActionError):
        env.step(np.zeros(3))
