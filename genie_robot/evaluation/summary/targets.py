"""The targets of evaluation.md, section 6, against a summary: reached, missed or not measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A figure, how to find it, and the levels it should reach; `at_least` tells the good direction.

    must is None where evaluation.md sets only the ambition.
    """

    what: str
    value: Callable[[Summary], float | None]
    must: float | None
    ambition: float
    at_least: bool


def _worst_task(summary: Summary) -> float | None:
    values = [part["pearson_r"] for part in summary["by_task"].values()]
    return None if any(_missing(v) for v in values) else min(values)


def _missing(value: float | None) -> bool:
    return value is None or value != value


TARGETS = (
    Target("Pearson r over policies", lambda s: s["pearson_r"], 0.95, 0.995, True),
    Target("smallest r when one policy is left out", lambda s: s["drop_one_range"][0], None, 0.98, True),
    Target("Spearman rho", lambda s: s["spearman_rho"], 0.93, 0.98, True),
    Target("MMRV", lambda s: s["mmrv"], 0.02, 0.003, False),
    Target("mean |error| of a success rate", lambda s: s["mean_abs_error"], 0.08, 0.04, False),
    Target("|bias|", lambda s: abs(s["bias"]), 0.05, 0.02, False),
    Target("smallest r of a task", _worst_task, 0.85, 0.95, True),
    Target("episodes with the same outcome", lambda s: s["episode_agreement"], 0.80, 0.90, True),
    Target("Cohen's kappa", lambda s: s["kappa"], 0.55, 0.75, True),
    Target("optimism on replayed failures", lambda s: s.get("replay_optimism"), 0.20, 0.10, False),
    Target("pairs ranked right at a true gap of 0.10", lambda s: s["pairs_ranked"], 0.95, 1.0, True),
)


def target_rows(summary: Summary) -> list[dict[str, Any]]:
    """Each target with its value and whether both levels are reached; None where it was not measured."""
    rows = []
    for target in TARGETS:
        value = target.value(summary)
        value = None if _missing(value) else float(value or 0.0)
        rows.append(
            {
                "what": target.what,
                "value": value,
                "must": target.must,
                "ambition": target.ambition,
                "at_least": target.at_least,
                "must_reached": _reaches(target, value, target.must),
                "ambition_reached": _reaches(target, value, target.ambition),
            }
        )
    return rows


def _reaches(target: Target, value: float | None, level: float | None) -> bool | None:
    if value is None or level is None:
        return None
    return value >= level - 1e-9 if target.at_least else value <= level + 1e-9
