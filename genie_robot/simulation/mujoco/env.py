"""The table-top simulator and its Gymnasium environment `genie_robot/Tabletop-v0`."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco import scene as sc
from genie_robot.simulation.mujoco.simulator import ACTION_SIZE, ArmSimulator
from genie_robot.simulation.mujoco.tasks import STATE_NAMES, check_task, goal_distance_m, task_success


class TabletopSimulator(ArmSimulator):
    """The table top of the tasks push and lift; `reset` draws a scene, `step` applies one robot action."""

    turns = False

    def __init__(self, image_size: int = 64) -> None:
        """Prepare a simulator of square pictures."""
        super().__init__((image_size, image_size))

    def reset(self, rng: np.random.Generator) -> None:
        """Start a new episode whose scene is drawn from `rng`."""
        self.scene = sc.sample_scene(rng)
        model = sc.build_scene(self.scene)
        self._object = model.body("object").id
        self.start(model, self.scene, np.array(self.scene.ee_start_m), self.scene.gripper_open)

    @property
    def state(self) -> np.ndarray:
        """The true state, float32 (9,); see `tasks.STATE_NAMES`."""
        ee, _, opening = self.robot.pose()
        return np.array([*ee, opening, *self.data.xpos[self._object], *self.scene.goal_xy_m], np.float32)


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
