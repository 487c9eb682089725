"""All parts together: what report.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from genie_robot.evaluation.agreement import drop_one_range
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.summary import parts
from genie_robot.evaluation.summary.compare import (
    cell_rates,
    compare,
    policy_rates,
    rate,
    report_line,
    without_nan,
)
from genie_robot.evaluation.summary.facts import EpisodeTable, Facts, family
from genie_robot.evaluation.summary.films import choose_films
from genie_robot.evaluation.summary.pairs import pairs_part
from genie_robot.evaluation.summary.targets import target_rows

SCHEMA = "genie_robot.policy_evaluation/1"


def summarise(
    rows: Sequence[Row],
    facts: Facts,
    *,
    floors: Mapping[str, Mapping[str, float]] | None = None,
    draws: int = 1000,
) -> dict[str, Any]:
    """Everything that report.json holds, ready for JSON (NaN is None). The figures of the whole are at the top level.

    Main treatment: the longest horizon; an episode in which the policy failed is a failure, a film that cannot be judged is
    left out; `treatments` has the other ways. The unit is the policy, its rate the mean over tasks. DataError when episodes
    of a begun world are missing. Parts whose world was not run are not there.

    floors: rates made without looking at the film, name -> {policy: rate} (judges' blind floors). draws: bootstrap
    resamples.
    """
    table = EpisodeTable(rows, facts)
    truth = table.outcomes("mujoco")
    imagined = table.outcomes("imagined") if table.has("imagined") else None
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        **{key: value for key, value in asdict(facts).items() if key != "seeds"},
        "seeds": facts.seeds,
        "horizon": facts.horizon,
        "n": len(facts.policies),
        "episodes": sum(len(table.rows(world)) for world in facts.worlds),
        "mujoco_rates": policy_rates(truth).tolist(),
        "table": _table(table),
        "by_policy": _by_policy(table),
        "judge": parts.judge_part(table),
        "failed_episodes": parts.failed_part(table),
        **pairs_part(facts.policies, imagined, truth),
    }
    summary["judge_on_true_pictures"] = summary["judge"]["primary"]
    if table.has("interface"):
        summary["action_interface"] = parts.interface_ceiling(table, facts, draws=draws)
    for world in ("tokenizer", "replay"):
        if table.has(world):
            summary[f"in_{world}"] = compare(table.outcomes(world), truth, draws=0)
    if table.has("replay"):
        summary["optimism_replay"] = parts.optimism_part(table)
        summary["replay_optimism"] = summary["optimism_replay"]["rate"]
    if floors:
        summary["floors"] = parts.floors_part(floors, facts, policy_rates(truth))
    if imagined is not None:
        summary |= _imagination(table, imagined, truth, draws)
        summary["report_line"] = report_line(summary)
        summary["targets"] = target_rows(summary)
    return without_nan(summary)


def _imagination(table: EpisodeTable, imagined: np.ndarray, truth: np.ndarray, draws: int) -> dict[str, Any]:
    """What needs imagined rows: the main figures, and the same by task, group, horizon and treatment."""
    facts = table.facts
    invalid = table.values("imagined", "invalid")
    part: dict[str, Any] = {
        **compare(imagined, truth, draws=draws),
        "drop_family_range": _drop_family_range(facts, imagined, truth),
        "imagined_rates": policy_rates(imagined).tolist(),
        "invalid_share": float(invalid.mean()),
        "invalid_by_policy": dict(zip(facts.policies, invalid.mean(axis=(1, 2)).tolist(), strict=True)),
        "cells": parts.cells_part(cell_rates(imagined), cell_rates(truth)),
        "by_task": {
            task: _with_line(
                compare(imagined[:, [m]], truth[:, [m]], draws=draws)
                | {"invalid_share": float(invalid[:, m].mean())}
            )
            for m, task in enumerate(facts.tasks)
        },
        "by_group": _groups(table, imagined, truth, draws),
        "by_horizon": {str(h): _with_line(_at_horizon(table, h, draws)) for h in sorted(facts.horizons)},
        "treatments": _treatments(table, truth),
        "corrected": parts.corrected_part(table),
        "films": choose_films(table),
    }
    part["pooled_r"] = part["cells"]["pearson_r"]
    return part


def _drop_family_range(facts: Facts, imagined: np.ndarray, truth: np.ndarray) -> list[float]:
    """Smallest and largest r when all policies of one family are left out: they are made alike, so they may err alike."""
    rates, true_rates = policy_rates(imagined), policy_rates(truth)
    known = np.isfinite(rates) & np.isfinite(true_rates)
    families = [family(policy) for policy, is_known in zip(facts.policies, known, strict=True) if is_known]
    return list(drop_one_range(rates[known], true_rates[known], families))


def _with_line(part: dict[str, Any]) -> dict[str, Any]:
    return part | {"report_line": report_line(part)}


def _at_horizon(table: EpisodeTable, horizon: int, draws: int) -> dict[str, Any]:
    figures = compare(
        table.outcomes("imagined", horizon=horizon), table.outcomes("mujoco", horizon=horizon), draws=draws
    )
    return figures | {"invalid_share": float(table.values("imagined", "invalid", horizon).mean())}


def _groups(table: EpisodeTable, imagined: np.ndarray, truth: np.ndarray, draws: int) -> dict[str, Any]:
    """Policies whose rollouts no model or judge was trained on, and the others."""
    invalid = table.values("imagined", "invalid")
    unseen = np.array([policy in table.facts.unseen_policies for policy in table.facts.policies])
    return {
        name: _with_line(
            compare(imagined[mine], truth[mine], draws=draws) | {"invalid_share": float(invalid[mine].mean())}
        )
        for name, mine in (("seen", ~unseen), ("unseen", unseen))
        if mine.any()
    }


def _treatments(table: EpisodeTable, truth: np.ndarray) -> dict[str, Any]:
    """The other ways to treat an invalid film and an episode in which the policy failed."""
    as_failure = table.outcomes("imagined", count_invalid=True)
    without_failed = table.outcomes("imagined", count_failed=False)
    kept = ("n", "pearson_r", "mmrv", "bias", "mean_abs_error", "episode_agreement", "paired_episodes")
    on_both = truth.copy()
    on_both[np.isnan(table.outcomes("imagined"))] = np.nan
    ways = {
        "invalid_counts_as_failure": compare(as_failure, truth, draws=0),
        "invalid_left_out_in_both_worlds": compare(table.outcomes("imagined"), on_both, draws=0),
        "failed_left_out": compare(without_failed, table.outcomes("mujoco", count_failed=False), draws=0),
    }
    return {name: {key: figures[key] for key in kept} for name, figures in ways.items()}


def _table(table: EpisodeTable) -> list[dict[str, Any]]:
    """One entry for each task x policy: successes, trials, rate and Wilson interval in each world that was run."""
    worlds = {world: table.outcomes(world) for world in table.facts.worlds if table.has(world)}
    progress = {world: table.values(world, "progress") for world in worlds}
    return [
        {
            "task": task,
            "policy": policy,
            **{w: rate(v[p, m]) | {"progress": float(progress[w][p, m].mean())} for w, v in worlds.items()},
        }
        for m, task in enumerate(table.facts.tasks)
        for p, policy in enumerate(table.facts.policies)
    ]


def _by_policy(table: EpisodeTable) -> list[dict[str, Any]]:
    """One entry for each policy: over all tasks, the mean of the tasks' rates and the Wilson interval of all episodes."""
    worlds = {world: table.outcomes(world) for world in table.facts.worlds if table.has(world)}
    return [
        {
            "policy": policy,
            **{w: rate(v[p]) | {"rate": float(policy_rates(v[[p]])[0])} for w, v in worlds.items()},
        }
        for p, policy in enumerate(table.facts.policies)
    ]
