"""Policies of the manipulation suite: names, streams, faults that do what they say, scripts that succeed in MuJoCo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.errors import ConfigError
from genie_robot.simulation.blocks import BLOCK, in_blocks
from genie_robot.simulation.mujoco.manipulation.tasks import DISTRACTOR, TASKS, task_success
from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT, OBJECT_XY, OPENING
from genie_robot.simulation.policies import (
    PixelPolicy,
    Policy,
    Resources,
    act_all,
    make_policy,
    policy_names,
    was_seen_in_training,
)
from genie_robot.simulation.policies.faults import (
    Confused,
    Dropping,
    Faulty,
    Freezing,
    Late,
    Offset,
    Shaky,
    Weak,
)
from genie_robot.simulation.policies.pixel import Controller
from genie_robot.simulation.policies.scripted import BlindScript, GripMemory, SteadyScript, dead_reckoning
from genie_robot.simulation.success import SUSTAIN
from tests.simulation.fixed_eyes import FixedEyes

STATE = np.array([0.40, 0.0, 0.18, 1.0, 0.40, 0.05, 0.028, 0.45, 0.12, 0, 0, 0.33, -0.1, 0.028])
IMAGE = np.zeros((64, 64, 3), dtype=np.uint8)
NAMES = [name for name in policy_names("manipulation") if not name.startswith("clone-")]
eyes = FixedEyes(STATE)


def make(name: str, task: str = "push") -> Policy:
    return make_policy(name, "manipulation", task, Resources(eyes=eyes))


def play(name: str, seed: int, steps: int = 12, task: str = "push") -> np.ndarray:
    policy = make(name, task)
    policy.reset(seed)
    return np.stack([policy.act(IMAGE) for _ in range(steps)])


def test_enough_independent_policies_and_a_third_of_them_new_to_world_models() -> None:
    names = policy_names("manipulation")
    assert len(names) == len(set(names)) >= 12
    unseen = [name for name in names if not was_seen_in_training(name)]
    assert len(unseen) >= len(names) / 3
    assert was_seen_in_training("scripted-0.5") and not was_seen_in_training("my_module:Policy")


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_acts_within_the_box_and_a_seed_fixes_its_stream(name: str) -> None:
    for task in TASKS:
        actions = play(name, 3, task=task)
        assert actions.shape == (12, 7) and actions.dtype == np.float32
        assert np.abs(actions).max() <= 1.0
        assert np.array_equal(actions, play(name, 3, task=task))
    if name not in ("no-op",):
        assert any(not np.array_equal(play(name, seed), play(name, 3)) for seed in range(4, 12))


@settings(max_examples=40)
@given(
    st.text(max_size=20)
    | st.sampled_from(["weak-2", "late-0", "scripted-nan", "offset--1", "weak-", "clone-5-z"])
)
def test_any_other_name_is_refused_in_one_line(name: str) -> None:
    try:
        policy, message = make(name), ""
    except ConfigError as error:
        policy, message = None, str(error)
    assert isinstance(policy, PixelPolicy) or (repr(name) in message and "\n" not in message)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(ConfigError, match="probe"):
        make_policy("scripted-1.0", "manipulation", "push", Resources())
    with pytest.raises(ConfigError, match="wanted one of reach"):
        make_policy("no-op", "manipulation", "lift", Resources(eyes=eyes))
    with pytest.raises(ConfigError, match="tabletop, manipulation"):
        policy_names("kitchen")


class Spy:
    """Keeps what it is shown and always wants the same."""

    WANTED = np.array([1.0, -0.5, 0.25, 0.0, 0.0, 0.5, 0.0])

    def reset(self, rng: np.random.Generator) -> None:
        self.seen: list[np.ndarray] = []

    def act(self, state: np.ndarray) -> np.ndarray:
        self.seen.append(state)
        return self.WANTED.copy()


def with_fault(fault: object, states: list[np.ndarray], seed: int = 0) -> tuple[Spy, np.ndarray]:
    spy = Spy()
    faulty = Faulty(spy, fault)  # pyright: ignore[reportArgumentType]
    faulty.reset(np.random.default_rng(seed))
    return spy, np.stack([faulty.act(state) for state in states])


def test_late_acts_on_what_it_saw_steps_ago() -> None:
    states = [np.full(14, float(t)) for t in range(6)]
    spy, _ = with_fault(Late(2), states)
    assert [int(state[0]) for state in spy.seen] == [0, 0, 0, 1, 2, 3]


def test_weak_moves_a_share_and_grips_in_full() -> None:
    _, actions = with_fault(Weak(0.25), [STATE])
    assert np.allclose(actions[0, :6], 0.25 * Spy.WANTED[:6]) and actions[0, 6] == Spy.WANTED[6]


def test_offset_moves_all_that_is_seen_but_the_robot() -> None:
    spy, _ = with_fault(Offset(0.02), [STATE])
    for part in (OBJECT_XY, GOAL_XY, slice(11, 13)):
        assert np.linalg.norm(spy.seen[0][part] - STATE[part]) == pytest.approx(0.02)
    assert np.array_equal(spy.seen[0][EE], STATE[EE])


def test_shaky_adds_noise_of_its_size() -> None:
    _, actions = with_fault(Shaky(0.1), [STATE] * 2000)
    spread = (actions - Spy.WANTED)[:, [1, 2, 5]].std(axis=0)
    assert np.allclose(spread, 0.1, rtol=0.1) and not actions[:, 3].any()


def test_freezing_stops_for_good() -> None:
    still = [~with_fault(Freezing(0.1), [STATE] * 60, seed)[1].any(axis=1) for seed in range(20)]
    assert all(np.all(np.diff(row.astype(int)) >= 0) for row in still)
    assert 5 < np.mean([60 - row.sum() for row in still]) < 15  # geometric: ten steps on average


def test_confused_swaps_in_its_share_of_episodes() -> None:
    swapped = 0
    for seed in range(200):
        spy, _ = with_fault(Confused(0.3), [STATE], seed)
        swapped += np.array_equal(spy.seen[0][OBJECT], STATE[DISTRACTOR])
    assert 40 <= swapped <= 80


def test_dropping_opens_only_what_holds() -> None:
    held = STATE.copy()
    held[OPENING] = 0.4
    assert with_fault(Dropping(1.0), [held])[1][0, 6] == -1.0
    assert with_fault(Dropping(1.0), [STATE])[1][0, 6] == 0.0


def test_blocks_of_one_size_and_rows_that_stay_with_their_image() -> None:
    sizes = []

    def network(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return images.sum(axis=(1, 2, 3)) + numbers

    for count in (1, BLOCK - 1, BLOCK, 2 * BLOCK + 3):
        images = np.arange(count).reshape(-1, 1, 1, 1)
        assert np.array_equal(in_blocks(network, images, np.full(count, 100)), 100 + np.arange(count))
    assert set(sizes) == {BLOCK}


def test_a_mixed_batch_acts_as_each_alone() -> None:
    names = ["scripted-0.4", "no-op", "shaky-0.3", "random", "scripted-0.4"]
    policies = [make(name) for name in names]
    for seed, policy in enumerate(policies):
        policy.reset(seed)
    images = np.zeros((5, 64, 64, 3), dtype=np.uint8)
    together = np.stack([act_all(policies, images) for _ in range(8)], axis=1)
    for seed, name in enumerate(names):
        assert np.array_equal(together[seed], play(name, seed, 8))


def test_the_grip_is_remembered_where_it_cannot_be_seen() -> None:
    spy = Spy()
    memory = GripMemory(spy)
    memory.reset(np.random.default_rng(0))
    hidden = STATE.copy()
    hidden[OPENING], hidden[OBJECT] = 0.4, hidden[EE]
    memory.act(STATE)
    memory.act(hidden)
    spy.WANTED = np.array([0, 0, 0, 0, 0, 0, 1.0])
    memory.act(hidden)
    memory.act(hidden)
    memory.act(STATE)
    assert [state[OPENING] for state in spy.seen] == [1.0, 1.0, 1.0, 0.4, 0.0]


def test_dead_reckoning_holds_drops_and_pushes() -> None:
    at = STATE.copy()
    at[OBJECT] = at[EE]
    close, up, release = np.zeros((3, 7))
    close[6], up[2], release[6] = 1.0, 1.0, -1.0
    held = dead_reckoning("pick_lift", at, close)
    lifted = dead_reckoning("pick_lift", held, up)
    assert lifted[6] - held[6] == pytest.approx(0.04)
    assert dead_reckoning("pick_lift", lifted, release)[6] == pytest.approx(0.028)
    push = STATE.copy()
    push[EE], push[OPENING], push[OBJECT_XY] = (0.35, 0.05, 0.036), 0.0, (0.40, 0.05)
    ahead = np.array([1.0, 0, 0, 0, 0, 0, 0])
    moved = dead_reckoning("push", push, ahead)
    assert moved[4] > push[4] and moved[5] == pytest.approx(push[5])


@pytest.mark.parametrize("task", TASKS)
def test_script_and_blind_script_succeed_and_the_success_lasts(task: str) -> None:
    pytest.importorskip("mujoco")
    assert succeeds(SteadyScript(task), task)
    assert succeeds(BlindScript(task), task)
    assert not succeeds(Faulty(SteadyScript(task), Late(8)), task)


def succeeds(controller: Controller, task: str) -> bool:
    from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator

    simulator, streak = ManipulationSimulator(task), 0
    simulator.reset(np.random.default_rng(11))
    controller.reset(np.random.default_rng(1))
    for _ in range(64):
        simulator.step(controller.act(simulator.state))
        streak = streak + 1 if task_success(task, simulator.state) else 0
        if streak >= SUSTAIN:
            return True
    return False
