"""The table-top scene: what is drawn per episode, the MjSpec model, and the arm's closed-form kinematics.

Robot frame (REP-103): origin at the arm's base on the table top, x forward (towards the camera), y left,
z up. The arm is made of primitives, so that no mesh is shipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from genie_robot.simulation.mujoco.tasks import OBJECT_REST_Z_M

LINK_M = 0.34
BASE_HEIGHT_M = 0.22
TOOL_M = 0.16
FINGER_TRAVEL_M = 0.054
PHYSICS_DT_S = 0.01
SUBSTEPS = 20
CONTROL_DT_S = PHYSICS_DT_S * SUBSTEPS

Rgb = tuple[float, float, float]
STATIC_GROUP, MOVING_GROUP = 0, 1
FINGER_RGB = (1.0, 0.80, 0.05)
ARM_RGB = (0.93, 0.94, 0.96)
JOINT_RGB = (0.33, 0.37, 0.44)

OBJECT_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.14),
    "green": (0.08, 0.58, 0.25),
    "blue": (0.10, 0.28, 0.85),
    "purple": (0.52, 0.16, 0.66),
}
GOAL_COLOURS: dict[str, tuple[float, float, float]] = {
    "white": (0.96, 0.96, 0.94),
    "cyan": (0.25, 0.78, 0.86),
    "pink": (0.97, 0.55, 0.68),
}

ARM_JOINTS = ("yaw", "shoulder", "elbow", "wrist_pitch", "wrist_roll")
_KP = (900.0, 900.0, 600.0, 200.0, 100.0)
_KV = (22.0, 22.0, 15.0, 5.0, 2.5)


@dataclass(frozen=True)
class SceneParameters:
    """Everything that differs between two episodes; `sample_scene` draws it from one generator."""

    object_shape: str
    object_colour: str
    object_half_width_m: float
    object_xy_m: tuple[float, float]
    object_yaw_rad: float
    goal_colour: str
    goal_xy_m: tuple[float, float]
    ee_start_m: tuple[float, float, float]
    gripper_open: bool
    table_rgb: tuple[float, float, float]
    wall_rgb: tuple[float, float, float]
    camera_position_m: tuple[float, float, float]
    camera_target_m: tuple[float, float, float]
    camera_roll_rad: float
    camera_fovy_deg: float
    light_position_m: tuple[float, float, float]
    light_strength: float

    @property
    def object_name(self) -> str:
        """The object in words, such as "red box"."""
        return f"{self.object_colour} {self.object_shape}"


def sample_scene(rng: np.random.Generator) -> SceneParameters:
    """Draw one episode's scene; the same generator state gives the same scene."""
    object_xy, goal_xy = _sample_layout(rng)
    ee_start = rng.uniform((0.29, -0.15, 0.11), (0.51, 0.15, 0.22))
    grey = rng.uniform(0.50, 0.62)
    tint = rng.uniform(-0.05, 0.05, 2)
    wall_grey = rng.uniform(0.68, 0.80)
    wall_tint = rng.uniform(-0.03, 0.03, 2)
    position = np.array([1.106, 0.0, 0.736]) + rng.uniform(-0.01, 0.01, 3)
    target = np.array([0.40, 0.0, 0.112]) + rng.uniform(-0.01, 0.01, 3)
    light = np.array([0.85, -0.35, 2.0]) + rng.uniform(-0.15, 0.15, 3)
    return SceneParameters(
        object_shape=str(rng.choice(["box", "cylinder"])),
        object_colour=str(rng.choice(list(OBJECT_COLOURS))),
        object_half_width_m=float(rng.uniform(0.026, 0.029)),
        object_xy_m=floats(object_xy),
        object_yaw_rad=float(rng.uniform(-0.2, 0.2)),
        goal_colour=str(rng.choice(list(GOAL_COLOURS))),
        goal_xy_m=floats(goal_xy),
        ee_start_m=floats(ee_start),
        gripper_open=bool(rng.random() < 0.6),
        table_rgb=floats(np.array([grey + tint[0], grey, grey + tint[1]])),
        wall_rgb=floats(np.array([wall_grey + wall_tint[0], wall_grey, wall_grey + wall_tint[1]])),
        camera_position_m=floats(position),
        camera_target_m=floats(target),
        camera_roll_rad=float(rng.uniform(-0.012, 0.012)),
        camera_fovy_deg=float(rng.uniform(29.5, 31.0)),
        light_position_m=floats(light),
        light_strength=float(rng.uniform(0.92, 1.05)),
    )


