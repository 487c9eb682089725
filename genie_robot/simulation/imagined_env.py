"""`genie_robot/Imagined-v0`: the world model as a Gymnasium environment with the spaces of `genie_robot/Tabletop-v0`.

A robot action goes through the action adapter to a latent code, the model imagines the next frame, and the judge (a
state probe) reads the state to which the task's own success predicate is applied: the same rule as in MuJoCo, on a
state that is seen instead of known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.errors import ConfigError
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import ACTION_SIZE, ActionAdapter, load_adapter
from genie_robot.simulation.mujoco.tasks import MAX_STEPS, check_task, goal_distance_m, task_success
from genie_robot.simulation.world_session import WorldSession

ENV_ID = "genie_robot/Imagined-v0"
SUSTAIN = 2
"""Frames in a row that the judge must call a success: one frame alone may be a misreading."""

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

    model: a WorldModel or its folder. adapter: robot action -> code; by default the folder's `action_adapter.json`.
    judge: images -> states (such as `load_probe(folder).judge`); without one there is no success and the reward is 0.
    `reset(options={"frames": uint8 (T, Y, X, 3)})` prompts with given frames; otherwise the first image of
    `genie_robot/Tabletop-v0` under the same seed is the prompt (this needs the `sim` extra).
    `info` holds `code`, and with a judge `state`, `is_success` and `goal_distance_m`, all as the judge sees them.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(
        self,
        model: WorldModel | str | Path,
        task: str = "push",
        *,
        adapter: ActionAdapter | None = None,
        judge: Judge | None = None,
        maskgit_steps: int = 8,
        temperature: float = TEMPERATURE,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(
                f"render_mode is {render_mode!r}, wanted None or 'rgb_array'; choose one of these"
            )
        self.task, self.render_mode, self.judge = check_task(task), render_mode, judge
        if adapter is None:
            if isinstance(model, WorldModel):
                raise ConfigError(
                    "got a WorldModel without an adapter; wanted adapter=load_adapter(folder) as well"
                )
            adapter = load_adapter(model)
        self.adapter = adapter
        self.model = model if isinstance(model, WorldModel) else WorldModel.load(model)
        self._session = WorldSession(self.model, maskgit_steps=maskgit_steps, temperature=temperature)
        shape = (self.model.image_height, self.model.image_width, 3)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        self._simulator: gymnasium.Env | None = None
        self._frame: np.ndarray | None = None
        self._streak = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the same seed (and frames) and actions give the same episode."""
        super().reset(seed=seed)
        options = options or {}
        if "task" in options:
            self.task = check_task(options["task"])
        episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        frames = options.get("frames")
        if frames is None:
            frames = self._first_image(episode_seed)[None]
        self._frame = self._session.reset(frames, seed=episode_seed)
        self._streak = 0
        return self._frame, self._info(None)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Imagine one step under a robot action (7,); reward 1 and end when the judge sees a sustained success."""
        code = int(self.adapter.code(np.asarray(action)))
        self._frame = self._session.step(code)
        info = self._info(code)
        success = bool(info.get("is_success", False))
        return self._frame, float(success), success, False, info

    def render(self) -> np.ndarray | None:
        """Return the present image, uint8 (Y, X, 3), if render_mode is "rgb_array"."""
        return self._frame if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Close the simulator that gave the prompts, if there was one."""
        if self._simulator is not None:
            self._simulator.close()

    def _first_image(self, seed: int) -> np.ndarray:
        if self._simulator is None:
            from genie_robot.simulation.mujoco import register_envs as register_tabletop

            register_tabletop()
            self._simulator = gymnasium.make("genie_robot/Tabletop-v0", image_size=self.model.image_height)
        return self._simulator.reset(seed=seed, options={"task": self.task})[0]

    def _info(self, code: int | None) -> dict[str, Any]:
        info: dict[str, Any] = {"task": self.task} | ({} if code is None else {"code": code})
        if self.judge is None:
            return info
        assert self._frame is not None
        state = self.judge(self._frame[None])[0]
        self._streak = self._streak + 1 if task_success(self.task, state) else 0
        success = self._streak >= SUSTAIN
        return info | {"state": state, "is_success": success, "goal_distance_m": goal_distance_m(state)}


@dataclass(frozen=True)
class ImaginedRollouts:
    """B episodes: frames (B, 1 + steps, Y, X, 3), judged states (B, 1 + steps, 9), codes (B, steps), outcomes (B,).

    `success_step_B` is the step (from 1) at which success was called, 0 for none; frames after it have no meaning.
    """

    frames_BTYXC: np.ndarray
    states_BTS: np.ndarray
    codes_BS: np.ndarray
    success_B: np.ndarray
    success_step_B: np.ndarray


def imagined_rollouts(
    model: WorldModel,
    adapter: ActionAdapter,
    judge: Judge,
    task: str,
    prompts_BTYXC: np.ndarray,
    seeds_B: np.ndarray,
    act: Callable[[np.ndarray], np.ndarray],
    *,
    max_steps: int = MAX_STEPS,
    maskgit_steps: int = 8,
    temperature: float = TEMPERATURE,
) -> ImaginedRollouts:
    """Run B closed-loop episodes as one batch; each follows the rules of `ImaginedEnv` with its own seed.

    act: images (B, Y, X, 3) -> robot actions (B, 7). The batch ends when all episodes have succeeded, or after
    `max_steps`.
    """
    session = WorldSession(model, maskgit_steps=maskgit_steps, temperature=temperature)
    frames = [session.reset(prompts_BTYXC, seed=np.asarray(seeds_B))]
    states, codes = [judge(frames[0])], []
    streak = np.array([int(task_success(task, state)) for state in states[0]])
    success_step = np.zeros(len(prompts_BTYXC), dtype=np.int64)
    for step in range(1, max_steps + 1):
        codes.append(adapter.code(act(frames[-1])))
        frames.append(session.step(codes[-1]))
        states.append(judge(frames[-1]))
        good = np.array([task_success(task, state) for state in states[-1]])
        streak = np.where(good, streak + 1, 0)
        success_step = np.where((success_step == 0) & (streak >= SUSTAIN), step, success_step)
        if (success_step > 0).all():
            break
    return ImaginedRollouts(
        np.stack(frames, axis=1),
        np.stack(states, axis=1),
        np.stack(codes, axis=1),
        success_step > 0,
        success_step,
    )
