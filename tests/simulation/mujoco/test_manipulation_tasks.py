from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco import tasks as tabletop
from genie_robot.simulation.mujoco.manipulation.tasks import (
    DRAWER_TRAVEL_M,
    LIFT_HEIGHT_M,
    NEAR_M,
    PEDESTAL_HEIGHT_M,
    RADIUS_M,
    RELEASED_Z_M,
    STATE_NAMES,
    TASKS,
    TOUCH_ABOVE_M,
    goal_distance_m,
    instruction,
    is_near_miss,
    task_success,
)

REST = tabletop.OBJECT_REST_Z_M
STANDING = REST + PEDESTAL_HEIGHT_M


def state(ee=(0.4, 0.0, 0.2), opening=1.0, thing=(0.4, 0.0, REST), goal=(0.4, 0.15)) -> np.ndarray:
    return np.array([*ee, opening, *thing, *goal, 0.0, 0.0, 0.5, -0.15, REST], np.float32)


def test_the_state_begins_as_that_of_tabletop():
    assert STATE_NAMES[:9] == tabletop.STATE_NAMES


# task, a state that just succeeds, states that just fail
EDGES = [
    (
        "reach",
        state(ee=(0.4, RADIUS_M["reach"] - 1e-3, REST + TOUCH_ABOVE_M)),
        [
            state(ee=(0.4, RADIUS_M["reach"] + 1e-3, REST + TOUCH_ABOVE_M)),
            state(ee=(0.4, 0.0, REST + TOUCH_ABOVE_M + RADIUS_M["reach"] + 1e-3)),  # stays high
            state(ee=(0.5, -0.15, REST + TOUCH_ABOVE_M)),  # the distractor
        ],
    ),
    (
        "push",
        state(thing=(0.4, 0.101, REST)),
        [
            state(thing=(0.4, 0.099, REST)),  # stops short
            state(thing=(0.4, 0.201, REST)),  # pushes past
            state(thing=(0.4, 0.15, REST), ee=(0.4, 0.1, RELEASED_Z_M - 1e-3)),  # has not let go
            state(thing=(0.4, 0.15, 0.15)),  # held above the disc
        ],
    ),
    (
        "pick_lift",
        state(thing=(0.4, 0.0, REST + LIFT_HEIGHT_M + 1e-3)),
        [state(thing=(0.4, 0.0, REST + LIFT_HEIGHT_M - 1e-3)), state(goal=(0.4, 0.0))],
    ),
    (
        "drawer",
        state(thing=(0.501, 0.0, 0.045), goal=(0.5, 0.0)),
        [state(thing=(0.499, 0.0, 0.045), goal=(0.5, 0.0))],
    ),
    (
        "pick_place",
        state(thing=(0.4, 0.101, STANDING)),
        [
            state(thing=(0.4, 0.099, STANDING)),  # beside
            state(thing=(0.4, 0.15, STANDING), opening=0.5),  # still in the hand
            state(thing=(0.4, 0.15, REST)),  # pushed, were there no pedestal
            state(thing=(0.4, 0.15, 0.12)),  # held above
        ],
    ),
]


@pytest.mark.parametrize(("task", "good", "bad"), EDGES, ids=[edge[0] for edge in EDGES])
def test_success_has_the_edges_that_the_rule_says(task, good, bad):
    assert task_success(task, good)
    assert not is_near_miss(task, good)
    for failed in bad:
        assert not task_success(task, failed)


def test_near_misses_are_near():
    assert is_near_miss("push", state(thing=(0.4, 0.08, REST)))
    assert not is_near_miss("push", state(thing=(0.4, 0.02, REST)))
    held = state(ee=(0.4, 0.0, REST + 0.05), thing=(0.4, 0.0, REST + 0.04))
    assert is_near_miss("pick_lift", held)
    assert not is_near_miss("pick_lift", state())
    half_open = state(ee=(0.46, 0.0, 0.05), thing=(0.46, 0.0, 0.045), goal=(0.5, 0.0))
    assert is_near_miss("drawer", half_open)


@given(
    st.sampled_from(TASKS),
    st.lists(st.floats(-0.2, 0.6), min_size=len(STATE_NAMES), max_size=len(STATE_NAMES)),
)
def test_success_near_miss_and_distance_agree(task, values):
    values = np.array(values)
    distance = goal_distance_m(task, values)
    assert distance >= 0
    success, near = task_success(task, values), is_near_miss(task, values)
    assert not (success and near)
    if near:
        assert distance < NEAR_M[task]
    if distance >= NEAR_M[task] and task in ("reach", "push", "pick_place"):
        assert not success


def test_distance_falls_along_the_way():
    closed = state(ee=(0.4, 0.1, 0.2), thing=(0.33, 0.0, 0.045), goal=(0.43, 0.0))
    gripped = state(ee=(0.33, 0.0, 0.05), thing=(0.33, 0.0, 0.045), goal=(0.43, 0.0))
    half = state(ee=(0.38, 0.0, 0.05), thing=(0.38, 0.0, 0.045), goal=(0.43, 0.0))
    distances = [goal_distance_m("drawer", one) for one in (closed, gripped, half)]
    assert distances == sorted(distances, reverse=True)
    assert goal_distance_m("drawer", gripped) == pytest.approx(DRAWER_TRAVEL_M, abs=1e-6)


def test_instructions_differ_and_name_the_thing():
    texts = {instruction(task, "red box", "pink") for task in TASKS}
    assert len(texts) == len(TASKS)
    assert all("red box" in text for text in texts)


def test_wrong_task_and_state_are_refused():
    for call in (
        lambda: task_success("fly", state()),
        lambda: instruction("fly"),
        lambda: goal_distance_m("fly", state()),
    ):
        with pytest.raises(ConfigError, match=r"fly.*reach, push"):
            call()
    with pytest.raises(ConfigError, match="shape"):
        task_success("push", np.zeros(9))


def test_rules_and_behaviours_do_not_load_mujoco():
    code = (
        "import sys, genie_robot.simulation.mujoco.manipulation.behaviours, "
        "genie_robot.simulation.mujoco.manipulation.tasks; sys.exit('mujoco' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
