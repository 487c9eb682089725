"""The physics and the pictures of one episode: a commanded gripper pose that a robot follows.

`ArmSimulator` knows nothing of tasks; a simulator of tasks draws a scene, calls `start` and reads a state.
"""

from __future__ import annotations

from typing import Protocol

import mujoco
import numpy as np

from genie_robot.data.commands import next_pose
from genie_robot.errors import ActionError
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.render import RayRenderer, View, check_image_hw

ACTION_SIZE = 7
RAMP_CHUNKS = 10
RAMP_END = 0.6
"""Share of a step after which the joint targets have arrived; the rest lets the arm settle."""


class Robot(Protocol):
    """A robot whose gripper always points down."""

    name: str

    def add(self, spec: mujoco.MjSpec) -> None:
        """Add the robot, at the origin, to a scene."""
        ...

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Find the robot in a compiled model."""
        ...

    def place(self, position_m: np.ndarray, yaw_rad: float, opening: float) -> None:
        """Put the joints there at once."""
        ...

    def command(self, position_m: np.ndarray, yaw_rad: float, opening: float) -> None:
        """Give the servos new targets: fingertip centre (3,) [m], yaw [rad], opening 0 to 1."""
        ...

    def pose(self) -> tuple[np.ndarray, float, float]:
        """Return fingertip centre (3,) [m], yaw [rad] and opening 0 to 1, as they are."""
        ...


class PrimitiveArm:
    """The 5-DoF arm of primitives (`scene.add_arm`), with closed-form inverse kinematics."""

    name = "primitive"
    _JOINTS = (*sc.ARM_JOINTS, "finger_left", "finger_right")

    def add(self, spec: mujoco.MjSpec) -> None:
        """Add the arm, at the origin, to a scene."""
        sc.add_arm(spec)

    def bind(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Find the arm in a compiled model."""
        self._data = data
        self._address = [model.joint(name).qposadr[0] for name in self._JOINTS]
        self._actuators = [model.actuator(name).id for name in self._JOINTS]
        self._ee = model.site("ee").id

    def place(self, position_m: np.ndarray, yaw_rad: float, opening: float) -> None:
        """Put the joints there at once."""
        self._data.qpos[self._address] = self._targets(position_m, yaw_rad, opening)

    def command(self, position_m: np.ndarray, yaw_rad: float, opening: float) -> None:
        """Give the servos new targets: fingertip centre (3,) [m], yaw [rad], opening 0 to 1."""
        self._data.ctrl[self._actuators] = self._targets(position_m, yaw_rad, opening)

    def pose(self) -> tuple[np.ndarray, float, float]:
        """Return fingertip centre (3,) [m], yaw [rad] and opening 0 to 1, as they are."""
        opening = np.clip(self._data.qpos[self._address[5:]].mean() / sc.FINGER_TRAVEL_M, 0, 1)
        across = self._data.site_xmat[self._ee].reshape(3, 3)[:, 1]  # the fingers open along the site's y
        return self._data.site_xpos[self._ee].copy(), float(np.arctan2(-across[0], across[1])), float(opening)

    @staticmethod
    def _targets(position_m: np.ndarray, yaw_rad: float, opening: float) -> np.ndarray:
        finger = opening * sc.FINGER_TRAVEL_M
        return np.concatenate([sc.inverse_kinematics(position_m, yaw_rad), [finger, finger]])


class ArmSimulator:
    """Physics and pictures of one episode; `step` applies one robot action."""

    turns = True
    """Whether the yaw of an action turns the gripper; the other two rotations never do anything."""

    def __init__(self, image_hw: tuple[int, int] = (64, 64), robot: Robot | None = None) -> None:
        """Prepare a simulator; who never asks for a picture pays nothing for rendering."""
        self.image_hw = check_image_hw(image_hw)
        self.robot: Robot = robot or PrimitiveArm()

    def start(self, model: mujoco.MjModel, view: View, ee_start_m: np.ndarray, is_open: bool) -> None:
        """Start an episode in `model` with the gripper at `ee_start_m` (3,), seen through `view`."""
        self.model, self.data, self._view = model, mujoco.MjData(model), view
        self._pose = np.array([*ee_start_m, 0.0, 1.0 if is_open else 0.0])
        self.robot.bind(self.model, self.data)
        self.robot.place(self._pose[:3], self._pose[3], self._pose[4])
        self.robot.command(self._pose[:3], self._pose[3], self._pose[4])
        self.forward()
        self._renderer: RayRenderer | None = None

    def forward(self) -> None:
        """Bring all positions up to date with the joints."""
        mujoco.mj_forward(self.model, self.data)

    def step(self, action: np.ndarray) -> None:
        """Apply one robot action (7,) for 0.2 s: world vector, rotation delta (yaw only), gripper."""
        action = check_action(action)
        if not self.turns:
            action[5] = 0.0
        start, end = self._pose, next_pose(self._pose, action)
        for chunk in range(RAMP_CHUNKS):
            share = min(1.0, (chunk + 1) / (RAMP_CHUNKS * RAMP_END))
            now = start + share * (end - start)
            self.robot.command(now[:3], now[3], end[4])
            mujoco.mj_step(self.model, self.data, sc.SUBSTEPS // RAMP_CHUNKS)
        self.forward()
        self._pose = end

    @property
    def commanded_m(self) -> np.ndarray:
        """The commanded gripper position (3,) [m]."""
        return self._pose[:3].copy()

    def frame(self) -> np.ndarray:
        """Return the picture of the present state: uint8 (Y, X, 3)."""
        return self.renderer.render()

    def frame_at(self, qpos: np.ndarray) -> np.ndarray:
        """Return the picture of an earlier joint state of this episode; the physics goes on from there no more."""
        self.data.qpos[:] = qpos
        mujoco.mj_kinematics(self.model, self.data)
        return self.frame()

    @property
    def renderer(self) -> RayRenderer:
        """The renderer of this episode, made when the first picture is asked for."""
        if self._renderer is None:
            self._renderer = RayRenderer(self.model, self.data, self._view, self.image_hw)
        return self._renderer


def check_action(action: np.ndarray) -> np.ndarray:
    """Return `action` as float64 (7,) within [-1, 1]; raise ActionError for a wrong shape or NaN."""
    array = np.asarray(action, dtype=np.float64)
    if array.shape != (ACTION_SIZE,):
        raise ActionError(f"action has shape {array.shape}, wanted ({ACTION_SIZE},); see RobotAction")
    if not np.isfinite(array).all():
        raise ActionError(
            f"action has non-finite values {array.tolist()}, wanted numbers in [-1, 1]; check the policy"
        )
    return np.clip(array, -1.0, 1.0)
