from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import (
    KEYS,
    Expert,
    Play,
    StateFilter,
    action_key,
    key_action,
    make_behaviour,
)
from genie_robot.simulation.mujoco.env import TabletopSimulator
from genie_robot.simulation.mujoco.tasks import MAX_STEPS, TASKS, task_success


def success_rate(task: str, skill: float, noise: bool, episodes: int) -> float:
    made = TabletopSimulator()
    wins = 0
    for index in range(episodes):
        made.reset(np.random.default_rng([11, index]))
        expert = Expert(task, skill, noise)
        expert.reset(np.random.default_rng([12, index]))
        for _ in range(MAX_STEPS):
            made.step(expert.act(made.state))
            if task_success(task, made.state):
                wins += 1
                break
    return wins / episodes


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("noise", [False, True])
def test_full_skill_solves_the_task(task, noise):
    assert success_rate(task, 1.0, noise, 15) >= 0.9


@pytest.mark.parametrize("task", TASKS)
def test_success_falls_with_skill(task):
    rates = [success_rate(task, skill, True, 16) for skill in (1.0, 0.5, 0.0)]
    assert rates[0] >= rates[1] + 0.15
    assert rates[1] >= rates[2] + 0.15


@pytest.mark.parametrize("name", ["play", *TASKS])
def test_behaviour_presses_one_key_a_step_and_repeats_with_its_seed(name):
    def actions() -> np.ndarray:
        made = TabletopSimulator()
        made.reset(np.random.default_rng(0))
        behaviour = make_behaviour(name, 0.5, noise=True)
        behaviour.reset(np.random.default_rng(1))
        taken = []
        for _ in range(15):
            taken.append(behaviour.act(made.state))
            made.step(taken[-1])
        return np.stack(taken)

    first = actions()
    assert np.array_equal(first, actions())
    assert np.all((first != 0).sum(axis=1) == 1)
    sizes = np.abs(first).max(axis=1)
    assert np.all((sizes >= 0.85) & (sizes <= 1.0))


def test_play_uses_all_keys_and_nearly_every_key_has_an_effect():
    made = TabletopSimulator()
    keys, idle, steps = Counter(), 0, 0
    for index in range(20):
        made.reset(np.random.default_rng([3, index]))
        play = Play()
        play.reset(np.random.default_rng([4, index]))
        for _ in range(24):
            before, action = made.state, play.act(made.state)
            made.step(action)
            change = np.abs(made.state - before)
            keys[action_key(action)] += 1
            idle += change[:3].max() < 0.02 and change[3] < 0.25
            steps += 1
    assert set(keys) == set(KEYS)
    assert min(keys.values()) > 0.06 * steps
    assert max(keys.values()) < 0.20 * steps
    assert idle <= 0.02 * steps


def test_keys_and_actions_convert_both_ways():
    for key in KEYS:
        assert action_key(key_action(key, 0.85)) == key
    assert action_key(np.zeros(7)) is None


def test_wrong_names_and_skills_are_refused():
    for call in (lambda: Expert("fly"), lambda: Expert("push", 1.5), lambda: key_action("jump")):
        with pytest.raises(ConfigError):
            call()


def test_state_filter_lets_an_expert_work_on_a_rough_estimate():
    def wins(filtered: bool) -> int:
        made, count = TabletopSimulator(), 0
        for index in range(10):
            made.reset(np.random.default_rng([21, index]))
            rng = np.random.default_rng([22, index])
            expert, steady, action = Expert("lift"), StateFilter(), None
            expert.reset(rng)
            steady.reset()
            for _ in range(MAX_STEPS):
                estimate = made.state + rng.normal(0, 0.015, 9) * ([1, 1, 1, 5, 1, 1, 1, 1, 1])
                action = expert.act(steady.update(estimate, action) if filtered else estimate)
                made.step(action)
                if task_success("lift", made.state):
                    count += 1
                    break
        return count

    assert wins(True) >= 8
    assert wins(True) > wins(False)


def test_state_filter_follows_gripper_object_and_starts_anew():
    steady = StateFilter()
    steady.reset()
    state = np.array([0.4, 0.0, 0.2, 1.0, 0.4, 0.1, 0.028, 0.4, -0.1], np.float32)
    np.testing.assert_allclose(steady.update(state), state)
    moved = state + np.array([0.04, 0, 0, 0, 0, 0, 0, 0, 0], np.float32)
    np.testing.assert_allclose(steady.update(moved, key_action("forward")), moved, atol=1e-6)
    pushed = moved + np.array([0, 0, 0, 0, 0, 0.10, 0, 0, 0], np.float32)
    np.testing.assert_allclose(steady.update(pushed), pushed, atol=1e-6)  # a large change is believed at once
    nudged = pushed + np.array([0, 0, 0, 0, 0.01, 0, 0, 0, 0], np.float32)
    assert 0 < steady.update(nudged)[4] - pushed[4] < 0.005  # a small one only in part
    steady.reset()
    np.testing.assert_allclose(steady.update(nudged), nudged)
