"""The scenes of the five tasks: what is drawn per episode, and the MuJoCo model.

An object and a distractor, told apart by colour, stand on the table. reach, push and pick_lift have a disc (the goal
of push, a decoy else), pick_place a pedestal, drawer a cabinet whose drawer slides towards the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.manipulation.tasks import DRAWER_TRAVEL_M, PEDESTAL_HEIGHT_M, check_task
from genie_robot.simulation.mujoco.simulator import Robot

Xy = tuple[float, float]
Xyz = tuple[float, float, float]

DISTRACTOR_COLOURS: dict[str, sc.Rgb] = {"black": (0.08, 0.08, 0.09), "orange": (1.0, 0.47, 0.08)}
"""Never the object's colours, so that a picture alone tells which is which."""
PEDESTAL_RADIUS_M = 0.06
HANDLE_Z_M, HANDLE_HALF_M = 0.045, (0.012, 0.016, 0.025)
HANDLE_OUT_M = 0.060
"""The handle's centre is this far in front of the drawer's face."""
CABINET_FRONT_X_M, CABINET_DEPTH_M, CABINET_HALF_WIDTH_M, CABINET_HEIGHT_M = 0.265, 0.16, 0.09, 0.085
DRAWER_STOP_M = 0.13
CLEARANCE_M = 0.125
"""Least distance between two things on the table: open fingers fit between them."""


@dataclass(frozen=True)
class Look:
    """How much table, wall, robot, light and camera differ from episode to episode."""

    colour: float
    camera_m: float
    target_m: float
    roll_rad: float
    fovy_deg: float
    light_m: float
    strength: float


