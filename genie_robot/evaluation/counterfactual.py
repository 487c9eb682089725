"""Counterfactual pairs: from one start, do two action sequences lead apart in imagination as they do in MuJoCo?

The start is a scene of the simulator; the sequences are robot actions of held-out episodes. Each pair is imagined with
the same sampling noise on both sides, and the state is read by the probe (evaluation.md, section 2, d).
Shapes: P pairs, S steps, A numbers of a robot action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from genie_robot.errors import DataError
from genie_robot.evaluation.imagination import ModelEvalConfig, imagine
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.simulation.mujoco.tasks import EE, OBJECT
from genie_robot.simulation.suites import FIRST_SEED, Suite

APART_M = 0.02
"""Only axes count along which the two true outcomes lie this far apart."""


def counterfactual_pairs(
    model: Any,
    suite: Suite,
    actions_BSA: np.ndarray,
    to_inputs: Callable[[np.ndarray, np.ndarray], np.ndarray],
    probe: Callable[[np.ndarray], np.ndarray],
    config: ModelEvalConfig,
    *,
    pairs: int = 32,
) -> dict[str, Any]:
    """Share of axes whose imagined difference has the sign of the true one, of gripper and object, with intervals.

    actions_BSA: robot actions of at least 2 held-out clips; the first `config.horizon` steps are used. to_inputs:
    robot actions and the states before them -> what `WorldSession.step` takes. Needs MuJoCo.
    Raises DataError when no pair of outcomes differs.
    """
    rng = np.random.default_rng(config.seed)
    steps = min(config.horizon, actions_BSA.shape[1])
    envs = {task: suite.make_env(task) for task in suite.tasks}
    images, starts, ends, sequences = [], [], [], []
    for number in range(pairs):
        env = envs[suite.tasks[number % len(suite.tasks)]]
        chosen = rng.choice(len(actions_BSA), size=2, replace=False)
        for actions in actions_BSA[chosen, :steps]:
            image, first, last = _outcome(env, FIRST_SEED + number, actions)
            images.append(image)
            starts.append(first)
            ends.append(last)
            sequences.append(actions)
    inputs = to_inputs(np.stack(sequences), np.stack(starts))
    prompts = np.stack(images)[:, None]
    # Both sides of a pair get the same noise: the session numbers its worlds, so each side is a batch of its own.
    finals = [imagine(model, prompts[k::2], inputs[k::2], config)[:, -1] for k in (0, 1)]
    seen = (probe(finals[1]) - probe(finals[0])).astype(np.float64)
    truth = np.stack(ends[1::2]).astype(np.float64) - np.stack(ends[0::2])
    result = {name: _agreement(truth[:, at], seen[:, at]) for name, at in (("ee", EE), ("object", OBJECT))}
    if not any(part["axes"] for part in result.values()):
        raise DataError(
            f"no two of {pairs} pairs of outcomes are {100 * APART_M:.0f} cm apart; give livelier data"
        )
    return {**result, "pairs": pairs, "steps": steps, "apart_cm": 100 * APART_M, "suite": suite.name}


def _outcome(env: Any, seed: int, actions_SA: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First image, first state, and the true state after the actions."""
    image, info = env.reset(seed=seed)
    first = info["state"]
    for action in actions_SA:
        *_, info = env.step(action)
    return image, first, info["state"]


def _agreement(truth_P3: np.ndarray, seen_P3: np.ndarray) -> dict[str, Any]:
    counts = np.abs(truth_P3) > APART_M
    right, total = int((np.sign(truth_P3) == np.sign(seen_P3))[counts].sum()), int(counts.sum())
    low, high = wilson_interval(right, total) if total else (None, None)
    return {"right_sign": right / total if total else None, "axes": total, "wilson": [low, high]}
