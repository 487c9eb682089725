"""WorldSession: batching, determinism, windows, and clear refusals."""

from __future__ import annotations

import numpy as np
import pytest

from genie_robot.errors import ActionError, ConfigError, ImageError
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.world_session import WorldSession
from tests.invariants.conftest import VARIANTS, make_model, random_actions


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return make_model("tiny").float()


@pytest.fixture
def prompt() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24, 3), np.uint8)


def test_the_same_seed_and_actions_give_the_same_frames(model: WorldModel, prompt: np.ndarray) -> None:
    runs = []
    for seed in (4, 4, 5):
        session = WorldSession(model, maskgit_steps=4)
        session.reset(prompt[0], seed=seed)
        runs.append(np.stack([session.step(action) for action in (1, 2, 3)]))
    assert runs[0].shape == (3, 16, 24, 3) and runs[0].dtype == np.uint8
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_world_is_the_same_alone_and_in_a_batch(model: WorldModel, prompt: np.ndarray) -> None:
    batched, alone = WorldSession(model, maskgit_steps=4), WorldSession(model, maskgit_steps=4)
    batched.reset(prompt, seed=np.array([10, 20]))
    alone.reset(prompt[1], seed=20)
    for action in (3, 1, 4, 1, 5, 2, 6):  # past the window
        together = batched.step(np.array([7, action]))
        single = alone.step(action)
        assert together.shape == (2, 16, 24, 3)
        assert np.abs(together[1].astype(int) - single.astype(int)).max() <= 1


def test_long_prompts_and_long_rollouts_stay_inside_the_window(model: WorldModel) -> None:
    session = WorldSession(model, maskgit_steps=2)
    frames = np.random.default_rng(1).integers(0, 256, (20, 16, 24, 3), np.uint8)
    session.reset(frames)
    assert session.frames_in_context == model.config.video.num_frames - 1
    for _ in range(20):
        session.step(0)
        assert 3 <= session.frames_in_context <= model.config.video.num_frames


@pytest.mark.parametrize("action", [8, -1, 1.5, "up", np.array([1, 2, 3]), None, True])
def test_actions_that_do_not_exist_are_refused_and_change_nothing(
    model: WorldModel, prompt: np.ndarray, action: object
) -> None:
    session, twin = WorldSession(model, maskgit_steps=4), WorldSession(model, maskgit_steps=4)
    session.reset(prompt[0])
    twin.reset(prompt[0])
    with pytest.raises(ActionError):
        session.step(action)  # type: ignore[arg-type]
    assert np.array_equal(session.step(1), twin.step(1))


def test_a_step_before_any_prompt_is_refused(model: WorldModel) -> None:
    with pytest.raises(ActionError, match="reset"):
        WorldSession(model).step(0)


@pytest.mark.parametrize("steps", [0, 25])
def test_a_wrong_number_of_maskgit_steps_is_refused_at_once(model: WorldModel, steps: int) -> None:
    with pytest.raises(ConfigError, match="maskgit_steps"):
        WorldSession(model, maskgit_steps=steps)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((2, 16, 24, 3), np.float32),
        np.zeros((2, 24, 16, 3), np.uint8),
        np.zeros((2, 16, 24, 4), np.uint8),
        np.zeros((0, 16, 24, 3), np.uint8),
        np.zeros((16, 24, 3), np.uint8),
        [1, 2],
    ],
    ids=["float", "transposed", "four channels", "no frames", "one frame without its axis", "a list"],
)
def test_wrong_prompts_are_refused(model: WorldModel, frames: object) -> None:
    with pytest.raises(ImageError, match="wanted"):
        WorldSession(model).reset(frames)  # type: ignore[arg-type]


def test_continuous_actions_steer_and_wrong_ones_are_refused(prompt: np.ndarray) -> None:
    model = make_model("adaln_gaussian").float()
    session = WorldSession(model, maskgit_steps=4)
    session.reset(prompt)
    up, down = np.full(4, 2.0, np.float32), np.full(4, -2.0)
    futures = session.fork(2).step(np.stack([up, down, up, down]))
    assert not np.array_equal(futures[0], futures[1])
    for wrong in (3, np.arange(4), np.ones(5), np.ones((3, 4)), np.array([0, 0, 0, np.nan]), "up", None):
        with pytest.raises(ActionError, match="4 finite floats"):
            session.step(wrong)  # type: ignore[arg-type]
    together = session.step(np.stack([up, down]))
    assert np.array_equal(together[0], futures[0]) and np.array_equal(together[1], futures[3])


def test_residual_codes_steer_up_to_the_last_one(prompt: np.ndarray) -> None:
    session = WorldSession(make_model("prepend_rvq").float(), maskgit_steps=2)
    session.reset(prompt[0])
    assert session.fork(16).step(np.arange(16)).shape == (16, 16, 24, 3)
    with pytest.raises(ActionError, match="0 to 15"):
        session.step(16)


def test_sampling_choices_reach_the_sampler_and_the_forks(model: WorldModel, prompt: np.ndarray) -> None:
    films = {}
    for order in ("random", "confidence", "halton"):
        session = WorldSession(model, maskgit_steps=4, temperature=1.0, order=order, schedule="arccos")
        session.reset(prompt[0])
        forked = session.fork(1)
        films[order] = np.stack([session.step(action) for action in (1, 2, 3)])
        assert np.array_equal(np.stack([forked.step(action)[0] for action in (1, 2, 3)]), films[order])
    assert len({film.tobytes() for film in films.values()}) == 3
    with pytest.raises(ConfigError, match="order"):
        WorldSession(model, order="spiral")


def test_a_prompt_of_one_frame_is_enough(prompt: np.ndarray) -> None:
    for variant in VARIANTS:
        model = make_model(variant).float()
        session = WorldSession(model, maskgit_steps=2)
        assert session.reset(prompt[:, :1]).shape == (2, 16, 24, 3)
        session.step(random_actions(model, 2).numpy())
        assert session.frames_in_context == 2
