"""The table-top simulator and its Gymnasium environment `genie_robot/Tabletop-v0`."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

from genie_robot.errors import ActionError, ConfigError
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.render import RayRenderer, check_image_size
from genie_robot.simulation.mujoco.tasks import (
    STATE_NAMES,
    STEP_M,
    WORKSPACE_HIGH_M,
    WORKSPACE_LOW_M,
    check_task,
    goal_distance_m,
    task_success,
)

ACTION_SIZE = 7
GRIPPER_THRESHOLD = 0.5
RAMP_CHUNKS = 10
RAMP_END = 0.6
"""Share of a step after which the joint targets have arrived; the rest lets the arm settle."""


class TabletopSimulator:
    """Physics and pictures of one episode; `reset` draws a scene, `step` applies one robot action."""

    def __init__(self, image_size: int = 64) -> None:
        """Prepare a simulator; who never asks for a picture pays nothing for rendering."""
        self.image_size = check_image_size(image_size)

    def reset(self, rng: np.random.Generator) -> None:
        """Start a new episode whose scene is drawn from `rng`."""
        self.scene = sc.sample_scene(rng)
        self.model = sc.build_scene(self.scene)
        self.data = mujoco.MjData(self.model)
        self._commanded = np.array(self.scene.ee_start_m)
        self._opening = 1.0 if self.scene.gripper_open else 0.0
        self._address = [
            self.model.joint(n).qposadr[0] for n in (*sc.ARM_JOINTS, "finger_left", "finger_right")
        ]
        self._actuators = [self.model.actuator(n).id for n in (*sc.ARM_JOINTS, "finger_left", "finger_right")]
        self._object = self.model.body("object").id
        self._ee = self.model.site("ee").id
        target = self._targets(self._commanded)
        self.data.qpos[self._address] = target
        self.data.ctrl[self._actuators] = target
        mujoco.mj_forward(self.model, self.data)
        self._renderer: RayRenderer | None = None

    def step(self, action: np.ndarray) -> None:
        """Apply one robot action (7,) for 0.2 s: world vector, rotation delta (not used), gripper."""
        action = check_action(action)
        start = self._commanded
        end = np.clip(start + STEP_M * action[:3], WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        if abs(action[6]) >= GRIPPER_THRESHOLD:
            self._opening = 0.0 if action[6] > 0 else 1.0
        for chunk in range(RAMP_CHUNKS):
            share = min(1.0, (chunk + 1) / (RAMP_CHUNKS * RAMP_END))
            self.data.ctrl[self._actuators] = self._targets(start + share * (end - start))
            mujoco.mj_step(self.model, self.data, sc.SUBSTEPS // RAMP_CHUNKS)
        mujoco.mj_forward(self.model, self.data)
        self._commanded = end

    @property
    def commanded_m(self) -> np.ndarray:
        """The commanded gripper position (3,) [m]."""
        return self._commanded.copy()

    @property
    def state(self) -> np.ndarray:
        """The true state, float32 (9,); see `tasks.STATE_NAMES`."""
        fingers = self.data.qpos[self._address[5:]]
        opening = np.clip(fingers.mean() / sc.FINGER_TRAVEL_M, 0, 1)
        ee, thing = self.data.site_xpos[self._ee], self.data.xpos[self._object]
        return np.array([*ee, opening, *thing, *self.scene.goal_xy_m], dtype=np.float32)

    def frame(self) -> np.ndarray:
        """Return the picture of the present state: uint8 (Y, X, 3)."""
        return self.renderer.render()

    @property
    def renderer(self) -> RayRenderer:
        """The renderer of this episode, made when the first picture is asked for."""
        if self._renderer is None:
            self._renderer = RayRenderer(self.model, self.data, self.scene, self.image_size)
        return self._renderer

    def _targets(self, position_m: np.ndarray) -> np.ndarray:
        finger = self._opening * sc.FINGER_TRAVEL_M
        return np.concatenate([sc.inverse_kinematics(position_m), [finger, finger]])


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


class TabletopEnv(gymnasium.Env):
    """Gymnasium face of the simulator: image observations, 7-DoF actions, success as termination.

    `reset(seed=s)` fully determines the episode; `reset(options={"task": ...})` changes the task.
    `info` holds `state` (float32 (9,)), `is_success` and `goal_distance_m`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / sc.CONTROL_DT_S),
    }

    def __init__(self, task: str = "push", image_size: int = 64, render_mode: str | None = None) -> None:
        """Make the environment; raises ConfigError for an unknown task, size or render mode."""
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(
                f"render_mode is {render_mode!r}, wanted None or 'rgb_array'; choose one of these"
            )
        self.task = check_task(task)
        self.render_mode = render_mode
        self.simulator = TabletopSimulator(image_size)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self._frame: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; returns the first image and info."""
        if options and "task" in options:
            self.task = check_task(options["task"])
        super().reset(seed=seed)
        self.simulator.reset(self.np_random)
        self._frame = self.simulator.frame()
        return self._frame, self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply one robot action (7,); reward is 1 on success and 0 otherwise."""
        self.simulator.step(action)
        self._frame = self.simulator.frame()
        info = self._info()
        return self._frame, float(info["is_success"]), info["is_success"], False, info

    def render(self) -> np.ndarray | None:
        """Return the present image, uint8 (Y, X, 3), if render_mode is "rgb_array"."""
        return self._frame if self.render_mode == "rgb_array" else None

    def _info(self) -> dict[str, Any]:
        state = self.simulator.state
        assert state.shape == (len(STATE_NAMES),)
        success = task_success(self.task, state)
        return {
            "state": state,
            "is_success": success,
            "goal_distance_m": goal_distance_m(state),
            "task": self.task,
        }
