"""Policies against each other: does imagination name the same winner as MuJoCo?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from genie_robot.evaluation.comparison import compare_sequentially, discordant, mcnemar_p
from genie_robot.evaluation.summary.compare import policy_rates

ALPHA = 0.05


def pairs_part(
    policies: Sequence[str], imagined_PMK: np.ndarray | None, truth_PMK: np.ndarray
) -> dict[str, Any]:
    """Best against worst, every pair of neighbours in MuJoCo's ranking, and how often a decision in imagination is right.

    Each comparison is paired by task and seed: McNemar's exact test over all episodes, and the sequential test that stops
    as soon as it may. Keys best_policy, worst_policy, best_against_worst, best_and_worst_told_apart, neighbours, decisions.
    """
    rates = policy_rates(truth_PMK)
    order = [int(i) for i in np.argsort(-rates, kind="stable") if math.isfinite(rates[i])]
    worlds = {"mujoco": truth_PMK} | ({} if imagined_PMK is None else {"imagined": imagined_PMK})
    best, worst = order[0], order[-1]
    extremes = {world: _pair(values[best], values[worst]) for world, values in worlds.items()}
    part: dict[str, Any] = {
        "best_policy": policies[best],
        "worst_policy": policies[worst],
        "best_against_worst": extremes,
    }
    if imagined_PMK is None:
        return part
    seen = extremes["imagined"]
    part["best_and_worst_told_apart"] = bool(seen["gap"] > 0 and seen["p_value"] < ALPHA)
    part["neighbours"] = [
        {
            "better": policies[a],
            "worse": policies[b],
            **{world: _pair(values[a], values[b]) for world, values in worlds.items()},
        }
        for a, b in pairwise(order)
    ]
    part["decisions"] = _decisions(order, rates, imagined_PMK)
    return part


def _pair(first_MK: np.ndarray, second_MK: np.ndarray) -> dict[str, Any]:
    """One comparison: gap of the rates, exact p-value, and when the sequential test decides for whom."""
    x, y = _in_order(first_MK, second_MK)
    sequential = compare_sequentially(x, y, ALPHA)
    return {
        "gap": float(x.mean() - y.mean()) if len(x) else math.nan,
        "p_value": mcnemar_p(*discordant(x, y)),
        "sequential_winner": sequential.winner,
        "sequential_episodes": sequential.decided_after,
        "sequential_p": sequential.p_value,
    }


def _in_order(first_MK: np.ndarray, second_MK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes that count in both, seed by seed with all tasks of a seed in turn, as one would run them."""
    x, y = first_MK.T.reshape(-1), second_MK.T.reshape(-1)
    both = np.isfinite(x) & np.isfinite(y)
    return x[both].astype(bool), y[both].astype(bool)


def _decisions(order: list[int], truth_rates: np.ndarray, imagined_PMK: np.ndarray) -> dict[str, int]:
    """All pairs with different true rates, by the sequential test in imagination: right, wrong, undecided."""
    counts = {"pairs": 0, "right": 0, "wrong": 0, "undecided": 0}
    for better, worse in combinations(order, 2):
        if truth_rates[better] > truth_rates[worse]:
            winner = _pair(imagined_PMK[better], imagined_PMK[worse])["sequential_winner"]
            counts["pairs"] += 1
            counts[{"first": "right", "second": "wrong", "": "undecided"}[winner]] += 1
    return counts
