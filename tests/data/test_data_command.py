from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.data.summary import SheetRow, contact_sheet, inspect_dataset
from tests.data.conftest import STATE_NAMES

Write = Callable[..., Path]


def test_inspect_counts_and_draws(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(train=[5, 1, 0, 9], val=[3])
    sheet, numbers = tmp_path / "new" / "sheet.png", tmp_path / "new" / "numbers.json"
    assert main(["data", "inspect", str(folder), "--sheet", str(sheet), "--json", str(numbers)]) == 0
    content = json.loads(numbers.read_text())
    wanted = {"episodes": 5, "frames": 18, "height": 24, "width": 32, "rate_hz": 5.0, "bad_records": 0}
    assert {key: content[key] for key in wanted} == wanted
    assert content["splits"]["train"]["frames_per_episode"] == {"min": 0, "median": 3.0, "max": 9}
    assert content["still_steps"] == 0.0
    printed = capsys.readouterr().out
    assert "toy 0.1.0: frames of 24x32 (height x width) at 5 Hz" in printed
    assert str(sheet) in printed
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[1] == 10 * (128 + 2)


def test_json_on_the_screen_is_json_alone(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "inspect", str(write(train=[3])), "--sheet", str(tmp_path / "s.png"), "--json", "-"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 1


def test_inspect_counts_bad_records(write: Write, tmp_path: Path) -> None:
    folder = write(train=[4, 5, 6])
    shard = next(folder.glob("*train*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    content = inspect_dataset(folder).as_dict()
    assert (content["episodes"], content["bad_records"]) == (2, 1)


def test_inspect_names_what_was_bad(write: Write) -> None:
    folder = write(train=[4, 5, 6])
    shard = next(folder.glob("*train*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    (said,) = inspect_dataset(folder).as_dict()["splits"]["train"]["bad"]
    assert said.startswith(f"{shard}: record 2 at byte ")


def test_inspect_shows_cameras_actions_and_what_the_registry_knows(
    shared_dataset: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, sheet, numbers = shared_dataset("bridge_octo_rlds"), tmp_path / "s.png", tmp_path / "n.json"
    assert main(["data", "inspect", str(folder), "--sheet", str(sheet), "--json", str(numbers)]) == 0
    content, printed = json.loads(numbers.read_text()), capsys.readouterr().out
    cameras = {camera["key"]: camera for camera in content["cameras"]}
    assert list(cameras) == ["image_0", "image_1", "image_2", "image_3"]
    assert [key for key, camera in cameras.items() if camera["used"]] == ["image_0"]
    assert [key for key, camera in cameras.items() if camera["black"]] == ["image_3"]
    assert "camera image_0: 64x64 primary <- used" in printed
    assert "actions: delta from action[0:3]; rotation as rpy from action[3:6]" in printed
    assert content["registry"]["drop_first"] == 1
    assert "licence    CC BY 4.0" in printed
    picture = cv2.imread(str(sheet))
    assert picture is not None
    assert picture.shape[0] == (8 + 3) * (96 + 16 + 2)  # eight episodes and three other cameras


def test_inspect_of_a_name_without_files_shows_the_registry_and_asks_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for variable in ("GENIE_ROBOT_DATA", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    for name in ("kuka", "bridge_dataset"):
        assert main(["data", "inspect", name, "--root", str(tmp_path)]) == 0
        assert f"no files of it: `genie-robot data fetch {name}`" in capsys.readouterr().out


def test_inspect_opens_a_name_in_a_root(write: Write, tmp_path: Path) -> None:
    folder = write(train=[3])
    summary = inspect_dataset("toy", root=folder.parents[1])
    assert (summary.folder, summary.splits["train"].episodes) == (str(folder), 1)


def test_cuts_and_black_frames_are_counted(write: Write, new_episode: Callable[..., dict]) -> None:
    still = np.full((4, 24, 32, 3), 60, np.uint8)
    frames = np.concatenate([still, still + 120, still * 0, still])
    episode = new_episode(0, 16, frames_TYXC=frames)
    folder = write_dataset(
        write(train=[1]).parent,
        "jumps",
        "0.1.0",
        {"train": [episode]},
        (24, 32),
        5.0,
        state_names=STATE_NAMES,
    )
    content = inspect_dataset(folder).as_dict()
    assert (content["cuts"], content["black_frames"]) == (2, 4)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["nowhere"], 2, "nowhere is no folder"),
        (["{data}", "--episodes", "0"], 2, "--episodes is 0"),
        (["{data}", "--rate-hz", "-1"], 2, "--rate-hz is -1.0"),
        (["{data}", "--sheet", "a.gif"], 2, "ends in .png"),
        (["{data}", "--split", "tset"], 1, "no split 'tset'"),
        (["{data}", "--image-key", "wrist"], 1, "no camera 'wrist'"),
    ],
)
def test_wrong_use_is_one_line(
    write: Write, capsys: pytest.CaptureFixture[str], arguments: list[str], exit_code: int, message: str
) -> None:
    folder = write(train=[3])
    filled = [argument.replace("{data}", str(folder)) for argument in arguments]
    assert main(["data", "inspect", *filled]) == exit_code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_missing_shard_is_exit_code_1(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(train=[3])
    next(folder.glob("*train*")).unlink()
    assert main(["data", "inspect", str(folder)]) == 1
    assert "toy-train.tfrecord-00000-of-00001 is missing" in capsys.readouterr().err


def test_generate_makes_what_inspect_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    out, numbers = tmp_path / "out", tmp_path / "made.json"
    options = [
        "--episodes",
        "2",
        "--val-episodes",
        "1",
        "--test-episodes",
        "0",
        "--frames",
        "4",
        "--workers",
        "1",
    ]
    assert main(["data", "generate", str(out), *options, "--json", str(numbers)]) == 0
    made = json.loads(numbers.read_text())
    assert made["splits"] == {"train": 2, "val": 1}
    content = inspect_dataset(out).as_dict()
    wanted = {"episodes": 3, "frames": 12, "height": 64, "width": 64, "rate_hz": 5.0, "bad_records": 0}
    assert {key: content[key] for key in wanted} == wanted
    capsys.readouterr()
    assert main(["data", "generate", str(out), *options]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_sheet_holds_the_frames(write: Write) -> None:
    frames = np.stack([np.full((96, 96, 3), value, np.uint8) for value in (50, 100, 200)])
    sheet = contact_sheet([SheetRow("caf\u00e9", frames)])
    assert sheet.shape == (16 + 96 + 2, 3 * 98, 3)
    assert [int(sheet[60, 98 * column + 40, 0]) for column in range(3)] == [50, 100, 200]
    assert contact_sheet([]).shape == (96, 96, 3)
