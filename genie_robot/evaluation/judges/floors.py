"""The floors of an evaluation: how well would its policies be rated by someone who sees nothing that was imagined?

Fitted on the training films beside the second judge, and kept in its folder as floors.json. `evaluate policies` prints
their agreement with MuJoCo beside that of imagination (evaluation.md section 5.5).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_robot.errors import ModelFolderError
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.films import load_actions
from genie_robot.evaluation.judges.blind import ActionFloor, Logistic, TaskFloor
from genie_robot.evaluation.probe_data import LabelledFrames

FLOORS_FILE = "floors.json"


@dataclass(frozen=True)
class Floors:
    """What is known without a world model: of the task and the time, and of the actions."""

    task: TaskFloor
    actions: ActionFloor

    @classmethod
    def fit(cls, data: LabelledFrames) -> Floors:
        """Fit both on labelled films."""
        return cls(TaskFloor.fit(data), ActionFloor.fit(data))

    def save(self, folder: Path | str) -> None:
        """Write floors.json into a judge's folder."""
        values = {
            "task": {task: rates.tolist() for task, rates in self.task.rates.items()},
            "actions": {
                task: {name: value.tolist() for name, value in vars(model).items()}
                for task, model in self.actions.models.items()
            },
        }
        (Path(folder) / FLOORS_FILE).write_text(json.dumps(values) + "\n", encoding="utf-8")


def load_floors(folder: Path | str) -> Floors | None:
    """The floors in a judge's folder; None where there are none. ModelFolderError for a damaged file."""
    path = Path(folder) / FLOORS_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        task = {name: np.array(rates, dtype=np.float64) for name, rates in values["task"].items()}
        actions = {
            name: Logistic(**{key: np.array(value) for key, value in parts.items()})
            for name, parts in values["actions"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(
            f"{path} cannot be read ({error}); restore it, or delete it to go on without"
        ) from error
    return Floors(TaskFloor(task), ActionFloor(actions))


def floor_rates(floors: Floors, rows: Sequence[Row], out_dir: Path) -> dict[str, dict[str, float]]:
    """Rates that the floors give each policy for its imagined episodes, name of the floor -> policy -> mean over tasks.

    rows: imagined ones of one horizon, whose actions lie in `out_dir`. The mean probability is taken, which is kinder to
    a floor than counting its verdicts. An episode in which the policy failed counts as a failure, as it does elsewhere.
    """
    guesses: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        if row.status == "ok":
            actions = load_actions(out_dir, (row.world, row.task, row.policy, row.seed))[None, : row.horizon]
            by_actions = float(floors.actions.probability(actions, row.task)[0])
        else:
            by_actions = 0.0
        by_task = floors.task.rate(row.task, row.horizon + 1)
        for name, value in ((TaskFloor.name, by_task), (ActionFloor.name, by_actions)):
            guesses.setdefault(name, {}).setdefault(row.policy, {}).setdefault(row.task, []).append(value)
    return {
        name: {
            policy: float(np.mean([np.mean(values) for values in tasks.values()]))
            for policy, tasks in policies.items()
        }
        for name, policies in guesses.items()
    }
