"""What stands beside the agreement: interface ceiling, judges, optimism, corrected rates, what went wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation import correction
from genie_robot.evaluation.agreement import GATE_MMRV, GATE_R, passes_gate, pearson_r
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.evaluation.summary.compare import compare, compare_rates, policy_rates, rate
from genie_robot.evaluation.summary.facts import EpisodeTable, Facts

PAIRED_SHARE = 0.2  # of the seeds: the MuJoCo episodes that the prediction-powered rates may look at


def interface_ceiling(rows: Sequence[Row] | EpisodeTable, facts: Facts, *, draws: int = 0) -> dict[str, Any]:
    """What the action interface alone loses: MuJoCo with every action passed through it, against MuJoCo.

    Needs rows of the worlds mujoco and interface. `passes` tells whether policies may be scored through it.
    """
    if isinstance(rows, EpisodeTable):
        table = rows
    else:
        rows = [row for row in rows if row.world in ("mujoco", "interface")]
        table = EpisodeTable(rows, facts)
    through, truth = table.outcomes("interface"), table.outcomes("mujoco")
    figures = compare(through, truth, draws=draws)
    return {
        "interface": facts.interface,
        **figures,
        "rates": policy_rates(through).tolist(),
        "by_task": {
            task: {
                key: value
                for key, value in compare(through[:, [m]], truth[:, [m]], draws=0).items()
                if key in ("pearson_r", "mmrv", "bias", "mean_abs_error", "episode_agreement")
            }
            for m, task in enumerate(facts.tasks)
        },
        "gate": {"pearson_r": GATE_R, "mmrv": GATE_MMRV},
        "passes": passes_gate(figures["pearson_r"], figures["mmrv"]),
    }


def judge_part(table: EpisodeTable) -> dict[str, Any]:
    """The judges on MuJoCo's own pictures, where the truth is known; and how often they differ in imagination.

    Episodes in which the policy itself failed are left out: they are failures by rule, no judge decided that.
    """
    truth = table.outcomes("mujoco", count_failed=False)
    first, second = (
        table.outcomes("mujoco", f"{name}_success", count_failed=False) for name in ("judge", "second")
    )
    part: dict[str, Any] = {"primary": _judge_figures(table, first, truth)}
    if np.isfinite(second).any():
        part["second"] = _judge_figures(table, second, truth)
    worlds = [world for world in ("mujoco", "imagined") if table.has(world)]
    for name in ("undecided", "invalid"):
        part[f"{name}_share"] = {world: float(table.values(world, name).mean()) for world in worlds}
    if table.has("imagined"):
        decided = table.outcomes("imagined")
        decided[table.values("imagined", "undecided") > 0] = np.nan
        part["without_undecided"] = compare(decided, table.outcomes("mujoco"), draws=0)
        if np.isfinite(second).any():
            verdicts = table.outcomes("imagined", "second_success")
            part["by_second"] = compare(verdicts, table.outcomes("mujoco"), draws=0)
    return part


def _judge_figures(table: EpisodeTable, judged: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    by_task = {task: _errors(judged[:, m], truth[:, m]) for m, task in enumerate(table.facts.tasks)}
    return compare(judged, truth, draws=0) | _errors(judged, truth) | {"by_task": by_task}


def _errors(judged: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    errors = correction.judge_errors(*_known(judged, truth))
    return {
        "sensitivity": errors.sensitivity,
        "sensitivity_interval": list(wilson_interval(errors.found_successes, errors.successes)),
        "specificity": errors.specificity,
        "specificity_interval": list(wilson_interval(errors.found_failures, errors.failures)),
        "successes": errors.successes,
        "failures": errors.failures,
    }


def _known(judged: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = np.isfinite(judged) & np.isfinite(truth)
    return judged[both], truth[both]


def optimism_part(table: EpisodeTable) -> dict[str, Any]:
    """Share of MuJoCo's failures that are judged a success when their recorded actions are replayed in imagination.

    Films that cannot be judged are left out; `invalid_share` tells how many.
    Open loop: the policy cannot react, so what is left is the world model's and the judge's wish to see success (CureWM,
    evaluation.md section 5.5).
    """
    replayed = table.outcomes("replay", count_failed=False)
    truth = table.outcomes("mujoco", count_failed=False)
    wished = np.where(truth == 0.0, replayed, np.nan)
    missed = np.where(truth == 1.0, 1.0 - replayed, np.nan)
    invalid = table.values("replay", "invalid")
    return {
        **rate(wished),
        "invalid_share": float(invalid[truth == 0.0].mean()) if (truth == 0.0).any() else math.nan,
        "by_task": {task: rate(wished[:, m]) for m, task in enumerate(table.facts.tasks)},
        "missed_successes": rate(missed),
    }


def corrected_part(table: EpisodeTable) -> dict[str, Any]:
    """Imagined rates set right with a few MuJoCo episodes (`prediction_powered`), and for the judge alone (`rogan_gladen`).

    The prediction-powered rates look at the first fifth of the seeds in MuJoCo and are scored against the others alone, and so
    are these few seeds of MuJoCo by themselves (`mujoco_alone`) and imagination by itself (`imagined_alone`);
    `mujoco_only_width` is the interval that those few episodes give without any imagination, and `effort_saved` the share of
    MuJoCo episodes that imagination spares at equal width. The judge's errors come from the *other* policies' true pictures.
    """
    imagined, truth = table.outcomes("imagined", count_invalid=True), table.outcomes("mujoco")
    paired = min(max(2, math.ceil(PAIRED_SHARE * table.facts.seeds)), table.facts.seeds)
    few, many = slice(None, paired), slice(paired, None)
    powered = [
        correction.prediction_powered(x[:, many].reshape(-1), x[:, few].reshape(-1), y[:, few].reshape(-1))
        for x, y in zip(imagined, truth, strict=True)
    ]
    alone = [wilson_interval(int(y[:, few].sum()), y[:, few].size) for y in truth]
    others = policy_rates(truth[:, :, many])
    width = float(np.mean([e.high - e.low for e in powered]))
    alone_width = float(np.mean([high - low for low, high in alone]))
    return {
        "prediction_powered": {
            "paired_seeds": paired,
            **_estimates(powered, others),
            "mujoco_alone": _against(policy_rates(truth[:, :, few]), others),
            "imagined_alone": _against(policy_rates(imagined[:, :, many]), others),
            "mean_width": width,
            "mujoco_only_width": alone_width,
            "effort_saved": 1.0 - (width / alone_width) ** 2,
        },
        "rogan_gladen": _estimates(_rogan_gladen(table), policy_rates(truth)),
    }


def _rogan_gladen(table: EpisodeTable) -> list[correction.Estimate]:
    judged = table.outcomes("mujoco", "judge_success", count_failed=False)
    truth = table.outcomes("mujoco", count_failed=False)
    imagined = table.outcomes("imagined")
    estimates = []
    for index in range(len(imagined)):
        counted = imagined[index][np.isfinite(imagined[index])]
        others = np.arange(len(imagined)) != index
        errors = correction.judge_errors(*_known(judged[others], truth[others]))
        nothing = correction.Estimate(math.nan, math.nan, math.nan)
        found = correction.rogan_gladen(int(counted.sum()), len(counted), errors) if len(counted) else nothing
        estimates.append(found)
    return estimates


def _estimates(estimates: list[correction.Estimate], truth: np.ndarray) -> dict[str, Any]:
    rates = np.array([e.rate for e in estimates])
    return {
        "rates": rates.tolist(),
        "intervals": [[e.low, e.high] for e in estimates],
        **_against(rates, truth),
    }


def _against(rates: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    known = np.isfinite(rates) & np.isfinite(truth)
    figures = compare_rates(rates[known], truth[known])
    return {key: figures[key] for key in ("pearson_r", "mmrv", "bias", "mean_abs_error")}


def floors_part(
    floors: Mapping[str, Mapping[str, float]], facts: Facts, truth_rates: np.ndarray
) -> dict[str, Any]:
    """Agreement of rates made without looking at the imagined film: what a figure must beat to mean anything.

    floors: name -> {policy: success rate}, such as a judge that sees the first frame only.
    """
    part = {}
    for name, rates in floors.items():
        missing = [policy for policy in facts.policies if policy not in rates]
        if missing:
            raise ConfigError(
                f"the floor {name!r} has no rate for {', '.join(missing)}; wanted one for each policy"
            )
        vector = np.array([rates[policy] for policy in facts.policies], dtype=np.float64)
        known = np.isfinite(vector) & np.isfinite(truth_rates)
        part[name] = compare_rates(vector[known], truth_rates[known]) | {"rates": vector.tolist()}
    return part


def failed_part(table: EpisodeTable) -> list[dict[str, Any]]:
    """Episodes in which the policy itself failed, counted by world, policy, task and reason; most frequent first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for world in table.facts.worlds:
        for row in table.rows(world):
            if row.status != "ok":
                counts[(world, row.policy, row.task, row.status, row.reason)] += 1
    names = "world", "policy", "task", "status", "reason"
    return [dict(zip(names, key, strict=True)) | {"episodes": count} for key, count in counts.most_common()]


def cells_part(imagined: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Pearson r over all cells (policy x task). The cells of a policy are not independent: no interval is given."""
    known = np.isfinite(imagined) & np.isfinite(truth)
    x, y = imagined[known], truth[known]
    return {
        "cells": len(x),
        "pearson_r": pearson_r(x, y),
        "mean_abs_error": float(np.abs(x - y).mean()) if len(x) else math.nan,
        "max_abs_error": float(np.abs(x - y).max()) if len(x) else math.nan,
    }
