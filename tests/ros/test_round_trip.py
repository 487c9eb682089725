"""Node and client as two processes over real DDS: 200 commands, 200 frames, in order, none lost, none twice."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import PATIENCE_S
from genie_robot_ros.demo_round_trip import run_round_trip
from genie_robot_ros.round_trip import contact_sheet, main, read_prompt


@pytest.fixture
def prompt(tmp_path: Path) -> Path:
    path = tmp_path / "prompt.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8))
    return path


def test_200_commands_give_200_frames(model_folder: Path, prompt: Path, tmp_path: Path) -> None:
    result = run_round_trip(
        model_folder, tmp_path / "out", commands=200, burst=200, prompt=prompt, timeout_s=2 * PATIENCE_S
    )
    for part in (result, result["burst"]):
        assert part["commands"] == part["frames"] == 200
        assert part["in_order"]
        assert (part["lost"], part["duplicated"], part["rejected"]) == (0, 0, 0)
    assert result["node_exit_code"] == 0
    assert 0 < result["echo_p50_ms"] <= result["echo_p99_ms"]
    assert 0 < result["overhead_p50_ms"] <= result["overhead_p99_ms"]
    assert result["model_p50_ms"] + result["overhead_p50_ms"] <= 1.5 * result["round_trip_p50_ms"] + 1
    assert json.loads((tmp_path / "out" / "round_trip.json").read_text()) == result
    sheet = cv2.imread(result["contact_sheet"])
    assert sheet is not None
    assert sheet.shape[0] > 8 * 96
    log = (tmp_path / "out" / "genie_simulator.log").read_text()
    assert "Traceback" not in log
    assert "ERROR" not in log


def test_wrong_use_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--prompt", str(tmp_path / "no.png"), "--out", str(tmp_path)]) == 2
    assert main(["--prompt", str(tmp_path / "no.png"), "--commands", "0"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 2


def test_prompts_from_every_kind_of_file(prompt: Path, tmp_path: Path) -> None:
    video = np.random.default_rng(0).integers(0, 256, (2, 5, 8, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "video.npz", label=np.zeros(3), video=video)
    np.testing.assert_array_equal(read_prompt(tmp_path / "video.npz"), video.reshape(10, 8, 9, 3)[:4])
    image = read_prompt(prompt)
    assert len(image) == 1
    np.testing.assert_array_equal(image[0], cv2.imread(str(prompt))[..., ::-1])
    np.savez(tmp_path / "floats.npz", video=video.astype(float))
    prompt.with_suffix(".txt").write_text("no image")
    for name in ("floats.npz", "prompt.txt"):
        with pytest.raises(ValueError, match="give"):
            read_prompt(tmp_path / name)


def test_contact_sheet_shows_each_frame_in_its_place() -> None:
    rows = [
        (name, [np.full((64, 64, 3), value + k, np.uint8) for k in range(9)])
        for name, value in (("a", 20), ("b", 120))
    ]
    sheet = contact_sheet(rows, steps=(0, 2, 8, 30))
    for row, value in enumerate((20, 120)):
        for column, step in enumerate((0, 2, 8)):
            y, x = 22 + row * 99 + 48, 120 + column * 99 + 48
            assert sheet[y, x].tolist() == [value + step] * 3
