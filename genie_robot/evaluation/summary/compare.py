"""Two worlds' outcomes, paired by seed -> every figure of the report line (evaluation.md, section 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from genie_robot.evaluation import agreement as ag
from genie_robot.evaluation.bootstrap import bootstrap_intervals
from genie_robot.evaluation.intervals import fisher_interval, wilson_interval

PAIRED_SHARE = 0.9  # of the second ceiling; what evaluation.md 1.3 tabulates
CEILING_DRAWS = 200  # enough for a median
PAIR_GAP = 0.10  # true rates closer than this are not asked to be ranked


def policy_rates(outcomes_PMK: np.ndarray) -> np.ndarray:
    """Success rate of each policy (P,): the mean over tasks; NaN for a policy with a task without any episode that counts."""
    return cell_rates(outcomes_PMK).mean(axis=1)


def cell_rates(outcomes_PMK: np.ndarray) -> np.ndarray:
    """Success rate of each policy on each task (P, M); NaN without any episode that counts."""
    counted = np.isfinite(outcomes_PMK)
    trials = counted.sum(axis=2)
    successes = np.where(counted, outcomes_PMK, 0.0).sum(axis=2)
    return np.where(trials > 0, successes / np.maximum(trials, 1), np.nan)


def compare(
    imagined_PMK: np.ndarray, truth_PMK: np.ndarray, *, draws: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Agreement of two outcome arrays (0 / 1; NaN does not count) of the same episodes.

    Rates are of policies, as means over tasks; a policy without a rate in either world is left out and `n` falls. draws:
    bootstrap resamples; 0 leaves out what is drawn: these intervals and the noise ceilings (NaN).
    """
    known = np.isfinite(policy_rates(imagined_PMK)) & np.isfinite(policy_rates(truth_PMK))
    imagined_PMK, truth_PMK = imagined_PMK[known], truth_PMK[known]
    imagined, truth = policy_rates(imagined_PMK), policy_rates(truth_PMK)
    result = compare_rates(imagined, truth)
    result |= _ceilings(truth_PMK, min(draws, CEILING_DRAWS))
    result |= _episodes(imagined_PMK, truth_PMK)
    undefined = math.nan, math.nan
    boot = {"pearson_r": undefined, "mmrv": undefined}
    if draws and len(truth):
        statistics = {"pearson_r": ag.pearson_r, "mmrv": _mmrv}
        boot = bootstrap_intervals(statistics, imagined_PMK, truth_PMK, draws=draws, seed=seed)
    result["bootstrap_interval"] = list(boot["pearson_r"])
    result["mmrv_bootstrap_interval"] = list(boot["mmrv"])
    return result


def compare_rates(imagined: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """What two vectors of rates (one entry a policy) tell by themselves.

    r and rho are NaN for two policies: of two points they are 1 or -1, whatever was measured.
    """
    right, pairs = ag.pairs_ranked(imagined=imagined, ground_truth=truth, gap=PAIR_GAP)
    n = len(truth)
    r, rho = (f(imagined, truth) if n > 2 else math.nan for f in (ag.pearson_r, ag.spearman_rho))
    return {
        "n": n,
        "pearson_r": r,
        "fisher_interval": list(fisher_interval(r, n)),
        "drop_one_range": list(ag.drop_one_range(imagined, truth)),
        "permutation_p": ag.permutation_p(imagined, truth),
        "spearman_rho": rho,
        "mmrv": ag.mmrv(imagined=imagined, ground_truth=truth),
        "bias": float((imagined - truth).mean()) if n else math.nan,
        "mean_abs_error": float(np.abs(imagined - truth).mean()) if n else math.nan,
        "max_abs_error": float(np.abs(imagined - truth).max()) if n else math.nan,
        "pairs_ranked": right / pairs if pairs else math.nan,
        "pairs": pairs,
    }


def _mmrv(imagined: np.ndarray, truth: np.ndarray) -> float:
    return ag.mmrv(imagined=imagined, ground_truth=truth)


def _ceilings(truth_PMK: np.ndarray, draws: int) -> dict[str, float]:
    """What a perfect evaluator would reach with as many episodes: with seeds of its own, and with nine in ten paired."""
    names = ("r", "rho", "mmrv")
    if not len(truth_PMK) or not draws:
        return {f"ceiling_{name}{suffix}": math.nan for name in names for suffix in ("", "_paired90")}
    trials = max(1, round(float(np.isfinite(truth_PMK).sum(axis=2).mean())))
    result = {}
    for suffix, share in (("", 0.0), ("_paired90", PAIRED_SHARE)):
        ceiling = ag.noise_ceiling(cell_rates(truth_PMK), trials, paired=share, draws=draws)
        values = ceiling.pearson_r, ceiling.spearman_rho, ceiling.mmrv
        result |= {f"ceiling_{name}{suffix}": value for name, value in zip(names, values, strict=True)}
    return result


def _episodes(imagined_PMK: np.ndarray, truth_PMK: np.ndarray) -> dict[str, Any]:
    """Agreement episode by episode."""
    both = np.isfinite(imagined_PMK) & np.isfinite(truth_PMK)
    a, b = imagined_PMK[both].astype(bool), truth_PMK[both].astype(bool)
    share, interval = ag.paired_agreement(a, b)
    return {
        "paired_episodes": len(a),
        "episode_agreement": share,
        "episode_agreement_interval": list(interval),
        "kappa": ag.cohen_kappa(a, b),
        "optimism": float(a[~b].mean()) if (~b).any() else math.nan,
        "pessimism": float((~a)[b].mean()) if b.any() else math.nan,
    }


def rate(outcomes: np.ndarray) -> dict[str, Any]:
    """Successes, trials, rate and Wilson interval of the outcomes that count."""
    counted = outcomes[np.isfinite(outcomes)]
    successes, trials = int(counted.sum()), len(counted)
    return {
        "successes": successes,
        "trials": trials,
        "rate": successes / trials if trials else math.nan,
        "wilson": list(wilson_interval(successes, trials)),
    }


def without_nan(value: Any) -> Any:
    """Copy of nested lists and dicts in which NaN and infinity are None, as JSON wants it."""
    if isinstance(value, Mapping):
        return {str(k): without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


def number(value: float | None, digits: int = 3) -> str:
    """A figure as text; `undefined` for None."""
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def report_line(part: Mapping[str, Any]) -> str:
    """One line with every figure and its uncertainty, of a whole summary or of one part of it."""
    low, high = part["fisher_interval"]
    drop_low, drop_high = part["drop_one_range"]
    boot_low, boot_high = part["mmrv_bootstrap_interval"]
    return (
        f"r={number(part['pearson_r'])} (k={part['n']}; Fisher-z [{number(low)}, {number(high)}]; "
        f"drop-one {number(drop_low)}..{number(drop_high)}; perm p={number(part['permutation_p'], 4)}; "
        f"ceiling r_c={number(part['ceiling_r'])}, paired {number(part['ceiling_r_paired90'])}) "
        f"rho={number(part['spearman_rho'])} MMRV={number(part['mmrv'])} "
        f"(boot [{number(boot_low)}, {number(boot_high)}]; ceiling {number(part['ceiling_mmrv'])}, "
        f"paired {number(part['ceiling_mmrv_paired90'])}) "
        f"bias={number(part['bias'])} |err|={number(part['mean_abs_error'])} kappa={number(part['kappa'])} "
        f"agreement={number(part['episode_agreement'])} invalid={number(part.get('invalid_share'))} "
        f"optimism={number(part.get('replay_optimism'))} (closed loop {number(part['optimism'])})"
    )
