from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.tasks import (
    LIFT_HEIGHT_M,
    OBJECT_REST_Z_M,
    PUSH_RADIUS_M,
    STATE_NAMES,
    TASKS,
    goal_distance_m,
    instruction,
    task_success,
)


def state(object_m=(0.4, 0.0, OBJECT_REST_Z_M), goal_m=(0.4, 0.1)) -> np.ndarray:
    return np.array([0.4, 0.0, 0.2, 1.0, *object_m, *goal_m], np.float32)


def test_push_succeeds_only_within_the_radius_and_on_the_table():
    assert not task_success("push", state(goal_m=(0.4, PUSH_RADIUS_M + 1e-3)))
    assert task_success("push", state(goal_m=(0.4, PUSH_RADIUS_M - 1e-3)))
    assert not task_success(
        "push", state(goal_m=(0.4 + PUSH_RADIUS_M, 0.03))
    )  # the diagonal counts, not each axis
    assert not task_success("push", state((0.4, 0.0, 0.2), (0.4, 0.0)))  # held above the goal


def test_lift_succeeds_only_above_the_height():
    assert not task_success("lift", state((0.4, 0.0, OBJECT_REST_Z_M + LIFT_HEIGHT_M - 1e-3)))
    assert task_success("lift", state((0.4, 0.0, OBJECT_REST_Z_M + LIFT_HEIGHT_M + 1e-3)))
    assert not task_success("lift", state(goal_m=(0.4, 0.0)))  # the goal does not matter


def test_goal_distance_is_seen_from_above():
    assert goal_distance_m(state((0.4, 0.0, 0.3), (0.43, 0.04))) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("call", [lambda: task_success("fly", state()), lambda: instruction("fly")])
def test_unknown_task_names_the_known_ones(call):
    with pytest.raises(ConfigError, match=r"fly.*push, lift"):
        call()


def test_wrong_state_shape_is_refused():
    with pytest.raises(ConfigError, match="shape"):
        task_success("push", np.zeros(len(STATE_NAMES) + 1))


def test_instructions_differ_between_tasks():
    assert len({instruction(task, "red box") for task in TASKS}) == len(TASKS)
    assert "red box" in instruction("lift", "red box")


def test_tasks_and_behaviours_do_not_load_mujoco():
    code = (
        "import sys, genie_robot.simulation.mujoco.behaviours, genie_robot.simulation.mujoco.tasks;"
        "sys.exit('mujoco' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
