"""What latent actions say of robot actions: linear probes, code usage, and whether imagined motion is labelled back.

Probes are fitted on half of the episodes and scored on the other half, both ways. R^2 below 0 means worse than the mean.
Shapes: B episodes, S steps, N = B * S, A robot action numbers, F features, K of a latent vector, L codebooks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from genie_robot.errors import DataError
from genie_robot.evaluation.imagination import latent_vectors
from genie_robot.nn.quantize import code_digits
from genie_robot.simulation.action_interface import infer_codes

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
GRIPPER = 6
PRESSED = 0.25
"""A gripper command beyond this closes (+) or opens (-); between them it does nothing."""
RIDGE = 1e-3
LEAST_EPISODES = 4


def ridge(features_NF: np.ndarray, targets_NA: np.ndarray) -> np.ndarray:
    """Weights (F + 1, A) of a ridge regression with an intercept (last row), which is not shrunk."""
    mean, centre = features_NF.mean(axis=0), targets_NA.mean(axis=0)
    x, y = features_NF - mean, targets_NA - centre
    # Relative to the features' size, so that their unit changes nothing.
    penalty = RIDGE * max(float((x**2).sum()) / x.shape[1], 1e-12)
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    return np.concatenate([weights, (centre - mean @ weights)[None]])


def predict(weights: np.ndarray, features_NF: np.ndarray) -> np.ndarray:
    """Targets (N, A) by the weights of `ridge`."""
    return features_NF @ weights[:-1] + weights[-1]


def logistic(features_NF: np.ndarray, classes_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Weights (F + 1, classes) of a multinomial logistic regression: the class with the largest score is the guess.

    Least squares would not do: it never names a class that lies between two others.
    """
    mean, scale = features_NF.mean(axis=0), np.maximum(features_NF.std(axis=0), 1e-6)
    x, y = torch.from_numpy((features_NF - mean) / scale), torch.from_numpy(classes_N.astype(np.int64))
    weights = torch.zeros(x.shape[1] + 1, num_classes, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        scores = x @ weights[:-1] + weights[-1]
        value = torch.nn.functional.cross_entropy(scores, y) + RIDGE * weights[:-1].square().sum()
        value.backward()
        return value

    search.step(loss)
    found = weights.detach().numpy()
    slope = found[:-1] / scale[:, None]
    return np.concatenate([slope, (found[-1] - mean @ slope)[None]])


def halves(episodes: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two (fit, score) pairs of episode numbers: each random half is scored by what the other half taught.

    Raises DataError for fewer than 4 episodes.
    """
    if episodes < LEAST_EPISODES:
        raise DataError(
            f"got {episodes} episodes; wanted {LEAST_EPISODES} or more for a linear probe; give more"
        )
    order = np.random.default_rng(seed).permutation(episodes)
    one, other = order[: episodes // 2], order[episodes // 2 :]
    return [(one, other), (other, one)]


def crossfit(features_BSF: np.ndarray, targets_BSA: np.ndarray, seed: int = 0) -> np.ndarray:
    """Predictions (B, S, A) of each half of the episodes by a ridge regression on the other half."""
    result = np.empty(targets_BSA.shape)
    for fit, score in halves(len(features_BSF), seed):
        result[score] = predict(ridge(_flat(features_BSF[fit]), _flat(targets_BSA[fit])), features_BSF[score])
    return result


def _flat(values_BSF: np.ndarray) -> np.ndarray:
    return values_BSF.reshape(-1, values_BSF.shape[-1]).astype(np.float64)


def r_squared(targets_BSA: np.ndarray, predicted_BSA: np.ndarray) -> list[float | None]:
    """1 - residual / variance of each action number; None for one that never changes."""
    width = targets_BSA.shape[-1]
    truth, guess = targets_BSA.reshape(-1, width), predicted_BSA.reshape(-1, width)
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    rest = ((truth - guess) ** 2).sum(axis=0)
    return [float(1 - r / t) if t > 1e-9 * len(truth) else None for r, t in zip(rest, total, strict=True)]


def probe_actions(features_BSF: np.ndarray, actions_BSA: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Ridge R^2 of each action number, and accuracy of the gripper command by logistic regression.

    `gripper_majority` is what always saying the most frequent command reaches. The gripper classes are opens, nothing,
    closes (`PRESSED`).
    """
    scores = r_squared(actions_BSA, crossfit(features_BSF, actions_BSA, seed))
    gripper = actions_BSA[..., GRIPPER]
    classes = (np.sign(gripper) * (np.abs(gripper) > PRESSED) + 1).astype(np.int64)
    named = np.empty_like(classes)
    for fit, score in halves(len(classes), seed):
        weights = logistic(_flat(features_BSF[fit]), classes[fit].reshape(-1), 3)
        named[score] = predict(weights, features_BSF[score]).argmax(axis=-1)
    known = [score for score in scores if score is not None]
    return {
        "r2": dict(zip(ACTION_NAMES, scores, strict=True)),
        "r2_mean": float(np.mean(known)) if known else None,
        "gripper_accuracy": float((named == classes).mean()),
        "gripper_majority": float(np.bincount(classes.reshape(-1)).max() / classes.size),
    }


def one_hot_codes(codes: np.ndarray, num_codes: int, num_codebooks: int) -> np.ndarray:
    """Codes (...) of all codebooks in one number -> one-hots of each codebook side by side, (..., L * num_codes)."""
    digits = code_digits(torch.from_numpy(np.ascontiguousarray(codes)), num_codes, num_codebooks).numpy()
    return np.eye(num_codes)[digits].reshape(*codes.shape, -1)


def linear_probes(
    model: Any,
    video_BTYXC: np.ndarray,
    actions_BSA: np.ndarray,
    *,
    true_states_BTS: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Probes of robot actions (B, S, 7) from codes, from the vectors before the quantizer, their floor and ceiling.

    `shuffled` has the vectors of other steps; `inverse_dynamics` reads the action from the states that the state probe
    sees in the two true frames (`true_states_BTS`, by the probe, not the simulator's).
    """
    config = model.config.latent_action
    starts = range(0, len(video_BTYXC), batch_size)
    batches = [video_BTYXC[k : k + batch_size] for k in starts]
    codes = np.concatenate([infer_codes(model, batch) for batch in batches])
    vectors = np.concatenate([latent_vectors(model, batch) for batch in batches])
    order = np.random.default_rng(seed).permutation(codes.size)
    shuffled = vectors.reshape(codes.size, -1)[order].reshape(vectors.shape)
    result = {
        "codes": probe_actions(
            one_hot_codes(codes, config.num_actions, config.num_codebooks), actions_BSA, seed
        ),
        "vectors": probe_actions(vectors, actions_BSA, seed),
        "shuffled": probe_actions(shuffled, actions_BSA, seed),
    }
    if true_states_BTS is not None:
        result["inverse_dynamics"] = probe_actions(state_pairs(true_states_BTS), actions_BSA, seed)
    return {**result, "episodes": len(codes), "transitions": int(codes.size)}


def state_pairs(states_BTS: np.ndarray) -> np.ndarray:
    """What inverse dynamics looks at: each state and its change to the next one, (B, T-1, 2 S)."""
    states = np.asarray(states_BTS, dtype=np.float64)
    return np.concatenate([states[:, :-1], np.diff(states, axis=1)], axis=-1)


def code_health(codes: np.ndarray, num_codes: int, num_codebooks: int) -> dict[str, Any]:
    """Usage of each codebook's codes (...): perplexity exp(-sum p ln p) and the number of codes never used."""
    hot = one_hot_codes(codes.reshape(-1), num_codes, num_codebooks).reshape(
        codes.size, num_codebooks, num_codes
    )
    usage_LK = hot.mean(axis=0)
    logs = np.log(np.where(usage_LK > 0, usage_LK, 1.0))
    return {
        "perplexity_per_codebook": np.exp(-(usage_LK * logs).sum(axis=1)).round(3).tolist(),
        "dead_codes_per_codebook": (usage_LK == 0).sum(axis=1).tolist(),
        "codes_per_codebook": num_codes,
        "transitions": int(codes.size),
    }


def cycle_consistency(model: Any, film_BTYXC: np.ndarray, codes_BS: np.ndarray) -> dict[str, Any]:
    """P(the latent action model labels an imagined step with the code that caused it), beside chance.

    film_BTYXC: imagined under codes_BS, the prompt as the tokenizer shows it first, so that its blur is in all frames.
    `chance` is what two independent draws from the two marginals would reach. `first_codebook`: the coarsest level.
    """
    config = model.config.latent_action
    again = infer_codes(model, film_BTYXC)

    def compare(one: np.ndarray, other: np.ndarray, count: int) -> dict[str, float]:
        p, q = (np.bincount(c.reshape(-1), minlength=count) / c.size for c in (one, other))
        return {"rate": float((one == other).mean()), "chance": float((p * q).sum())}

    result: dict[str, Any] = compare(codes_BS, again, int(model.num_actions))
    if config.num_codebooks > 1:
        coarse = [
            one_hot_codes(c, config.num_actions, config.num_codebooks)[..., : config.num_actions].argmax(-1)
            for c in (codes_BS, again)
        ]
        result["first_codebook"] = compare(coarse[0], coarse[1], config.num_actions)
    return {**result, "steps": int(codes_BS.size)}
