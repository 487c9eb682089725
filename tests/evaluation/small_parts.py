"""Parts of a small evaluation that needs no trained weights: plumbing alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.evaluation.evaluation_parts import Parts
from genie_robot.evaluation.judges import Verdicts
from genie_robot.evaluation.probe import ProbePair
from genie_robot.evaluation.scoring import Judges
from genie_robot.simulation.action_interface import ActionAdapter
from genie_robot.simulation.interfaces import TableInterface
from genie_robot.simulation.policies import Resources
from genie_robot.simulation.success import success_step
from genie_robot.simulation.suites import Suite, get_suite


class ReadingJudge:
    """Reads states by a probe and applies the suite's own rule, as the project's primary judge does."""

    name, hash = "reading", "reading"

    def __init__(self, read: Any, suite: Suite) -> None:
        self._read, self._suite = read, suite

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        states_BTK = self._read(frames_BTYXC)
        fulfilled_BT = np.array([[self._suite.task_success(task, s) for s in film] for film in states_BTK])
        success_B = np.array([success_step(film_T) > 0 for film_T in fulfilled_BT])
        batch = len(success_B)
        return Verdicts(
            success_B, np.full(batch, 0.25), np.ones(batch), np.zeros(batch, dtype=bool), states_BTK
        )


class PessimisticJudge:
    """Calls everything a failure."""

    name, hash = "pessimist", "pessimist"

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        batch = len(frames_BTYXC)
        no = np.zeros(batch, dtype=bool)
        return Verdicts(no, np.full(batch, 0.75), np.ones(batch), no)


CONFIG = EvaluationConfig(
    policies=("random-keys", "no-op"), tasks=("push",), seeds=3, block=4, horizons=(2, 3), maskgit_steps=1,
    i_know=True,
)  # fmt: skip


def small_parts(
    probes: ProbePair, model: Any = None, adapter: ActionAdapter | None = None, **changes: Any
) -> Parts:
    suite = get_suite("tabletop")
    parts = Parts(
        "tabletop",
        Judges(ReadingJudge(probes.judge, suite), PessimisticJudge()),
        Resources(eyes=probes.eyes),
        model,
        None if adapter is None else TableInterface(adapter, model),
        {"probe": probes.hash},
    )
    for name, value in changes.items():
        setattr(parts, name, value)
    return parts
