from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.data.summary import SheetRow, contact_sheet, inspect_dataset

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


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["nowhere"], 2, "nowhere does not exist"),
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
