"""How long an evaluation will take, from a few steps of each world measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from genie_robot.evaluation.evaluation_config import IMAGINED_WORLDS
from genie_robot.evaluation.worlds import ImaginedWorld, starts_of

if TYPE_CHECKING:
    from genie_robot.evaluation.policy_eval import PolicyEvaluation

_STEPS = 2
Clock = Callable[[], float]


@dataclass(frozen=True)
class Estimate:
    """What is left to do and how fast it goes; frames a second are imagined ones, 0 where nothing is imagined."""

    episodes_left: int
    seconds_left: float
    mujoco_step_s: float
    frames_per_s: float
    frames_per_s_one_by_one: float
    batch: int

    def __str__(self) -> str:
        """One line."""
        hours, minutes = divmod(round(self.seconds_left / 60), 60)
        span = (
            f"{hours} h {minutes:02d} min" if hours else f"{minutes} min" if minutes else "less than a minute"
        )
        parts = [f"MuJoCo {1e3 * self.mujoco_step_s:.1f} ms a step"]
        if self.frames_per_s:
            parts.append(
                f"imagination {self.frames_per_s:.0f} frames/s in blocks of {self.batch}, "
                f"{self.frames_per_s_one_by_one:.0f} one at a time"
            )
        return f"{self.episodes_left} episodes to go, {span} ({'; '.join(parts)})"


def estimate(evaluation: PolicyEvaluation, workers: int = 1) -> Estimate:
    """Measure a few steps and count what is left for `workers` processes.

    What policies and judges take comes on top; they are small beside it.
    """
    config = evaluation.config
    left = {world: sum(len(b.episodes) for b in evaluation.left(world)) for world in config.worlds}
    mujoco_s = _mujoco_step_s(evaluation)
    imagined = sum(left[world] for world in config.worlds if world in IMAGINED_WORLDS)
    fast = slow = 0.0
    batch = max(len(block.episodes) for block in config.blocks(config.worlds[0]))
    if imagined:
        fast, slow = frames_per_second(evaluation, batch), frames_per_second(evaluation, 1)
    simulated = sum(left.values()) - imagined
    seconds = config.horizon * (simulated * mujoco_s + (imagined / fast if fast else 0.0))
    return Estimate(sum(left.values()), seconds / workers, mujoco_s, fast, slow, batch)


def frames_per_second(
    evaluation: PolicyEvaluation, batch: int, steps: int = _STEPS, clock: Clock = time.perf_counter
) -> float:
    """Imagined frames a second of `batch` episodes side by side, interface included, after one step to warm up."""
    config, parts = evaluation.config, evaluation.parts
    assert parts.model is not None and parts.interface is not None
    world = ImaginedWorld(
        evaluation.suite,
        parts.model,
        parts.interface,
        starts_of(evaluation.suite, config.tasks[0], (config.first_seed,)),
        batch,
        maskgit_steps=config.maskgit_steps,
        temperature=config.temperature,
    )
    world.reset()
    actions_BA = np.zeros((batch, 7), np.float32)
    return batch / _time_of(lambda: world.step(actions_BA), steps, clock)


def _mujoco_step_s(evaluation: PolicyEvaluation) -> float:
    env = evaluation.suite.make_env(evaluation.config.tasks[0])
    env.reset(seed=evaluation.config.first_seed)
    return _time_of(lambda: env.step(np.zeros(7, np.float32)), _STEPS, time.perf_counter)


def _time_of(do: Callable[[], object], times: int, clock: Clock) -> float:
    """Seconds of one call, after one that does not count."""
    do()
    begun = clock()
    for _ in range(times):
        do()
    return (clock() - begun) / times
