"""The simulator of the five tasks and their Gymnasium environments, `genie_robot/Reach-v0` to `PickPlace-v0`."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.manipulation.scene import build_scene, check_look, sample_scene
from genie_robot.simulation.mujoco.manipulation.tasks import (
    check_task,
    goal_distance_m,
    instruction,
    is_near_miss,
    task_success,
)
from genie_robot.simulation.mujoco.simulator import ACTION_SIZE, ArmSimulator, Robot


class ManipulationSimulator(ArmSimulator):
    """The world of one task; `reset` draws a scene, `step` applies one robot action."""

    def __init__(
        self,
        task: str,
        image_hw: tuple[int, int] = (64, 64),
        look: str = "default",
        robot: Robot | None = None,
    ) -> None:
        """Prepare a simulator; raises ConfigError for an unknown task or an image size out of range."""
        super().__init__(image_hw, robot)
        self.task, self.look = check_task(task), check_look(look)

    def reset(self, rng: np.random.Generator) -> None:
        """Start a new episode whose scene is drawn from `rng`."""
        self.scene = scene = sample_scene(self.task, rng, self.look)
        model = build_scene(scene, self.robot)
        self._object, self._distractor = model.body("object").id, model.body("distractor").id
        self.start(model, scene.appearance, np.array(scene.ee_start_m), scene.gripper_open)
        if self.task == "drawer":
            self.data.joint("drawer").qpos = scene.drawer_out_m
            self.forward()

    @property
    def state(self) -> np.ndarray:
        """The true state, float32 (14,); see `tasks.STATE_NAMES`."""
        ee, yaw, opening = self.robot.pose()
        thing, distractor = self.data.xpos[self._object], self.data.xpos[self._distractor]
        return np.array(
            [*ee, opening, *thing, *self.scene.goal_xy_m, yaw, self._object_yaw(), *distractor], np.float32
        )

    @property
    def instruction(self) -> str:
        """The instruction of this episode in words."""
        return instruction(self.task, self.scene.object_name, self.scene.goal_colour)

    def _object_yaw(self) -> float:
        """Yaw of the box [rad], up to quarter turns; 0 for what has none."""
        if self.scene.object_shape != "box":
            return 0.0
        turn = self.data.xmat[self._object].reshape(3, 3)
        quarter = np.pi / 2
        return float((np.arctan2(turn[1, 0], turn[0, 0]) + quarter / 2) % quarter - quarter / 2)


class ManipulationEnv(gymnasium.Env):
    """Gymnasium face of a task: the spaces of `genie_robot/Tabletop-v0`, success as termination.

    `reset(seed=s)` fully determines the episode. `info` holds `state` (float32 (14,)), `is_success`,
    `is_near_miss`, `goal_distance_m`, `instruction` and `task`.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "render_modes": ["rgb_array"],
        "render_fps": round(1 / sc.CONTROL_DT_S),
    }

    def __init__(
        self,
        task: str = "reach",
        image_hw: tuple[int, int] = (64, 64),
        look: str = "default",
        robot: Robot | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Make the environment; raises ConfigError for an unknown task, size, look or render mode."""
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(
                f"render_mode is {render_mode!r}, wanted None or 'rgb_array'; choose one of these"
            )
        self.render_mode = render_mode
        self.simulator = ManipulationSimulator(task, image_hw, look, robot)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255, (*image_hw, 3), np.uint8)
        self._frame: np.ndarray | None = None

    @property
    def task(self) -> str:
        """The task's name."""
        return self.simulator.task

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; returns the first image and info. There are no options."""
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
        return {
            "state": state,
            "is_success": task_success(self.task, state),
            "is_near_miss": is_near_miss(self.task, state),
            "goal_distance_m": goal_distance_m(self.task, state),
            "instruction": self.simulator.instruction,
            "task": self.task,
        }
