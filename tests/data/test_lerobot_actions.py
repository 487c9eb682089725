"""LeRobot's actions in the common convention: what names, statistics and the registry say, and what nobody says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.data.lerobot.actions import DeltaActions, flat_names
from genie_robot.data.lerobot.dataset import LeRobotDataset
from genie_robot.errors import ConfigError, DataError
from tests.lerobot import ACTION_NAMES, rows_of, write_stats, write_v21


def test_actions_in_the_common_convention(tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", [6], "libx264")
    episode = next(LeRobotDataset(folder).episodes("train", actions=True))
    stored = np.array(rows_of(0, 6, 0, False)["action"])
    assert episode.actions_TA is not None
    np.testing.assert_allclose(episode.actions_TA[:-1, :3], stored[:-1, :3], atol=1e-7)
    np.testing.assert_allclose(episode.actions_TA[:-1, 3:6], stored[:-1, 3:6], atol=2e-3)  # small angles
    chosen = LeRobotDataset(folder).episodes("train", actions=lambda source: source.endswith("/1"))
    assert next(chosen).actions_TA is None


@pytest.mark.parametrize(
    ("names", "shape"),
    [(None, 6), (["shoulder", "elbow", "a", "b", "c", "d", "gripper"], 7), (["x", "y", "z", "gripper"], 4)],
)
def test_other_actions_are_refused_by_name(names: Any, shape: int, tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", [3], "libx264")
    path = folder / "meta" / "info.json"
    info = json.loads(path.read_text())
    info["features"]["action"] = {"dtype": "float32", "shape": [shape], "names": names}
    path.write_text(json.dumps(info))
    dataset = LeRobotDataset(folder)
    assert next(dataset.episodes("train")).num_frames == 3
    listed = ", ".join(names) if names else "without names"
    with pytest.raises(DataError, match=f"its actions are {listed}; wanted seven end-effector deltas"):
        dataset.episodes("train", actions=True)


def delta_actions(
    folder: Path, names: Any, longest: float, name: str = "mine", gripper: str | None = None
) -> DeltaActions:
    (folder / "meta").mkdir(exist_ok=True)
    write_stats(folder, longest)
    return DeltaActions(folder, {"features": {"action": {"names": names}}}, name, gripper)


def test_named_deltas_may_be_long_and_plain_ones_not(tmp_path: Path) -> None:
    actions_NA = np.array([[0.5, 0, 0, 0, 0, 1.0, -1.0]])
    named = ["delta_x", "delta_y", "delta_z", "delta_rx", "delta_ry", "delta_rz", "gripper"]
    read = delta_actions(tmp_path, named, 0.5, gripper="step").common(actions_NA)
    np.testing.assert_array_equal(read, actions_NA.astype(np.float32))
    with pytest.raises(DataError, match=r"a step of 0\.50 is no delta in metres"):
        delta_actions(tmp_path, ACTION_NAMES, 0.5)


def test_whether_steps_are_metres_is_decided_once_for_a_dataset(tmp_path: Path) -> None:
    """By the largest step of all episodes: not one episode in, the next one out."""
    folder = write_v21(tmp_path / "set", [3, 3], "libx264")
    write_stats(folder, 0.25)
    with pytest.raises(DataError, match=r"a step of 0\.25 is no delta"):
        LeRobotDataset(folder).episodes(actions=True)
    (folder / "meta" / "stats.json").unlink()
    with pytest.raises(DataError, match=r"meta/stats.json is not there to tell; fetch it"):
        LeRobotDataset(folder).episodes(actions=True)
    per_episode = [{"min": [-size] * 7, "max": [size] * 7} for size in (0.1, 0.15)]
    lines = [json.dumps({"stats": {"action": stats}}) for stats in per_episode]
    (folder / "meta" / "episodes_stats.jsonl").write_text("\n".join(lines) + "\n")
    assert len(list(LeRobotDataset(folder).episodes(actions=True))) == 2
    (folder / "meta" / "episodes_stats.jsonl").write_text("\n".join(lines).replace("0.15", "0.3"))
    with pytest.raises(DataError, match=r"a step of 0\.30 is no delta"):
        LeRobotDataset(folder).episodes(actions=True)


@pytest.mark.parametrize(
    ("name", "gripper", "wanted"),
    [
        ("mine", None, [0, 0, 0]),  # numbers from 0 to 1 do not tell which end is closed
        ("mine", "open", [1, -1, 0]),
        ("mine", "closed", [-1, 1, 0]),
        ("nyu_rot_dataset", None, [-1, 1, 0]),  # the registry: how far closed
        ("cmu_franka_exploration_dataset", None, [1, -1, 0]),  # how far open
        ("nyu_rot_dataset", "open", [-1, 1, 0]),
    ],
)
def test_the_gripper_is_known_or_left_out(
    name: str, gripper: str | None, wanted: list[float], tmp_path: Path
) -> None:
    actions_NA = np.zeros((3, 7))
    actions_NA[:, 6] = [0, 1, 0.5]
    read = delta_actions(tmp_path, ACTION_NAMES, 0.05, name, gripper).common(actions_NA)
    assert read[:, 6].tolist() == wanted


def test_a_registered_name_brings_its_units(tmp_path: Path) -> None:
    read = delta_actions(tmp_path, ACTION_NAMES, 1.0, "taco_play").common(np.full((1, 7), 0.5))
    np.testing.assert_allclose(read[0, :3], 0.01)  # 2 cm a unit
    assert read[0, 6] == -1  # its sign says open
    with pytest.raises(
        DataError, match="the registry knows no end-effector deltas among the actions of droid"
    ):
        delta_actions(tmp_path, ACTION_NAMES, 0.05, "droid")
    with pytest.raises(ConfigError, match="gripper is 'shut'; wanted one of step, closed, open"):
        delta_actions(tmp_path, ACTION_NAMES, 0.05, gripper="shut")


def test_flat_names() -> None:
    assert flat_names({"names": {"delta_y": 1, "delta_x": 0}}) == ["delta_x", "delta_y"]
    assert flat_names({"names": {"motors": ["a", "b"]}}) == ["a", "b"]
    assert flat_names({"names": None}) == flat_names({}) == []
