from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data.commands import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.tasks import OBJECT_REST_Z_M

in_workspace = st.tuples(
    *(st.floats(float(low), float(high)) for low, high in zip(WORKSPACE_LOW_M, WORKSPACE_HIGH_M, strict=True))
)


@given(in_workspace)
def test_inverse_kinematics_round_trip(position):
    found = sc.forward_kinematics(sc.inverse_kinematics(np.array(position)))
    np.testing.assert_allclose(found, position, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(in_workspace)
def test_model_agrees_with_the_closed_form(position):
    model, data = _model()
    for name, angle in zip(sc.ARM_JOINTS, sc.inverse_kinematics(np.array(position)), strict=True):
        data.qpos[model.joint(name).qposadr[0]] = angle
    mujoco.mj_forward(model, data)
    np.testing.assert_allclose(data.site("ee").xpos, position, atol=1e-9)
    hand = data.body("hand").xmat.reshape(3, 3)
    np.testing.assert_allclose(hand[:, 0], (0, 0, -1), atol=1e-9)  # points down
    np.testing.assert_allclose(hand[:, 1], (0, 1, 0), atol=1e-9)  # fingers open along y


def _model():
    model = sc.build_scene(sc.sample_scene(np.random.default_rng(0)))
    return model, mujoco.MjData(model)


def test_scene_is_determined_by_the_generator():
    first, second, other = (sc.sample_scene(np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_every_start_is_unsolved_and_the_object_rests():
    for seed in range(50):
        scene = sc.sample_scene(np.random.default_rng(seed))
        distance = np.hypot(*np.subtract(scene.goal_xy_m, scene.object_xy_m))
        assert 0.10 <= distance <= 0.19
        assert np.all(scene.ee_start_m >= WORKSPACE_LOW_M)
        assert np.all(scene.ee_start_m <= WORKSPACE_HIGH_M)
    model, data = _model()
    mujoco.mj_step(model, data, 100)
    assert data.body("object").xpos[2] == pytest.approx(OBJECT_REST_Z_M, abs=1e-3)