def floats(values: np.ndarray) -> Any:
    """Return a tuple of plain floats, so that scenes compare and print well."""
    return tuple(float(value) for value in values)


def _sample_layout(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw object and goal positions [m] that are neither solved nor out of reach of a push."""
    while True:
        object_xy = rng.uniform((0.35, -0.11), (0.46, 0.11))
        goal_xy = rng.uniform((0.32, -0.17), (0.50, 0.17))
        if 0.10 <= np.hypot(*(goal_xy - object_xy)) <= 0.19:
            return object_xy, goal_xy


def build_scene(scene: SceneParameters) -> mujoco.MjModel:
    """Compile the MuJoCo model of `scene` (about 2 ms)."""
    spec = new_spec()
    add_table_and_wall(spec, scene.table_rgb, scene.wall_rgb)
    add_disc(spec, scene.goal_xy_m, GOAL_COLOURS[scene.goal_colour])
    add_thing(
        spec,
        "object",
        scene.object_shape,
        OBJECT_COLOURS[scene.object_colour],
        scene.object_half_width_m,
        scene.object_xy_m,
        scene.object_yaw_rad,
    )
    add_arm(spec)
    return spec.compile()


def new_spec() -> mujoco.MjSpec:
    """Return an empty model with the options that all scenes share."""
    spec = mujoco.MjSpec()
    spec.option.timestep = PHYSICS_DT_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 5.0
    return spec


def add_table_and_wall(spec: mujoco.MjSpec, table_rgb: Rgb, wall_rgb: Rgb) -> None:
    """Add table and wall, each its own body.

    mj_multiRay culls a body by the box around its *colliding* geoms, so a purely visual geom beside
    colliding ones in one body would vanish from the picture.
    """
    box = mujoco.mjtGeom.mjGEOM_BOX
    table = spec.worldbody.add_body(name="table", pos=(0.45, 0, -0.02))
    table.add_geom(
        name="table",
        type=box,
        size=(0.60, 1.2, 0.02),
        rgba=(*table_rgb, 1),
        friction=(0.7, 0.005, 1e-4),
    )
    wall = spec.worldbody.add_body(name="wall", pos=(-0.20, 0, 0.4))
    wall.add_geom(name="wall", type=box, size=(0.04, 1.6, 1.0), rgba=(*wall_rgb, 1), contype=0, conaffinity=0)


def add_disc(spec: mujoco.MjSpec, xy_m: tuple[float, float], rgb: Rgb) -> None:
    """Add the flat goal disc, which nothing touches."""
    goal = spec.worldbody.add_body(name="goal", pos=(*xy_m, 0.0008))
    cylinder, rgba = mujoco.mjtGeom.mjGEOM_CYLINDER, (*rgb, 1)
    goal.add_geom(name="goal", type=cylinder, size=(0.05, 0.0008, 0), rgba=rgba, contype=0, conaffinity=0)


def add_thing(
    spec: mujoco.MjSpec,
    name: str,
    shape: str,
    rgb: Rgb,
    half_m: float,
    xy_m: tuple[float, float],
    yaw_rad: float,
) -> None:
    """Add a free box or cylinder that stands on the table."""
    body = spec.worldbody.add_body(
        name=name,
        pos=(*xy_m, OBJECT_REST_Z_M),
        quat=(np.cos(yaw_rad / 2), 0, 0, np.sin(yaw_rad / 2)),
    )
    body.add_freejoint(name=name)
    is_box = shape == "box"
    body.add_geom(
        name=name,
        type=mujoco.mjtGeom.mjGEOM_BOX if is_box else mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=(half_m, half_m, OBJECT_REST_Z_M) if is_box else (half_m, OBJECT_REST_Z_M, 0),
        rgba=(*rgb, 1),
        mass=0.12,
        friction=(1.0, 0.01, 1e-3),
        condim=4,
        group=MOVING_GROUP,
    )


def add_arm(spec: mujoco.MjSpec) -> None:
    """Add the 5-DoF arm and the two fingers; only palm and fingers collide, and not with each other."""
    box, capsule, cylinder = (
        mujoco.mjtGeom.mjGEOM_BOX,
        mujoco.mjtGeom.mjGEOM_CAPSULE,
        mujoco.mjtGeom.mjGEOM_CYLINDER,
    )
    ghost = {"contype": 0, "conaffinity": 0, "group": MOVING_GROUP, "mass": 0.4}
    arm, dark = (*ARM_RGB, 1), (*JOINT_RGB, 1)

    base = spec.worldbody.add_body(name="base", gravcomp=1)
    _add_hinge(base, "yaw", (0, 0, 1))
    base.add_geom(type=cylinder, fromto=(0, 0, 0, 0, 0, BASE_HEIGHT_M), size=(0.06, 0, 0), rgba=dark, **ghost)
    upper = base.add_body(name="upper", pos=(0, 0, BASE_HEIGHT_M), gravcomp=1)
    _add_hinge(upper, "shoulder", (0, 1, 0))
    upper.add_geom(type=capsule, fromto=(0, 0, 0, LINK_M, 0, 0), size=(0.042, 0, 0), rgba=arm, **ghost)
    fore = upper.add_body(name="fore", pos=(LINK_M, 0, 0), gravcomp=1)
    _add_hinge(fore, "elbow", (0, 1, 0))
    fore.add_geom(type=capsule, fromto=(0, 0, 0, LINK_M, 0, 0), size=(0.036, 0, 0), rgba=arm, **ghost)
    wrist = fore.add_body(name="wrist", pos=(LINK_M, 0, 0), gravcomp=1)
    _add_hinge(wrist, "wrist_pitch", (0, 1, 0))
    wrist.add_geom(
        type=capsule, fromto=(0, 0, 0, TOOL_M - 0.085, 0, 0), size=(0.034, 0, 0), rgba=dark, **ghost
    )
    hand = wrist.add_body(name="hand", gravcomp=1)
    _add_hinge(hand, "wrist_roll", (1, 0, 0))
    touch = {"contype": 2, "conaffinity": 1, "group": MOVING_GROUP, "condim": 4}
    palm = {"type": box, "pos": (TOOL_M - 0.066, 0, 0), "size": (0.016, 0.070, 0.022)}
    hand.add_geom(name="palm", rgba=dark, mass=0.2, **palm, **touch)
    hand.add_site(name="ee", pos=(TOOL_M, 0, 0))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        finger = hand.add_body(name=f"finger_{side}", pos=(TOOL_M - 0.0125, sign * 0.013, 0), gravcomp=1)
        finger.add_joint(
            name=f"finger_{side}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, sign, 0),
            range=(0, FINGER_TRAVEL_M),
            limited=True,
            armature=0.02,
        )
        finger.add_geom(
            type=box,
            size=(0.0375, 0.013, 0.024),
            rgba=(*FINGER_RGB, 1),
            mass=0.05,
            friction=(1.5, 0.02, 1e-3),
            **touch,
        )
        _add_servo(spec, f"finger_{side}", 400.0, 12.0)
    for name, kp, kv in zip(ARM_JOINTS, _KP, _KV, strict=True):
        _add_servo(spec, name, kp, kv)


def _add_hinge(body: mujoco.MjsBody, name: str, axis: tuple[float, float, float]) -> None:
    body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis, armature=0.05)


def _add_servo(spec: mujoco.MjSpec, joint: str, kp: float, kv: float) -> None:
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.set_to_position(kp=kp, kv=kv)


def inverse_kinematics(position_m: np.ndarray, yaw_rad: float = 0.0) -> np.ndarray:
    """Return the five joint angles [rad] that put the fingertip centre at `position_m` (3,).

    Closed form: the gripper always points down; the fingers open along y turned by `yaw_rad` about z.
    """
    x, y, z = (float(v) for v in position_m)
    yaw, reach, height = np.arctan2(y, x), np.hypot(x, y), z + TOOL_M - BASE_HEIGHT_M
    cosine = (reach**2 + height**2 - 2 * LINK_M**2) / (2 * LINK_M**2)
    elbow = np.arccos(np.clip(cosine, -0.999, 1.0))
    shoulder = -(np.arctan2(height, reach) + np.arctan2(np.sin(elbow), 1 + np.cos(elbow)))
    return np.array([yaw, shoulder, elbow, np.pi / 2 - shoulder - elbow, yaw - yaw_rad])


def forward_kinematics(joints_rad: np.ndarray) -> np.ndarray:
    """Return the fingertip centre [m] of the five joint angles, for a gripper that points down."""
    yaw, shoulder, elbow = (float(v) for v in joints_rad[:3])
    reach = LINK_M * (np.cos(shoulder) + np.cos(shoulder + elbow))
    height = BASE_HEIGHT_M - LINK_M * (np.sin(shoulder) + np.sin(shoulder + elbow)) - TOOL_M
    return np.array([reach * np.cos(yaw), reach * np.sin(yaw), height])
