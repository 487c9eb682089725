"""From per-episode rows to the statement: how far does imagination rank policies as MuJoCo does?

The unit of the correlations is the policy: its success rate is the mean over tasks. Rates by task and the pooled cells
(task x policy) are reported as well, and are not to be mistaken for independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from genie_robot.evaluation import agreement as ag
from genie_robot.evaluation.policy_eval import PolicyEvalConfig, Row

_DRAWS = 1000


def _cell(rows: Sequence[Row]) -> dict[str, Any]:
    successes, trials = sum(row.success for row in rows), len(rows)
    return {
        "successes": successes,
        "trials": trials,
        "rate": successes / trials if trials else math.nan,
        "wilson": list(ag.wilson_interval(successes, trials)),
    }


def success_table(config: PolicyEvalConfig, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One entry for each task x policy: successes, trials, rate and Wilson interval in each world."""
    table = []
    for task in config.tasks:
        for policy in config.policies:
            mine = [row for row in rows if row.task == task and row.policy == policy]
            cells = {world: _cell([r for r in mine if r.world == world]) for world in config.worlds}
            table.append({"task": task, "policy": policy, **cells})
    return table


def outcomes(
    config: PolicyEvalConfig, rows: Sequence[Row], world: str, *, judged: bool = False
) -> np.ndarray:
    """Outcomes (policies, tasks, seeds) as 0 / 1, NaN where an episode was not run."""
    values = np.full((len(config.policies), len(config.tasks), config.seeds), np.nan)
    for row in rows:
        if row.world == world and row.policy in config.policies and row.task in config.tasks:
            place = (
                config.policies.index(row.policy),
                config.tasks.index(row.task),
                row.seed - config.first_seed,
            )
            if 0 <= place[2] < config.seeds:
                values[place] = row.judge_success if judged else row.success
    return values


