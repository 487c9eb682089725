from __future__ import annotations

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import Behaviour
from genie_robot.simulation.mujoco.manipulation.behaviours import (
    CONTROLS,
    STYLES,
    Scripted,
    make_hand,
    make_play,
)
from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator
from genie_robot.simulation.mujoco.manipulation.tasks import DISTRACTOR, MAX_STEPS, TASKS, task_success
from genie_robot.simulation.mujoco.tasks import EE, OBJECT


def run(task: str, behaviour: Behaviour, seed: int) -> tuple[bool, np.ndarray, np.ndarray]:
    """Return whether it succeeded, states (T, 14) and actions (T - 1, 7)."""
    made = ManipulationSimulator(task)
    made.reset(np.random.default_rng([11, seed]))
    behaviour.reset(np.random.default_rng([12, seed]))
    states, actions = [made.state], []
    for _ in range(MAX_STEPS):
        actions.append(behaviour.act(made.state))
        made.step(actions[-1])
        states.append(made.state)
        if task_success(task, states[-1]):
            return True, np.stack(states), np.stack(actions)
    return False, np.stack(states), np.stack(actions)


def rate(task: str, behaviour: Behaviour, episodes: int) -> float:
    return sum(run(task, behaviour, seed)[0] for seed in range(episodes)) / episodes


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("task", TASKS)
def test_full_skill_solves_the_task_and_less_skill_less(task, control):
    full, half, little = (rate(task, Scripted(task, control, skill), 10) for skill in (1.0, 0.5, 0.1))
    assert full >= 0.8
    assert full > half > little - 0.01
    assert full >= little + 0.5


@pytest.mark.parametrize(("task", "style"), [(t, s) for t in TASKS for s in STYLES[t]])
def test_styles_fail(task, style):
    assert rate(task, Scripted(task, style=style), 4) <= 0.5


def test_styles_fail_in_the_way_they_say():
    _, short, _ = run("push", Scripted("push", style="stops_short"), 0)
    moved = np.hypot(*(short[-1, 4:6] - short[0, 4:6]))
    missing = np.hypot(*(short[0, 7:9] - short[0, 4:6]))
    assert 0.01 < moved < 0.9 * missing
    _, past, _ = run("push", Scripted("push", style="pushes_past"), 0)
    assert np.hypot(*(past[-1, 4:6] - past[0, 4:6])) > missing
    _, wrong, _ = run("pick_lift", Scripted("pick_lift", style="wrong_object"), 0)
    assert wrong[:, DISTRACTOR][:, 2].max() > 0.08
    assert wrong[:, OBJECT][:, 2].max() < 0.05
    _, empty, actions = run("drawer", Scripted("drawer", style="no_grasp"), 0)
    gone = int(np.argmax(np.linalg.norm(empty[:, EE] - empty[:, OBJECT], axis=1) < 0.03))
    assert not (actions[gone : gone + 3, 6] > 0).any()
    assert abs(empty[-1, 4] - empty[0, 4]) < 0.03
    _, high, _ = run("reach", Scripted("reach", style="stays_high"), 0)
    assert high[:, 2].min() > 0.10


@pytest.mark.parametrize("task", TASKS)
def test_a_keyboard_presses_one_key_a_step(task):
    for behaviour in (Scripted(task, "keyboard", 0.6), make_play("keyboard")):
        actions = run(task, behaviour, 1)[2]
        assert np.all((actions != 0).sum(axis=1) == 1)
        assert np.all(np.abs(actions).max(axis=1) >= 0.85)


@pytest.mark.parametrize("task", TASKS)
def test_free_motion_is_diagonal_and_turns(task):
    actions = run(task, Scripted(task, "free", 0.9), 1)[2]
    assert np.abs(actions).max() <= 1.0
    assert np.median((np.abs(actions[:, :3]) > 0.02).sum(axis=1)) >= 2
    played = run(task, make_play("free"), 1)[2]
    assert np.abs(played[:, 5]).max() > 0.2
    assert not played[:, 3:5].any()


def test_behaviours_repeat_with_their_seed():
    for control in CONTROLS:
        first, second = (run("pick_place", Scripted("pick_place", control, 0.7), 2)[2] for _ in range(2))
        assert np.array_equal(first, second)


def test_play_above_the_table_leaves_the_outcome_as_it_is():
    """After its script a behaviour plays, but the result on the table stays to be seen."""
    for seed in range(4):
        made = ManipulationSimulator("pick_place")
        made.reset(np.random.default_rng([11, seed]))
        behaviour = Scripted("pick_place")
        behaviour.reset(np.random.default_rng([12, seed]))
        things, won = [], []
        for _ in range(MAX_STEPS):
            made.step(behaviour.act(made.state))
            things.append(made.state[OBJECT])
            won.append(task_success("pick_place", made.state))
        first = won.index(True)
        assert first < MAX_STEPS - 8
        assert np.abs(np.array(things[first:]) - things[first]).max() < 0.01


def test_keyboard_play_nearly_always_does_something():
    idle = steps = 0
    for task in TASKS:
        for seed in range(4):
            _, states, _ = run(task, make_play("keyboard"), seed)
            change = np.abs(np.diff(states, axis=0))
            idle += int(((change[:, :3].max(axis=1) < 0.02) & (change[:, 3] < 0.25)).sum())
            steps += len(change)
    assert idle <= 0.05 * steps


def test_wrong_names_and_skills_are_refused():
    for call in (
        lambda: Scripted("fly"),
        lambda: Scripted("push", "joystick"),
        lambda: Scripted("push", skill=1.5),
        lambda: Scripted("push", style="no_grasp"),
        lambda: make_hand("joystick"),
        lambda: make_play("joystick"),
    ):
        with pytest.raises(ConfigError):
            call()
