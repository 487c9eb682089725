"""What an interface keeps of the robot's actions, measured on held-out transitions, without any roll-out.

Shapes: N transitions, A = 7 numbers of a robot action, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from genie_robot.data.commands import STEP_M
from genie_robot.simulation.interfaces import (
    ActionInterface,
    LatentInterface,
    LatentSpace,
    TableInterface,
    Transitions,
)
from genie_robot.simulation.interfaces.decoder import with_one

DRIFT_STEPS = 16
_MOTION = slice(0, 3)
_STILL = 1e-6
_LEAST_CHANCE = 1e-4  # of a code that m0 never saw: else one such step would make the mean infinite


def latent_measures(interface: LatentInterface | TableInterface, heldout: Transitions) -> dict[str, float]:
    """How well the adapter names the latent action model's own label, and how well the decoder reads it.

    top1: share of steps on which all levels agree. majority: what always saying the most frequent label reaches.
    nll: nats a step; for vectors, squared error over variance (`vector_error`).
    label_r2, label_mse: of robot actions decoded from the model's own labels (x, y, z; all seven numbers).
    """
    space = interface.space
    labels, given = heldout.latents(space), (heldout.actions_NA, heldout.images_NYXC, heldout.open_N)
    result: dict[str, float] = {}
    if isinstance(interface, LatentInterface):
        chosen, loss = interface.adapter.latents(*given), interface.adapter.loss(heldout)
        decoded = interface.decoder.robot_action(labels, heldout.images_NYXC, heldout.open_N)
        result["nll" if space.levels else "vector_error"] = loss
    else:
        chosen = interface.adapter.code(heldout.actions_NA)[:, None]
        decoded = interface.adapter.robot_action(labels[:, 0], heldout.open_N)
        result["nll"] = _cross_entropy(interface.adapter.logits(heldout.actions_NA), labels[:, 0])
    if space.levels:
        result["top1"] = float((chosen == labels).all(axis=1).mean())
        result["majority"] = float(np.unique(labels, axis=0, return_counts=True)[1].max() / len(labels))
    result["label_r2"] = r2(decoded, heldout.actions_NA)
    result["label_mse"] = float(np.square(decoded - heldout.actions_NA).mean())
    return result


def passage_measures(interface: ActionInterface, episodes: Sequence[Transitions]) -> dict[str, float]:
    """What is left of actions that go there and back, along whole episodes (so that error feedback acts).

    passed_r2: of x, y, z. grip: share of gripper commands (0.5 or more) that arrive as such a command of the same
    direction. drift_cm: mean distance between where 16 steps lead as asked and as executed, from every 16th frame on;
    the limits of the workspace and all contact left out. NaN for what never occurs.
    """
    asked, done, drifts = [], [], []
    for episode in episodes:
        interface.reset(1)
        steps = [
            interface.executed(
                episode.actions_NA[s : s + 1], episode.images_NYXC[s : s + 1], episode.open_N[s : s + 1]
            )
            for s in range(len(episode))
        ]
        asked.append(episode.actions_NA)
        done.append(np.concatenate(steps))
        left = (done[-1] - asked[-1])[:, _MOTION] * STEP_M
        whole = left[: len(left) // DRIFT_STEPS * DRIFT_STEPS].reshape(-1, DRIFT_STEPS, 3)
        drifts.append(np.linalg.norm(whole.sum(axis=1), axis=-1))
    asked_NA, done_NA, drift_N = np.concatenate(asked), np.concatenate(done), np.concatenate(drifts)
    grips = np.abs(asked_NA[:, 6]) >= 0.5
    arrived = (asked_NA[:, 6] * done_NA[:, 6] > 0) & (np.abs(done_NA[:, 6]) >= 0.5)
    return {
        "passed_r2": r2(done_NA, asked_NA),
        "grip": float(arrived[grips].mean()) if grips.any() else float("nan"),
        "drift_cm": float(100 * drift_N.mean()) if len(drift_N) else float("nan"),
    }


def probe_r2(space: LatentSpace, train: Transitions, heldout: Transitions) -> dict[str, Any]:
    """Linear probe: ridge from latent actions to each number of the robot's action, R^2 on held-out transitions.

    `floor`: the same with labels shuffled in training, what chance reaches. Numbers that never change are left out.
    """
    features, tests = (with_one(space.features(part.latents(space))) for part in (train, heldout))
    shuffled = np.random.default_rng(0).permutation(len(train))
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    result: dict[str, Any] = {}
    for kind, targets in (("r2", train.actions_NA), ("floor", train.actions_NA[shuffled])):
        weights = np.linalg.solve(
            features.T @ features + 1e-3 * np.eye(features.shape[1]), features.T @ targets.astype(np.float64)
        )
        error = np.square(tests @ weights - heldout.actions_NA).mean(axis=0)
        variance = heldout.actions_NA.var(axis=0)
        result[kind] = {
            name: float(1 - e / v) for name, e, v in zip(names, error, variance, strict=True) if v > _STILL
        }
    return result


def r2(predicted_NA: np.ndarray, true_NA: np.ndarray) -> float:
    """Share of the variance of x, y and z together that is explained."""
    error = np.square(predicted_NA[:, _MOTION] - true_NA[:, _MOTION]).mean()
    return float(1 - error / max(true_NA[:, _MOTION].var(axis=0).mean(), _STILL))


def _cross_entropy(logits_NC: np.ndarray, codes_N: np.ndarray) -> float:
    scores = logits_NC - logits_NC.max(axis=1, keepdims=True)
    chosen = np.take_along_axis(scores, codes_N[:, None], axis=1)[:, 0]
    surprise = np.log(np.exp(scores).sum(axis=1)) - chosen
    return float(np.minimum(surprise, -np.log(_LEAST_CHANCE)).mean())
