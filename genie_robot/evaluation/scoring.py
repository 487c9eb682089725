"""Rollouts -> rows: the same judges and the same rule of success for every world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genie_robot.evaluation.episodes import TRUE_STATE_WORLDS, Row
from genie_robot.evaluation.evaluation_config import Block
from genie_robot.evaluation.judges import Judge
from genie_robot.evaluation.worlds import Rollouts
from genie_robot.simulation.success import success_step
from genie_robot.simulation.suites import Suite


@dataclass(frozen=True)
class Judges:
    """Who calls a film a success.

    primary: its verdicts carry the states that it read. second: an independent one, for a second opinion; None without.
    """

    primary: Judge
    second: Judge | None = None


@dataclass(frozen=True)
class Scored:
    """What is stored of a block: its rows, episode by episode and horizon by horizon, and states (B, T, K), true or read."""

    rows: list[Row]
    states_BTK: np.ndarray


def score(
    block: Block, rollouts: Rollouts, suite: Suite, judges: Judges, interface: str, horizons: tuple[int, ...]
) -> Scored:
    """Rows of a block's episodes; a horizon is a prefix of the rollout.

    interface: its name, "" in worlds without one.
    """
    by_horizon = [
        _rows_of(block, rollouts, suite, judges, interface, horizon) for horizon in sorted(horizons)
    ]
    rows = [row for episode in zip(*(rows for rows, _ in by_horizon), strict=True) for row in episode]
    return Scored(rows, by_horizon[-1][1])


def _rows_of(
    block: Block, rollouts: Rollouts, suite: Suite, judges: Judges, interface: str, horizon: int
) -> tuple[list[Row], np.ndarray]:
    frames_BTYXC = rollouts.frames_BTYXC[:, : horizon + 1]
    seen = judges.primary.judge(frames_BTYXC, block.task)
    other = judges.second.judge(frames_BTYXC, block.task) if judges.second else None
    knows_truth = block.world in TRUE_STATE_WORLDS
    states_BTK = rollouts.states_BTK if knows_truth else seen.states_BTS
    assert states_BTK is not None, "the primary judge reads states"
    states_BTK = states_BTK[:, : horizon + 1]
    rows = []
    for index, (policy, seed) in enumerate(block.episodes):
        status, length = rollouts.status_B[index], rollouts.length_B[index]
        is_ok = (
            status == "ok" or length >= horizon
        )  # what went wrong later is none of this horizon's business
        fulfilled_T = [suite.task_success(block.task, state) for state in states_BTK[index]]
        step = success_step(np.array(fulfilled_T)) if is_ok else 0
        judged = bool(seen.success_B[index]) and is_ok
        second = None if other is None else bool(other.success_B[index]) and is_ok
        rows.append(
            Row(
                world=block.world,
                interface=interface,
                suite=suite.name,
                task=block.task,
                policy=policy,
                seed=seed,
                horizon=horizon,
                status="ok" if is_ok else status,
                reason="" if is_ok else rollouts.reason_B[index],
                success=step > 0 if knows_truth else judged,
                judge_success=judged,
                second_success=second,
                progress=float((seen if other is None else other).score_B[index]) if is_ok else 0.0,
                undecided=second is not None and second != judged,
                invalid=bool(seen.invalid_B[index]) and is_ok,
                first_success_step=step if knows_truth or judged else 0,
                goal_distance_m=suite.goal_distance_m(block.task, states_BTK[index, min(length, horizon)]),
            )
        )
    return rows, states_BTK
