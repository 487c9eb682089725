"""Success of policies in MuJoCo: no world model, no files. Shapes: B episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from genie_robot.simulation.policies import Policy, act_all
from genie_robot.simulation.success import SUSTAIN
from genie_robot.simulation.suites import Suite


def run_episodes(
    suite: Suite, task: str, make: Callable[[str], Policy], seeds: Sequence[int], horizon: int
) -> np.ndarray:
    """Whether each episode was a success, bool (B,): the task fulfilled in SUSTAIN frames in a row within `horizon` steps.

    make: task -> a new policy. An episode ends at its success, since only whether it ever came is asked.
    """
    envs = [suite.make_env(task) for _ in seeds]
    policies = [make(task) for _ in seeds]
    images, streak_B = [], np.zeros(len(seeds), dtype=int)
    for index, (env, policy, seed) in enumerate(zip(envs, policies, seeds, strict=True)):
        policy.reset(seed)
        image, info = env.reset(seed=seed)
        images.append(image)
        streak_B[index] = suite.task_success(task, info["state"])
    live = list(range(len(seeds)))
    for _ in range(horizon):
        actions_B7 = act_all([policies[i] for i in live], np.stack([images[i] for i in live]))
        for i, action in zip(live, actions_B7, strict=True):
            images[i], _, _, _, info = envs[i].step(action)
            streak_B[i] = streak_B[i] + 1 if suite.task_success(task, info["state"]) else 0
        live = [i for i in live if streak_B[i] < SUSTAIN]
        if not live:
            break
    return streak_B >= SUSTAIN
