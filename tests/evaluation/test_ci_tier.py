"""The small tier of continuous integration, on the shipped weights: is everything plumbed the right way round?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genie_robot.cli import main
from genie_robot.evaluation.episodes import read_rows


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the finished evaluation."""
    pytest.importorskip("mujoco")
    folder = tmp_path_factory.mktemp("ci_tier")
    assert main(["evaluate", "policies", "--config", "ci", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    """Its report."""
    return json.loads((out / "report.json").read_text(encoding="utf-8"))


def rates(report: dict[str, Any], world: str) -> dict[str, float]:
    """Success rate of each policy over both tasks."""
    return {entry["policy"]: entry[world]["rate"] for entry in report["by_policy"]}


def test_imagination_tells_good_policies_from_bad_ones(report: dict[str, Any]) -> None:
    imagined = rates(report, "imagined")
    assert imagined["no-op"] == 0.0
    assert imagined["scripted-1.0"] > imagined["scripted-0.6"] > imagined["random"]
    assert report["pearson_r"] > 0.5 and report["spearman_rho"] > 0.5


def test_robot_actions_lose_nothing_on_their_way_to_the_world_model(report: dict[str, Any]) -> None:
    assert rates(report, "interface") == rates(report, "mujoco")


def test_the_judge_reads_true_pictures_as_the_simulator_does(report: dict[str, Any]) -> None:
    assert report["judge_on_true_pictures"]["episode_agreement"] > 0.9


def test_each_episode_is_a_row(out: Path, report: dict[str, Any]) -> None:
    rows = read_rows(out / "episodes.csv")
    assert len(rows) == report["episodes"] == 6 * 2 * 16 * 3
    assert (out / "report.html").is_file()
    assert {row.status for row in rows} == {"ok"}
