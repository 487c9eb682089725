"""`genie_robot/Imagined-v0`: the world model as a Gymnasium environment with the spaces of the simulated robot's.

A robot action goes through an action interface, the model imagines the next frame, and the judge (a state probe) reads
the state to which the task's own success predicate is applied: the same rule as in MuJoCo, on a state that is seen
instead of known.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.data.commands import poses_of
from genie_robot.errors import ActionError, ConfigError
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import ACTION_SIZE
from genie_robot.simulation.interfaces import ActionInterface, check_actions, load_interface, still_open
from genie_robot.simulation.mujoco.tasks import MAX_STEPS
from genie_robot.simulation.success import SUSTAIN
from genie_robot.simulation.suites import get_suite
from genie_robot.simulation.world_session import WorldSession

ENV_ID = "genie_robot/Imagined-v0"
Judge = Callable[[np.ndarray], np.ndarray]


def register_envs() -> None:
    """Register `genie_robot/Imagined-v0` with Gymnasium (safe to call more than once)."""
    if ENV_ID not in gymnasium.registry:
        gymnasium.register(
            id=ENV_ID,
            entry_point="genie_robot.simulation.imagined_env:ImaginedEnv",
            max_episode_steps=MAX_STEPS,
        )


class ImaginedEnv(gymnasium.Env):
    """Robot actions in, imagined images out.

    model: a WorldModel or its folder. suite: of the tasks, "tabletop" or "manipulation". interface: how robot actions reach
    the model: an ActionInterface, or its name ("m0", "m2", ...) where `model` is a folder.
    judge: images -> states (such as `load_probe(folder).judge`); without one there is no success and the reward is 0.
    `reset(options={"frames": uint8 (T, Y, X, 3)})` prompts with given frames; otherwise the first image of the suite's
    simulator under the same seed is the prompt (this needs the `sim` extra). A model that is led by commanded poses wants
    the gripper's `options={"pose": (x, y, z, yaw, opening)}` with given frames. `options={"task": ...}` changes the task.
    `info` holds `task`, and with a judge `state`, `is_success` and `goal_distance_m`, all as the judge sees them.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(
        self,
        model: WorldModel | str | Path,
        task: str = "push",
        *,
        suite: str = "tabletop",
        interface: ActionInterface | str = "m0",
        judge: Judge | None = None,
        maskgit_steps: int = 8,
        temperature: float = TEMPERATURE,
        render_mode: str | None = None,
    ) -> None:
        """Open what is given by name; ConfigError for what does not fit together."""
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(
                f"render_mode is {render_mode!r}, wanted None or 'rgb_array'; choose one of these"
            )
        self.suite = get_suite(suite)
        self.task, self.render_mode, self.judge = self.suite.check_task(task), render_mode, judge
        if isinstance(interface, str) and isinstance(model, WorldModel):
            raise ConfigError(
                f"interface is {interface!r} with an open WorldModel; wanted interface=load_interface(folder, name, model)"
            )
        self.model = model if isinstance(model, WorldModel) else WorldModel.load(model)
        if isinstance(interface, str):
            assert not isinstance(model, WorldModel)
            interface = load_interface(model, interface, self.model)
        self.interface = interface
        self._session = WorldSession(self.model, maskgit_steps=maskgit_steps, temperature=temperature)
        shape = (self.model.image_height, self.model.image_width, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self._simulators: dict[str, gymnasium.Env] = {}
        self._frame: np.ndarray | None = None
        self._is_open = np.array([True])
        self._streak = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the same seed (and frames) and actions give the same episode. Returns the prompt as it is seen."""
        super().reset(seed=seed)
        options = options or {}
        if "task" in options:
            self.task = self.suite.check_task(options["task"])
        episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        frames, self._is_open = options.get("frames"), np.array([True])
        poses_BP = None if "pose" not in options else np.asarray(options["pose"], dtype=np.float64)[None]
        if frames is None:
            image, info = self._simulator().reset(seed=episode_seed)
            frames, opening = image[None], self.suite.state_names.index("gripper_opening")
            self._is_open = info["state"][[opening]] > 0.5
            poses_BP = poses_of(info["state"], self.suite.state_names)[None]
        self._frame = self._session.reset(frames, seed=episode_seed)
        self.interface.reset(1, poses_BP)
        self._streak = 0
        return self._frame, self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Imagine one step under a robot action (7,); reward 1 and end when the judge sees a sustained success."""
        if self._frame is None:
            raise ActionError("step: got an action before any prompt, wanted reset() first")
        actions_BA = check_actions(np.asarray(action)[None])
        drive = self.interface.encode(actions_BA, self._frame[None], self._is_open)
        self._is_open = still_open(self._is_open, actions_BA)
        self._frame = self._session.step(drive)
        info = self._info()
        success = bool(info.get("is_success", False))
        return self._frame, float(success), success, False, info

    def render(self) -> np.ndarray | None:
        """Return the present image, uint8 (Y, X, 3), if render_mode is "rgb_array"."""
        return self._frame if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the simulators that gave the prompts."""
        for simulator in self._simulators.values():
            simulator.close()

    def _simulator(self) -> gymnasium.Env:
        if self.task not in self._simulators:
            self._simulators[self.task] = self.suite.make_env(self.task)
        return self._simulators[self.task]

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"task": self.task}
        if self.judge is None:
            return info
        assert self._frame is not None
        state = self.judge(self._frame[None])[0]
        self._streak = self._streak + 1 if self.suite.task_success(self.task, state) else 0
        distance_m = self.suite.goal_distance_m(self.task, state)
        return info | {"state": state, "is_success": self._streak >= SUSTAIN, "goal_distance_m": distance_m}
