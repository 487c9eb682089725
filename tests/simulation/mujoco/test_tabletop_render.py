from __future__ import annotations

import mujoco
import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.behaviours import Play
from genie_robot.simulation.mujoco.env import TabletopSimulator
from genie_robot.simulation.mujoco.render import camera_rays, project


def simulator(seed: int, steps: int = 6) -> TabletopSimulator:
    """Return a simulator some steps into an episode, so that the arm is not where it started."""
    made = TabletopSimulator()
    made.reset(np.random.default_rng(seed))
    play = Play()
    play.reset(np.random.default_rng(seed))
    for _ in range(steps):
        made.step(play.act(made.state))
    return made


@pytest.mark.parametrize("seed", range(5))
def test_random_rays_agree_with_mj_ray(seed):
    made = simulator(seed)
    rng = np.random.default_rng(seed)
    camera = np.array(made.scene.camera_position_m)
    aims = rng.uniform((-0.2, -0.35, 0.0), (0.7, 0.35, 0.5), (500, 3))
    rays = (aims - camera) / np.linalg.norm(aims - camera, axis=1, keepdims=True)
    ids, distances, _ = made.renderer.cast(camera, rays, None)
    found, normal = np.zeros(1, np.int32), np.zeros(3)
    wrong = 0
    for ray, geom, distance in zip(rays, ids, distances, strict=True):
        true = mujoco.mj_ray(made.model, made.data, camera, ray, None, True, -1, found, normal)
        wrong += found[0] != geom or not np.isclose(true, distance, atol=1e-9)
    assert wrong == 0
    assert len(np.unique(ids)) >= 6  # the rays met table, wall and several parts of the arm


@pytest.mark.parametrize("seed", range(5))
def test_two_passes_see_what_one_pass_sees(seed):
    made = simulator(seed)
    rays = camera_rays(made.scene, (128, 128))
    ids, _, _ = made.renderer.cast(np.array(made.scene.camera_position_m), rays, None)
    assert np.array_equal(made.renderer.segment().reshape(-1), ids)


def test_picture_is_reproducible_and_depends_on_the_scene():
    first, again, other = (simulator(seed).frame() for seed in (3, 3, 4))
    assert first.dtype == np.uint8
    assert first.shape == (64, 64, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_object_goal_and_gripper_are_always_in_the_first_picture():
    for seed in range(20):
        made = simulator(seed, steps=0)
        seen = made.renderer.segment()
        for name, least in (("object", 60), ("goal", 60)):
            geom = made.model.geom(name).id
            assert (seen == geom).sum() >= least, (seed, name)
        fingers = [
            g for g in range(made.model.ngeom) if np.allclose(made.model.geom_rgba[g, :3], sc.FINGER_RGB)
        ]
        assert np.isin(seen, fingers).sum() >= 60, seed


def test_gripper_throws_a_shadow_on_the_table():
    made = simulator(1, steps=0)
    light, palm = np.array(made.scene.light_position_m), made.data.geom("palm").xpos
    below = light + (palm - light) * light[2] / (light[2] - palm[2])
    far = np.array([0.5, 0.45, 0.0])
    assert made.renderer._in_shadow(np.stack([below, far])).tolist() == [True, False]
    column, row = project(made.scene, below, (64, 64))[0].astype(int)
    made.data.qpos[:] = made.model.qpos0  # the arm stretched out elsewhere
    before = made.frame()[row, column].astype(int)
    mujoco.mj_forward(made.model, made.data)
    assert made.frame()[row, column].sum() > before.sum() * 1.2


def test_project_agrees_with_the_rays():
    scene = sc.sample_scene(np.random.default_rng(2))
    rays = camera_rays(scene, (64, 64)).reshape(64, 64, 3)
    for row, column in ((0, 0), (10, 50), (63, 20)):
        point = np.array(scene.camera_position_m) + 0.8 * rays[row, column]
        np.testing.assert_allclose(project(scene, point, (64, 64))[0], (column + 0.5, row + 0.5), atol=1e-6)


def test_one_step_moves_the_gripper_by_some_pixels():
    scene = sc.sample_scene(np.random.default_rng(2))
    centre = np.array([0.40, 0.0, 0.12])
    start = project(scene, centre, (64, 64))[0]
    for axis, least in ((0, 2.5), (1, 4.0), (2, 3.0)):
        moved = project(scene, centre + 0.04 * np.eye(3)[axis], (64, 64))[0]
        assert np.linalg.norm(moved - start) > least


@pytest.mark.parametrize("size", [0, 4, 5000, 64.0])
def test_image_size_out_of_range_is_refused(size):
    with pytest.raises(ConfigError, match="image_size"):
        TabletopSimulator(size)


def test_other_sizes_render():
    made = TabletopSimulator(96)
    made.reset(np.random.default_rng(0))
    assert made.frame().shape == (96, 96, 3)
