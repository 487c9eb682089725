"""Floors of an evaluation: fitted, kept, and turned into the rates of policies that nobody looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genie_robot.errors import ModelFolderError
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.films import save_episode
from genie_robot.evaluation.judges.floors import FLOORS_FILE, Floors, floor_rates, load_floors
from tests.evaluation.judge_films import LENGTH, labelled_films

STEPS = LENGTH - 1


def test_kept_floors_guess_as_before(tmp_path: Path) -> None:
    data = labelled_films(24)
    floors = Floors.fit(data)
    floors.save(tmp_path)
    again = load_floors(tmp_path)
    assert again is not None
    actions = data.actions_FA.reshape(24, LENGTH, 7)[:, :-1]
    assert np.array_equal(
        again.actions.probability(actions, "reach"), floors.actions.probability(actions, "reach")
    )
    assert again.task.rate("reach", LENGTH) == floors.task.rate("reach", LENGTH) == 0.5


def test_rates_know_the_actions_and_nothing_else(tmp_path: Path) -> None:
    films = labelled_films(24)
    actions = films.actions_FA.reshape(24, LENGTH, 7)[:, :-1]
    rows = []
    for seed in range(24):  # every other film succeeds
        policy = ("bad", "good")[seed % 2]
        rows.append(_row(policy, seed))
        black = np.zeros((LENGTH, 64, 64, 3), np.uint8)
        save_episode(
            tmp_path, ("imagined", "reach", policy, seed), black, actions[seed], np.zeros((LENGTH, 3)), 0.2
        )
    rates = floor_rates(Floors.fit(films), rows, tmp_path)
    assert rates["task and duration"] == {"bad": 0.5, "good": 0.5}
    assert rates["actions only"]["good"] > 0.8 and rates["actions only"]["bad"] < 0.2
    failed = [replace(row, status="raised") for row in rows]
    assert floor_rates(Floors.fit(films), failed, tmp_path)["actions only"]["good"] == 0.0


def test_a_folder_without_floors_and_one_with_damaged_ones(tmp_path: Path) -> None:
    assert load_floors(tmp_path) is None
    (tmp_path / FLOORS_FILE).write_text('{"task": {}}')
    with pytest.raises(ModelFolderError, match="delete it to go on without"):
        load_floors(tmp_path)


def _row(policy: str, seed: int) -> Row:
    return Row(
        world="imagined",
        interface="m2",
        suite="manipulation",
        task="reach",
        policy=policy,
        seed=seed,
        horizon=STEPS,
        status="ok",
        reason="",
        success=True,
        judge_success=True,
        second_success=None,
        progress=1.0,
        undecided=False,
        invalid=False,
        first_success_step=1,
        goal_distance_m=0.0,
    )