def compare(imagined_PTK: np.ndarray, truth_PTK: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """Agreement of two outcome arrays (policies, tasks, seeds) paired by seed; all the figures of a report line."""
    both = np.isfinite(imagined_PTK) & np.isfinite(truth_PTK)
    imagined, truth = imagined_PTK.mean(axis=(1, 2)), truth_PTK.mean(axis=(1, 2))
    flat = imagined_PTK.reshape(len(imagined), -1), truth_PTK.reshape(len(truth), -1)
    r, n = ag.pearson_r(imagined, truth), len(truth)
    a, b = imagined_PTK[both].astype(bool), truth_PTK[both].astype(bool)

    def ranked(x: np.ndarray, y: np.ndarray) -> float:
        return ag.mmrv(imagined=x, ground_truth=y)

    return {
        "pearson_r": r,
        "fisher_interval": list(ag.fisher_interval(r, n)),
        "bootstrap_interval": list(ag.bootstrap_interval(ag.pearson_r, *flat, draws=_DRAWS, seed=seed)),
        "drop_one_range": list(ag.drop_one_range(imagined, truth)),
        "spearman_rho": ag.spearman_rho(imagined, truth),
        "mmrv": ag.mmrv(imagined=imagined, ground_truth=truth),
        "mmrv_bootstrap_interval": list(ag.bootstrap_interval(ranked, *flat, draws=_DRAWS, seed=seed)),
        "bias": float((imagined - truth).mean()),
        "mean_abs_error": float(np.abs(imagined - truth).mean()),
        "episode_agreement": float((a == b).mean()),
        "kappa": ag.cohen_kappa(a, b),
        "optimism": float(a[~b].mean()) if (~b).any() else math.nan,
        "pessimism": float((~a)[b].mean()) if b.any() else math.nan,
        "paired_episodes": int(both.sum()),
    }


def summarise(config: PolicyEvalConfig, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that report.json's `policies` holds; keys n, tasks, episodes, pearson_r, spearman_rho, mmrv, ceiling_r ...

    Needs finished rows of the world `mujoco`; the other worlds' parts are there if their rows are. NaN becomes None.
    """
    truth = outcomes(config, rows, "mujoco")
    if not np.isfinite(truth).all():
        raise ValueError(
            f"{int((~np.isfinite(truth)).sum())} MuJoCo episodes are missing; run the evaluation to its end"
        )
    rates, trials = truth.mean(axis=(1, 2)), truth[0].size
    free, paired = (ag.noise_ceiling(rates, trials, paired=share) for share in (0.0, 0.9))
    summary: dict[str, Any] = {
        "n": len(config.policies),
        "tasks": list(config.tasks),
        "seeds": config.seeds,
        "episodes": len(rows),
        "policies": list(config.policies),
        "mujoco_rates": rates.tolist(),
        "ceiling_r": free.pearson_r,
        "ceiling_rho": free.spearman_rho,
        "ceiling_mmrv": free.mmrv,
        "ceiling_r_paired90": paired.pearson_r,
        "ceiling_mmrv_paired90": paired.mmrv,
        "table": success_table(config, rows),
        "judge_on_true_pictures": compare(outcomes(config, rows, "mujoco", judged=True), truth),
    }
    imagined = outcomes(config, rows, "imagined")
    if "imagined" in config.worlds and np.isfinite(imagined).all():
        summary |= compare(imagined, truth) | {"imagined_rates": imagined.mean(axis=(1, 2)).tolist()}
        summary["by_task"] = {
            task: compare(imagined[:, [k]], truth[:, [k]]) for k, task in enumerate(config.tasks)
        }
        summary["pooled_r"] = ag.pearson_r(imagined.mean(axis=2).reshape(-1), truth.mean(axis=2).reshape(-1))
        summary |= _best_and_worst(config, imagined, truth)
    coded = outcomes(config, rows, "mujoco_codes")
    if "mujoco_codes" in config.worlds and np.isfinite(coded).all():
        summary["action_interface"] = compare(coded, truth) | {"rates": coded.mean(axis=(1, 2)).tolist()}
        if np.isfinite(imagined).all():
            summary["imagined_against_action_interface"] = compare(imagined, coded)
    return without_nan(summary)


def _best_and_worst(config: PolicyEvalConfig, imagined: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Whether imagination tells MuJoCo's best policy from its worst, with an exact paired (McNemar) p-value."""
    rates = truth.mean(axis=(1, 2))
    best, worst = int(rates.argmax()), int(rates.argmin())
    gaps = {}
    for name, values in (("mujoco", truth), ("imagined", imagined)):
        x, y = values[best].reshape(-1), values[worst].reshape(-1)
        gaps[name] = {
            "gap": float(x.mean() - y.mean()),
            "p_value": sign_test(int((x > y).sum()), int((x < y).sum())),
        }
    return {
        "best_policy": config.policies[best],
        "worst_policy": config.policies[worst],
        "best_against_worst": gaps,
        "best_and_worst_told_apart": bool(gaps["imagined"]["gap"] > 0 and gaps["imagined"]["p_value"] < 0.05),
    }


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact binomial p-value of `wins` among wins + losses fair coins (McNemar's exact test)."""
    n, k = wins + losses, min(wins, losses)
    return 1.0 if n == 0 else min(1.0, 2.0 * sum(math.comb(n, i) for i in range(k + 1)) / 2.0**n)


def without_nan(value: Any) -> Any:
    """Copy of nested lists and dicts in which NaN and infinity are None, as JSON wants it."""
    if isinstance(value, dict):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def report_line(summary: dict[str, Any]) -> str:
    """One line: r with its interval and ceiling, rho, MMRV, bias, agreement."""

    def number(value: Any, digits: int = 3) -> str:
        return "undefined" if value is None else f"{value:.{digits}f}"

    low, high = summary["fisher_interval"]
    return (
        f"r={number(summary['pearson_r'])} (k={summary['n']}; Fisher-z [{number(low)}, {number(high)}]; "
        f"ceiling {number(summary['ceiling_r'])})  rho={number(summary['spearman_rho'])}  "
        f"MMRV={number(summary['mmrv'])} (ceiling {number(summary['ceiling_mmrv'])})  "
        f"bias={number(summary['bias'])}  |err|={number(summary['mean_abs_error'])}  "
        f"agreement={number(summary['episode_agreement'])}  kappa={number(summary['kappa'])}"
    )
