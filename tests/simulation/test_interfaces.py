"""Action interfaces: what passes through them, what their adapters and decoders learn, and what they carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.commands import COMMAND_SIZE, commands
from genie_robot.data.episode import Episode
from genie_robot.errors import ActionError, ConfigError, DataError
from genie_robot.simulation.interfaces import (
    CodeDictionary,
    ImageFeatures,
    LatentAdapter,
    LatentInterface,
    LatentSpace,
    NativeInterface,
    StateDecoder,
    Transitions,
    label_transitions,
    latent_space,
    model_spaces,
    still_open,
)
from genie_robot.simulation.interfaces.networks import train_small
from tests.simulation.transitions import DIM, ONE, TWO, VECTORS, make_transitions
from tests.small_models import small_world_model

pytestmark = pytest.mark.usefixtures("short_training")


@pytest.fixture(scope="module")
def mirrored() -> tuple[Transitions, Transitions, ImageFeatures]:
    train, heldout = make_transitions(500, by_image=True), make_transitions(200, 1, by_image=True)
    return train, heldout, ImageFeatures.fit(train.images_NYXC)


def test_native_actions_pass_as_they_are(mixed_model: Any) -> None:
    interface = NativeInterface(mixed_model)
    actions = np.linspace(-1, 1, 14, dtype=np.float32).reshape(2, 7)
    nothing = np.zeros((2, 64, 64, 3), np.uint8)
    np.testing.assert_array_equal(interface.executed(actions, nothing, np.ones(2, bool)), actions)
    rows = interface.encode(actions, nothing, np.ones(2, bool))
    np.testing.assert_array_equal(rows, mixed_model.action_rows(robot_BR=actions))


def test_a_model_that_is_led_by_poses_gets_those_that_the_actions_command() -> None:
    model = small_world_model(robot_action_dim=COMMAND_SIZE)
    interface, nothing = NativeInterface(model), np.zeros((2, 64, 64, 3), np.uint8)
    starts = np.array([[0.4, 0.0, 0.1, 0.0, 1.0], [0.3, 0.1, 0.2, 0.3, 0.0]])
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 5, 7)).astype(np.float32)
    wanted = model.action_rows(robot_BR=commands(starts, actions))
    for _ in range(2):  # a reset forgets where the last episode ended
        interface.reset(2, starts)
        for step in range(5):
            rows = interface.encode(actions[:, step], nothing, np.ones(2, bool))
            np.testing.assert_allclose(rows, wanted[:, step], rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match="got start poses none"):
        interface.reset(2)
    with pytest.raises(ConfigError, match="reset"):
        NativeInterface(model).encode(actions[:, 0], nothing, np.ones(2, bool))
    np.testing.assert_array_equal(interface.executed(actions[:, 0], nothing, np.ones(2, bool)), actions[:, 0])


def test_native_refuses_a_model_of_latent_actions_alone() -> None:
    with pytest.raises(ConfigError, match="takes no numbers of a robot action"):
        NativeInterface(small_world_model())


@pytest.mark.parametrize(
    "wrong", [np.zeros(7), np.zeros((2, 6)), np.full((1, 7), np.nan), np.full((1, 7), np.inf)]
)
def test_wrong_actions_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ActionError, match="robot action"):
        NativeInterface().executed(wrong, np.zeros((1, 8, 8, 3), np.uint8), np.ones(1, bool))


def test_spaces_of_models(mixed_model: Any) -> None:
    assert [space.name for space in model_spaces(mixed_model)] == ["8", "8x2", "8x3", "continuous"]
    assert [space.name for space in model_spaces(small_world_model())] == ["8"]
    # A model that takes no rows wants all of its levels in one number.
    assert [space.name for space in model_spaces(small_world_model(num_codebooks=2))] == ["8x2"]
    with pytest.raises(ConfigError, match="wanted one of 8; choose"):
        latent_space(small_world_model(), "continuous")


@given(st.lists(st.integers(0, 511), min_size=1, max_size=20))
def test_packed_codes_come_apart_coarsest_first(codes: list[int]) -> None:
    digits = LatentSpace(8, 3, DIM).from_packed(np.array(codes))
    np.testing.assert_array_equal(digits @ [1, 8, 64], codes)
    np.testing.assert_array_equal(LatentSpace(8, 2, DIM).from_packed(np.array(codes)), digits[:, :2])


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=20))
def test_features_name_every_level(codes: list[tuple[int, int]]) -> None:
    features = TWO.features(np.array(codes))
    np.testing.assert_array_equal(features.reshape(-1, 2, 8).argmax(-1), codes)
    np.testing.assert_array_equal(features.sum(1), 2)


@pytest.mark.parametrize(
    ("space", "wrong"),
    [
        (ONE, [[8]]),
        (ONE, [[-1]]),
        (ONE, [1, 2]),
        (TWO, [[1]]),
        (ONE, [[0.5]]),
        (VECTORS, [[1] * DIM]),
        (VECTORS, [[0.1]]),
    ],
)
def test_latents_of_another_space_are_refused(space: LatentSpace, wrong: Any) -> None:
    with pytest.raises(ActionError, match="latent"):
        space.features(np.array(wrong))


@pytest.mark.parametrize("space", [ONE, TWO])
def test_the_adapter_names_the_models_label_by_looking(space: LatentSpace, mirrored: Any) -> None:
    train, heldout, features = mirrored
    adapter = LatentAdapter.fit(space, train, features)
    given = heldout.actions_NA, heldout.images_NYXC, heldout.open_N
    top1 = (adapter.latents(*given) == heldout.latents(space)).all(axis=1).mean()
    assert top1 > (0.8 if space is ONE else 0.5)
    # Blindfolded it cannot know which of two mirrored codes it is.
    blind = adapter.latents(heldout.actions_NA, heldout.images_NYXC[:1].repeat(200, axis=0), heldout.open_N)
    assert (blind == heldout.latents(space)).all(axis=1).mean() < 0.6
    assert adapter.loss(heldout) < np.log(8) * space.levels


@pytest.mark.parametrize("labels", [10, 50, 1000])
def test_every_fifth_label_says_when_to_stop(labels: int) -> None:
    net = torch.nn.Linear(1, 1)
    trained, held_out = set(), set()

    def loss(rows: torch.Tensor) -> torch.Tensor:
        (trained if torch.is_grad_enabled() else held_out).update(rows.tolist())
        return net(rows[:, None] / labels).square().mean()

    train_small(net, loss, labels, 0)
    assert held_out == set(range(0, labels, 5)) and trained == set(range(labels)) - held_out


def test_the_adapter_finds_vectors(mirrored: Any) -> None:
    train, heldout, features = mirrored
    adapter = LatentAdapter.fit(VECTORS, train, features)
    vectors = adapter.latents(heldout.actions_NA, heldout.images_NYXC, heldout.open_N)
    assert vectors.dtype == np.float32
    error = np.square(vectors - heldout.vectors_NK)[:, :3].mean() / heldout.vectors_NK[:, :3].var()
    assert error < 0.2


def test_the_same_labels_give_the_same_adapter(mirrored: Any) -> None:
    train, _, features = mirrored
    first, second = (
        LatentInterface(LatentAdapter.fit(ONE, train[:60], features), CodeDictionary.fit(ONE, train))
        for _ in range(2)
    )
    other = LatentInterface(LatentAdapter.fit(ONE, train[:61], features), CodeDictionary.fit(ONE, train))
    assert first.hash == second.hash != other.hash


@pytest.mark.parametrize("count", [1, 3, 12])
def test_few_labels_are_enough_to_answer(count: int, mirrored: Any) -> None:
    train, heldout, features = mirrored
    interface = LatentInterface(
        LatentAdapter.fit(TWO, train[:count], features), StateDecoder.fit(TWO, train[:count], features)
    )
    interface.reset(len(heldout))
    done = interface.executed(heldout.actions_NA, heldout.images_NYXC, heldout.open_N)
    assert np.isfinite(done).all()


def test_no_labels_are_refused(mirrored: Any) -> None:
    train, _, features = mirrored
    with pytest.raises(DataError, match="no labelled transitions"):
        LatentAdapter.fit(ONE, train[:0], features)
    with pytest.raises(DataError, match="no labelled transitions"):
        CodeDictionary.fit(ONE, train[:0])


def test_the_dictionary_is_the_mean_action_of_each_code() -> None:
    train = make_transitions(3000)
    actions = CodeDictionary.fit(ONE, train).robot_action(
        np.arange(8)[:, None], np.zeros((8, 4, 4, 3)), np.ones(8)
    )
    means = [
        train.actions_NA[(train.codes_NL[:, 0] == code) & train.open_N].mean(axis=0) for code in range(8)
    ]
    np.testing.assert_allclose(actions, means, atol=0.03)


def test_the_dictionary_tells_open_from_closed_grippers() -> None:
    train = make_transitions(400)
    train.actions_NA[:, 6] = np.where(
        train.open_N, 1.0, -1.0
    )  # one code closes what is open and opens what is closed
    dictionary = CodeDictionary.fit(ONE, train)
    grip = dictionary.robot_action(np.array([[0], [0]]), np.zeros((2, 4, 4, 3)), np.array([True, False]))[
        :, 6
    ]
    assert grip[0] > 0.9
    assert grip[1] < -0.9
    only_open = CodeDictionary.fit(ONE, train[train.open_N])
    same = only_open.robot_action(np.array([[3], [3]]), np.zeros((2, 4, 4, 3)), np.array([True, False]))
    np.testing.assert_allclose(same[0], same[1], atol=0.02)


def test_residual_entries_add_up() -> None:
    train = make_transitions(5000)
    table = CodeDictionary.fit(TWO, train)
    nothing, is_open = np.zeros((4, 4, 4, 3)), np.ones(4)
    a, b, c, d = table.robot_action(np.array([[0, 0], [0, 5], [3, 0], [3, 5]]), nothing, is_open)
    np.testing.assert_allclose(b - a, d - c, atol=1e-5)


def test_the_decoder_looks_where_the_dictionary_cannot(mirrored: Any) -> None:
    train, heldout, features = mirrored
    given = heldout.latents(ONE), heldout.images_NYXC, heldout.open_N

    def error(decoder: CodeDictionary | StateDecoder) -> float:
        wrong = np.square(decoder.robot_action(*given) - heldout.actions_NA)[:, :3].mean()
        return float(wrong / heldout.actions_NA[:, :3].var())

    assert error(CodeDictionary.fit(ONE, train)) > 0.9
    assert error(StateDecoder.fit(ONE, train, features)) < 0.5


class Rounding:
    """Stands in for adapter and decoder: passes whole steps only, -1, 0 or 1."""

    space = ONE

    def latents(self, actions_NA: np.ndarray, *_: Any) -> np.ndarray:
        return np.rint(actions_NA)

    def robot_action(self, latents: np.ndarray, *_: Any) -> np.ndarray:
        return latents.astype(np.float32)


def rounding_interface(error_feedback: bool) -> LatentInterface:
    interface = object.__new__(LatentInterface)
    interface.adapter = interface.decoder = Rounding()  # type: ignore[assignment]
    interface.space, interface.error_feedback, interface.name = ONE, error_feedback, "m1:8"
    return interface


def through(interface: LatentInterface, action: float, steps: int) -> np.ndarray:
    images, is_open = np.zeros((2, 8, 8, 3), np.uint8), np.ones(2, bool)
    asked = np.full((2, 7), action, np.float32)
    asked[1] = 0
    return np.stack([interface.executed(asked, images, is_open) for _ in range(steps)])


def test_error_feedback_lets_small_steps_through() -> None:
    with_it, without = rounding_interface(True), rounding_interface(False)
    with_it.reset(2)
    without.reset(2)
    passed = through(with_it, 0.3, 20)
    assert not through(without, 0.3, 20).any()
    np.testing.assert_allclose(passed[:, 0, :6].mean(axis=0), 0.3, atol=0.05)
    assert not passed[:, 1].any()  # each episode has its own
    assert not passed[:, 0, 6].any()  # a gripper command is asked for again by who sees that it failed


def test_a_reset_forgets_what_was_carried() -> None:
    interface = rounding_interface(True)
    interface.reset(2)
    first = through(interface, 0.4, 3)
    interface.reset(2)
    np.testing.assert_array_equal(through(interface, 0.4, 3), first)
    interface.reset(3)
    with pytest.raises(ConfigError, match="2 actions in a batch of 3"):
        through(interface, 0.4, 1)


def test_what_is_carried_is_at_most_a_full_step() -> None:
    interface = rounding_interface(True)
    interface.adapter.latents = lambda actions, *_: np.zeros_like(actions)  # type: ignore[method-assign]
    interface.reset(2)
    through(interface, 1.0, 10)
    assert np.abs(interface._carry_BA).max() == 1.0


def test_an_episode_alone_is_the_episode_among_others(mirrored: Any) -> None:
    train, heldout, features = mirrored
    adapter = LatentAdapter.fit(VECTORS, train[:24], features)
    interface = LatentInterface(adapter, StateDecoder.fit(VECTORS, train[:24], features))
    given = heldout.actions_NA[:11], heldout.images_NYXC[:11], heldout.open_N[:11]
    interface.reset(11)
    together = [interface.executed(*given) for _ in range(3)]
    interface.reset(1)
    alone = [interface.executed(*(part[4:5] for part in given)) for _ in range(3)]
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(many[4], one[0])


def test_labels_are_the_models_own(mixed_model: Any) -> None:
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 255, (4, 64, 64, 3)).astype(np.uint8)  # as long as the model's window
    state = np.zeros((4, 14), np.float32)
    state[2:, 3] = 1.0
    episode = Episode(
        frames, 0.2, "test", actions_TA=rng.uniform(-1, 1, (4, 7)).astype(np.float32), state_TS=state
    )
    labelled = label_transitions(mixed_model, [episode], 3)
    codes = mixed_model.infer_actions(frames[None])[0][0]
    np.testing.assert_array_equal(labelled.codes_NL @ [1, 8, 64], codes)
    np.testing.assert_allclose(labelled.vectors_NK, mixed_model.latent_vectors(frames[None])[0], rtol=1e-5)
    np.testing.assert_array_equal(labelled.open_N, [False, False, True])
    assert episode.actions_TA is not None
    np.testing.assert_array_equal(labelled.actions_NA, episode.actions_TA[:-1])
    with pytest.raises(DataError, match="hold 3 labelled transitions; wanted 4"):
        label_transitions(mixed_model, [episode], 4)
    with pytest.raises(DataError, match="no actions"):
        label_transitions(mixed_model, [Episode(frames, 0.2, "test")], 1)


def test_a_gripper_stays_as_commanded() -> None:
    commands = np.zeros((5, 7))
    commands[:, 6] = [0.5, -0.5, 0.49, -0.49, 0]
    np.testing.assert_array_equal(still_open(np.ones(5, bool), commands), [False, True, True, True, True])
    np.testing.assert_array_equal(still_open(np.zeros(5, bool), commands), [False, True, False, False, False])
