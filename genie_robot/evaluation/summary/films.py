"""Which episodes a reader should see: where imagination and MuJoCo differ most, and a few where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np

from genie_robot.evaluation.summary.facts import EpisodeTable

DISAGREEMENTS, AGREEMENTS = 8, 2


def choose_films(table: EpisodeTable) -> list[dict[str, Any]]:
    """One episode of each of the cells (policy x task) whose rates differ most, worst first, then agreeing ones.

    A fixed rule, not a choice by eye: in a cell, the first seed that shows the cell's own kind of error. Keys task, policy,
    seed, kind ("imagined success", "imagined failure", "both succeed", "both fail") and what was judged.
    """
    imagined, truth = table.outcomes("imagined", count_invalid=True), table.outcomes("mujoco")
    errors_PM = imagined.mean(axis=2) - truth.mean(axis=2)
    chosen = []
    for place in np.argsort(-np.abs(errors_PM), axis=None, kind="stable"):
        p, m = divmod(int(place), errors_PM.shape[1])
        gap = imagined[p, m] - truth[p, m]
        wanted = np.flatnonzero(gap == (np.sign(errors_PM[p, m]) or np.nan))
        if len(wanted) and len(chosen) < DISAGREEMENTS:
            kind = "imagined success" if gap[wanted[0]] > 0 else "imagined failure"
            chosen.append(_film(table, p, m, int(wanted[0]), kind))
    for outcome, kind in ((1.0, "both succeed"), (0.0, "both fail")):
        same = np.argwhere((imagined == outcome) & (truth == outcome))
        if len(same) and len(chosen) < DISAGREEMENTS + AGREEMENTS:
            p, m, k = (int(i) for i in same[len(same) // 2])
            chosen.append(_film(table, p, m, k, kind))
    return chosen


def _film(table: EpisodeTable, policy: int, task: int, seed: int, kind: str) -> dict[str, Any]:
    place = (policy * table.shape[1] + task) * table.shape[2] + seed
    truth, dream = table.rows("mujoco")[place], table.rows("imagined")[place]
    return {
        "task": dream.task,
        "policy": dream.policy,
        "seed": dream.seed,
        "kind": kind,
        "mujoco_success": truth.success,
        "judge_on_true_pictures": truth.judge_success,
        "imagined_success": dream.success,
        "second_judge": dream.second_success,
        "invalid": dream.invalid,
        "mujoco_step": truth.first_success_step,
        "imagined_step": dream.first_success_step,
        "mujoco_distance_m": truth.goal_distance_m,
        "imagined_distance_m": dream.goal_distance_m,
    }
