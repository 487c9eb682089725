"""Rows of evaluations that never ran: true rates, and an imagination with known faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from genie_robot.evaluation.episodes import WORLDS, Row, interface_in
from genie_robot.evaluation.summary.facts import Facts

POLICIES = (
    "scripted-1.0", "scripted-0.8", "scripted-0.6", "scripted-0.4", "biased-0.9", "noisy-0.9", "latency-0.9",
    "bc-5-s0", "bc-20-s0", "bc-100-s0", "random", "no-op",
)  # fmt: skip
TASKS = ("push", "pick_lift", "drawer")


def facts(
    policies: Sequence[str] = POLICIES,
    tasks: Sequence[str] = TASKS,
    seeds: int = 20,
    horizons: tuple[int, ...] = (32, 64),
    worlds: tuple[str, ...] = WORLDS,
) -> Facts:
    return Facts(
        suite="manipulation",
        interface="m2",
        tasks=tuple(tasks),
        policies=tuple(policies),
        seeds=seeds,
        first_seed=1_000_000,
        horizons=horizons,
        dt_s=0.2,
        worlds=worlds,
        unseen_policies=tuple(policies[len(policies) // 2 :]),
        hashes={"model": "0123456789abcdef" * 4},
        settings={"maskgit_steps": 8},
    )


def row(world: str, task: str, policy: str, seed: int, success: bool, **changes: Any) -> Row:
    plain = Row(
        world=world,
        interface=interface_in(world, "m2"),
        suite="manipulation",
        task=task,
        policy=policy,
        seed=seed,
        horizon=64,
        status="ok",
        reason="",
        success=success,
        judge_success=success,
        second_success=success,
        progress=1.0 if success else 0.3,
        undecided=False,
        invalid=False,
        first_success_step=20 if success else 0,
        goal_distance_m=0.01 if success else 0.12,
    )
    return replace(plain, **changes)


def rows_of(
    facts: Facts,
    *,
    false_success: float = 0.0,
    false_failure: float = 0.0,
    judge_error: float = 0.0,
    invalid: float = 0.0,
    seed: int = 0,
) -> list[Row]:
    """True rates fall evenly from .95 to .05 over the policies; shares of MuJoCo's outcomes that come out otherwise."""
    rng = np.random.default_rng(seed)
    rates = np.linspace(0.95, 0.05, len(facts.policies))
    rows = []
    for policy, rate in zip(facts.policies, rates, strict=True):
        for task in facts.tasks:
            for index in range(facts.seeds):
                truth = bool(rng.random() < rate)
                flip = bool(rng.random() < (false_failure if truth else false_success))
                judged, second = (truth ^ bool(rng.random() < judge_error) for _ in range(2))
                is_invalid = bool(rng.random() < invalid)
                for horizon in facts.horizons:
                    for world in facts.worlds:
                        success = truth ^ (flip and world in ("imagined", "replay"))
                        changes: dict = {"horizon": horizon}
                        if world == "mujoco":
                            changes |= {
                                "judge_success": judged,
                                "second_success": second,
                                "undecided": judged != second,
                            }
                        if world == "imagined":
                            changes |= {"invalid": is_invalid}
                        rows.append(row(world, task, policy, facts.first_seed + index, success, **changes))
    return rows
