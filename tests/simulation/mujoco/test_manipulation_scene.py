from __future__ import annotations

import mujoco
import numpy as np
import pytest

from genie_robot.data.commands import WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator
from genie_robot.simulation.mujoco.manipulation.scene import CLEARANCE_M, LOOKS, sample_scene
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS, task_success
from genie_robot.simulation.mujoco.render import camera_rays, project


def simulator(task: str, seed: int, **options) -> ManipulationSimulator:
    made = ManipulationSimulator(task, **options)
    made.reset(np.random.default_rng(seed))
    return made


@pytest.mark.parametrize("task", TASKS)
def test_scene_is_determined_by_the_generator(task):
    first, second, other = (sample_scene(task, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


@pytest.mark.parametrize("task", TASKS)
def test_no_start_is_solved_and_everything_is_apart_and_in_reach(task):
    for seed in range(40):
        scene = sample_scene(task, np.random.default_rng(seed))
        thing, distractor = np.array(scene.object_xy_m), np.array(scene.distractor_xy_m)
        if task != "drawer":
            assert np.hypot(*(thing - distractor)) > CLEARANCE_M
        assert np.all(scene.ee_start_m >= WORKSPACE_LOW_M)
        assert np.all(scene.ee_start_m <= WORKSPACE_HIGH_M)
        for place in (thing, distractor, np.array(scene.goal_xy_m)):
            assert np.all(place >= WORKSPACE_LOW_M[:2])
            assert np.all(place <= WORKSPACE_HIGH_M[:2])
        made = simulator(task, seed)
        start = made.state
        assert not task_success(task, start)
        if seed < 5:
            mujoco.mj_step(made.model, made.data, 100)  # nothing falls, tilts or slides by itself
            made.forward()
            np.testing.assert_allclose(made.state, start, atol=2e-3)


@pytest.mark.parametrize("task", TASKS)
def test_random_rays_agree_with_mj_ray(task):
    """Catches the trap of mj_multiRay: geoms outside the box of their body's colliding geoms vanish."""
    made = simulator(task, 3)
    if task == "drawer":
        made.data.joint("drawer").qpos = 0.1
        made.forward()
    camera = np.array(made.scene.appearance.camera_position_m)
    rng = np.random.default_rng(0)
    aims = rng.uniform((0.1, -0.2, 0.0), (0.55, 0.2, 0.2), (400, 3))
    rays = (aims - camera) / np.linalg.norm(aims - camera, axis=1, keepdims=True)
    ids, distances, _ = made.renderer.cast(camera, rays, None)
    found, normal = np.zeros(1, np.int32), np.zeros(3)
    for ray, geom, distance in zip(rays, ids, distances, strict=True):
        true = mujoco.mj_ray(made.model, made.data, camera, ray, None, True, -1, found, normal)
        assert found[0] == geom
        assert true == pytest.approx(distance, abs=1e-9)
    assert len(np.unique(ids)) >= 6


@pytest.mark.parametrize("task", TASKS)
def test_what_matters_can_be_seen(task):
    """A task is judged from pictures, so the object must show in nearly every first picture."""
    seen_object = 0
    for seed in range(15):
        made = simulator(task, seed)
        seen = made.renderer.segment()
        seen_object += (seen == made.model.geom("object").id).sum() >= 40  # 10 pixels of 64x64
    assert seen_object >= 13


@pytest.mark.parametrize("task", TASKS)
def test_pictures_repeat(task):
    first, second = simulator(task, 1).frame(), simulator(task, 1).frame()
    assert np.array_equal(first, second)


def test_looks_differ_in_how_much_they_vary():
    def spread(look: str) -> float:
        scenes = [sample_scene("push", np.random.default_rng(seed), look).appearance for seed in range(20)]
        return float(np.std([scene.camera_position_m for scene in scenes], axis=0).max())

    assert spread("none") < 1e-9
    assert 1e-3 < spread("default") < spread("strong") / 3
    assert set(LOOKS) == {"none", "default", "strong"}
    with pytest.raises(ConfigError, match="look"):
        sample_scene("push", np.random.default_rng(0), "wild")


def test_a_strong_look_still_shows_the_table():
    for seed in range(30):
        scene = sample_scene("pick_place", np.random.default_rng(seed), "strong")
        for xy in (scene.object_xy_m, scene.goal_xy_m, scene.distractor_xy_m):
            column, row = project(scene.appearance, np.array([*xy, 0.03]), (64, 64))[0]
            assert 2 < column < 62
            assert 2 < row < 62


@pytest.mark.parametrize("image_hw", [(48, 96), (96, 48), (64, 64)])
def test_pictures_need_not_be_square(image_hw):
    made = simulator("push", 2, image_hw=image_hw)
    assert made.frame().shape == (*image_hw, 3)
    view = made.scene.appearance
    rays = camera_rays(view, image_hw).reshape(*image_hw, 3)
    point = np.array(view.camera_position_m) + 0.9 * rays[20, 30]
    np.testing.assert_allclose(project(view, point, image_hw)[0], (30.5, 20.5), atol=1e-6)
    # the middle square of a wide or tall picture is the square picture
    side = min(image_hw)
    top, left = (image_hw[0] - side) // 2, (image_hw[1] - side) // 2
    middle = made.frame()[top : top + side, left : left + side]
    assert np.array_equal(middle, simulator("push", 2, image_hw=(side, side)).frame())
