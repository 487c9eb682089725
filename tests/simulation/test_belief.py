"""What a policy believes of a scene: doubtful readings count less, a thing left alone stands, a touched one is followed."""

from __future__ import annotations

import numpy as np
import pytest

from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT
from genie_robot.simulation.policies.belief import SceneBelief

STATE = np.array([0.40, 0.0, 0.18, 1.0, 0.40, 0.15, 0.028, 0.45, 0.12, 0, 0, 0.33, -0.1, 0.028])
SURE, UNSURE = np.full(14, 0.005), np.full(14, 0.05)


def near() -> np.ndarray:
    state = STATE.copy()
    state[EE] = state[OBJECT]
    return state


def shifted(state: np.ndarray, part: slice, by_m: float) -> np.ndarray:
    state = state.copy()
    state[part] += by_m
    return state


def test_the_first_look_is_believed_and_so_is_all_that_may_move() -> None:
    belief = SceneBelief()
    assert np.array_equal(belief.update(STATE, UNSURE), STATE)
    other = shifted(STATE, slice(0, 14), 0.3)
    believed = belief.update(other, UNSURE)
    moving = np.ones(14, bool)
    moving[OBJECT] = moving[GOAL_XY] = False
    assert np.allclose(believed[moving], other[moving])


@pytest.mark.parametrize("part", [OBJECT, GOAL_XY])
def test_jitter_of_what_stands_alone_is_averaged(part: slice) -> None:
    rng = np.random.default_rng(0)
    belief = SceneBelief()
    off_m = []
    for _ in range(30):
        believed = belief.update(shifted(STATE, part, rng.normal(0, 0.01)), np.full(14, 0.01))
        off_m.append(np.abs(believed[part] - STATE[part]).max())
    assert np.mean(off_m[10:]) < 0.005


def test_a_doubtful_reading_counts_less_than_a_sure_one() -> None:
    moved_m = []
    for error in (SURE, UNSURE):
        belief = SceneBelief()
        belief.update(near(), SURE)
        moved_m.append(belief.update(shifted(near(), OBJECT, 0.04), error)[OBJECT][0] - STATE[OBJECT][0])
    assert moved_m[0] > 0.035 and moved_m[1] < 0.02


def test_a_thing_at_the_hand_is_followed_and_one_alone_is_not_moved_by_one_glance() -> None:
    followed, stood = SceneBelief(), SceneBelief()
    followed.update(near(), SURE)
    stood.update(STATE, SURE)
    assert followed.update(shifted(near(), OBJECT, 0.03), SURE)[OBJECT][0] - STATE[OBJECT][0] > 0.025
    assert stood.update(shifted(STATE, OBJECT, 0.03), SURE)[OBJECT][0] - STATE[OBJECT][0] < 0.02


def test_eyes_that_do_not_know_their_error_are_believed_but_of_the_goal() -> None:
    belief, unknown = SceneBelief(), np.full(14, np.nan)
    belief.update(STATE, unknown)
    believed = belief.update(shifted(STATE, slice(0, 14), 0.02), unknown)
    assert np.allclose(believed[OBJECT], STATE[OBJECT] + 0.02)
    assert np.allclose(believed[GOAL_XY], STATE[GOAL_XY] + 0.01)