LOOKS: dict[str, Look] = {
    "none": Look(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "default": Look(0.07, 0.01, 0.01, 0.012, 0.75, 0.15, 0.065),
    "strong": Look(0.22, 0.06, 0.02, 0.035, 2.0, 0.50, 0.18),
}
"""Half-widths of the ranges around the middle; colours in [0, 1]. "none" is the same in every episode."""


@dataclass(frozen=True)
class Appearance:
    """Colours, camera and light of one episode."""

    table_rgb: sc.Rgb
    wall_rgb: sc.Rgb
    wood_rgb: sc.Rgb
    camera_position_m: Xyz
    camera_target_m: Xyz
    camera_roll_rad: float
    camera_fovy_deg: float
    light_position_m: Xyz
    light_strength: float


@dataclass(frozen=True)
class TaskScene:
    """Everything that differs between two episodes; `sample_scene` draws it from one generator."""

    task: str
    object_shape: str
    object_colour: str
    object_half_width_m: float
    object_xy_m: Xy
    object_yaw_rad: float
    distractor_shape: str
    distractor_colour: str
    distractor_xy_m: Xy
    distractor_yaw_rad: float
    goal_colour: str
    goal_xy_m: Xy
    drawer_out_m: float
    ee_start_m: Xyz
    gripper_open: bool
    appearance: Appearance

    @property
    def object_name(self) -> str:
        """The object in words, such as "red box"."""
        return f"{self.object_colour} {self.object_shape}"


def check_look(look: str) -> str:
    """Return `look` if it exists, else raise ConfigError."""
    if look not in LOOKS:
        raise ConfigError(f"look is {look!r}, wanted one of {', '.join(LOOKS)}; choose one of these")
    return look


def sample_scene(task: str, rng: np.random.Generator, look: str = "default") -> TaskScene:
    """Draw one episode's scene; the same generator state gives the same scene."""
    check_task(task)
    check_look(look)
    object_xy, goal_xy, distractor_xy, drawer_out = _sample_layout(task, rng)
    shapes = ["box", "cylinder"]
    return TaskScene(
        task=task,
        object_shape="handle" if task == "drawer" else str(rng.choice(shapes)),
        object_colour=str(rng.choice(list(sc.OBJECT_COLOURS))),
        object_half_width_m=float(rng.uniform(0.026, 0.029)),
        object_xy_m=sc.floats(object_xy),
        object_yaw_rad=float(rng.uniform(-0.35, 0.35)),
        distractor_shape=str(rng.choice(shapes)),
        distractor_colour=str(rng.choice(list(DISTRACTOR_COLOURS))),
        distractor_xy_m=sc.floats(distractor_xy),
        distractor_yaw_rad=float(rng.uniform(-0.35, 0.35)),
        goal_colour=str(rng.choice(list(sc.GOAL_COLOURS))),
        goal_xy_m=sc.floats(goal_xy),
        drawer_out_m=drawer_out,
        ee_start_m=sc.floats(rng.uniform((0.31, -0.15, 0.15), (0.51, 0.15, 0.23))),
        gripper_open=bool(rng.random() < 0.6),
        appearance=_sample_appearance(rng, LOOKS[look]),
    )


def _sample_appearance(rng: np.random.Generator, look: Look) -> Appearance:
    def around(middle: tuple[float, ...], half: float) -> np.ndarray:
        return np.array(middle) + half * rng.uniform(-1, 1, len(middle))

    return Appearance(
        table_rgb=sc.floats(around((0.56, 0.56, 0.56), look.colour)),
        wall_rgb=sc.floats(around((0.74, 0.74, 0.74), look.colour)),
        wood_rgb=sc.floats(around((0.66, 0.50, 0.33), look.colour / 2)),
        camera_position_m=sc.floats(around((1.106, 0.0, 0.736), look.camera_m)),
        camera_target_m=sc.floats(around((0.40, 0.0, 0.105), look.target_m)),
        camera_roll_rad=float(around((0.0,), look.roll_rad)[0]),
        camera_fovy_deg=float(around((30.5,), look.fovy_deg)[0]),
        light_position_m=sc.floats(around((0.85, -0.35, 2.0), look.light_m)),
        light_strength=float(around((0.985,), look.strength)[0]),
    )


def _sample_layout(task: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Draw positions of object, goal and distractor [m] and how far the drawer is out; no start is solved."""
    nearest, farthest = {"push": (0.12, 0.19), "pick_place": (0.15, 0.26)}.get(task, (0.10, 0.22))
    while True:
        distractor = rng.uniform((0.33, -0.17), (0.52, 0.17))
        if task == "drawer":
            closed = np.array([CABINET_FRONT_X_M + HANDLE_OUT_M, rng.uniform(-0.09, 0.09)])
            out = float(rng.uniform(0.0, 0.02))
            if distractor[0] > 0.36 and abs(distractor[1] - closed[1]) > CLEARANCE_M:
                return closed + (out, 0), closed + (DRAWER_TRAVEL_M, 0), distractor, out
            continue
        thing = rng.uniform((0.35, -0.13), (0.48, 0.13))
        goal = rng.uniform((0.33, -0.16), (0.50, 0.16))
        apart = np.hypot(*(goal - thing))
        along = np.clip(np.dot(distractor - thing, goal - thing) / apart**2, 0, 1)
        aside = np.hypot(*(distractor - thing - along * (goal - thing)))
        off_goal = np.hypot(*(distractor - goal))
        if (
            nearest <= apart <= farthest
            and aside > CLEARANCE_M - 0.02 * (along > 0)
            and off_goal > CLEARANCE_M
        ):
            if np.hypot(*(distractor - thing)) > CLEARANCE_M:
                return thing, goal, distractor, 0.0


def build_scene(scene: TaskScene, robot: Robot) -> mujoco.MjModel:
    """Compile the MuJoCo model of `scene` with `robot` in it."""
    spec = sc.new_spec()
    look = scene.appearance
    sc.add_table_and_wall(spec, look.table_rgb, look.wall_rgb)
    rgb = sc.OBJECT_COLOURS[scene.object_colour]
    half = scene.object_half_width_m
    if scene.task == "drawer":
        _add_drawer(spec, scene, rgb)
    else:
        goal_rgb = sc.GOAL_COLOURS[scene.goal_colour]
        add_goal = _add_pedestal if scene.task == "pick_place" else sc.add_disc
        add_goal(spec, scene.goal_xy_m, goal_rgb)
        sc.add_thing(spec, "object", scene.object_shape, rgb, half, scene.object_xy_m, scene.object_yaw_rad)
    sc.add_thing(
        spec,
        "distractor",
        scene.distractor_shape,
        DISTRACTOR_COLOURS[scene.distractor_colour],
        half,
        scene.distractor_xy_m,
        scene.distractor_yaw_rad,
    )
    robot.add(spec)
    return spec.compile()


def _add_pedestal(spec: mujoco.MjSpec, xy_m: Xy, rgb: sc.Rgb) -> None:
    body = spec.worldbody.add_body(name="goal", pos=(*xy_m, PEDESTAL_HEIGHT_M / 2))
    body.add_geom(
        name="goal",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=(PEDESTAL_RADIUS_M, PEDESTAL_HEIGHT_M / 2, 0),
        rgba=(*rgb, 1),
    )


def _add_drawer(spec: mujoco.MjSpec, scene: TaskScene, handle_rgb: sc.Rgb) -> None:
    """Add the cabinet, and the drawer whose body "object" is centred on the handle.

    The drawer's parts collide with gripper and things, not with the cabinet that they slide in.
    """
    box = mujoco.mjtGeom.mjGEOM_BOX
    wood = np.array(scene.appearance.wood_rgb)
    y, half_width, height = scene.object_xy_m[1], CABINET_HALF_WIDTH_M, CABINET_HEIGHT_M
    cabinet = spec.worldbody.add_body(
        name="cabinet", pos=(CABINET_FRONT_X_M - CABINET_DEPTH_M / 2, y, height / 2)
    )
    size = (CABINET_DEPTH_M / 2, half_width, height / 2)
    cabinet.add_geom(name="cabinet", type=box, size=size, rgba=(*(wood * 0.8), 1), contype=1, conaffinity=0)

    closed_x = CABINET_FRONT_X_M + HANDLE_OUT_M
    drawer = spec.worldbody.add_body(name="object", pos=(closed_x, y, HANDLE_Z_M))
    drawer.add_joint(
        name="drawer",
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=(1, 0, 0),
        range=(0, DRAWER_STOP_M),
        limited=True,
        damping=6.0,
        frictionloss=1.0,
        armature=0.05,
    )
    dark, light = (*(wood * 0.55), 1), (*np.minimum(wood * 1.25, 1), 1)
    stem, back = (HANDLE_OUT_M - HANDLE_HALF_M[0]) / 2, -HANDLE_OUT_M - CABINET_DEPTH_M / 2 + 0.012
    parts = {  # half sizes, centre from the handle's, colour
        "object": (HANDLE_HALF_M, (0, 0, 0), (*handle_rgb, 1)),
        "stem": ((stem, 0.006, 0.006), (-HANDLE_HALF_M[0] - stem, 0, 0), dark),
        "face": ((0.006, 0.085, 0.036), (-HANDLE_OUT_M, 0, -0.003), light),
        "tray": ((0.066, 0.078, 0.004), (back, 0, -0.033), dark),
        "side_left": ((0.066, 0.004, 0.026), (back, 0.078, -0.009), light),
        "side_right": ((0.066, 0.004, 0.026), (back, -0.078, -0.009), light),
    }
    for name, (size, centre, rgba) in parts.items():
        drawer.add_geom(
            name=name,
            type=box,
            size=size,
            pos=centre,
            rgba=rgba,
            contype=1,
            conaffinity=0,
            group=sc.MOVING_GROUP,
            condim=4,
            mass=0.1,
            friction=(1.5, 0.02, 1e-3) if name == "object" else (1.0, 0.005, 1e-4),
        )
