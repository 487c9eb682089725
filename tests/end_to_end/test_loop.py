"""From nothing to an imagined film, through the doors that users take."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.end_to_end.conftest import ROOT, genie_robot, run_command, steps, train_command

STAGES = ("tokenizer", "latent_action", "dynamics")

pytestmark = pytest.mark.timeout(1200)  # fixtures train; see TRAIN_LIMIT_S


def rows(run: Path, stage: str) -> list[dict]:
    return [json.loads(line) for line in (run / stage / "metrics.jsonl").read_text().splitlines()]


def test_training_leaves_logs_pictures_and_a_model(run_folder: Path) -> None:
    for stage in STAGES:
        assert rows(run_folder, stage)[-1]["step"] == 4
        assert any(row["split"] == "validation" for row in rows(run_folder, stage))
        assert list((run_folder / stage / "samples").glob("*.png"))
        assert list((run_folder / stage / "checkpoints").glob("step_*/run.json"))
    files = {path.name for path in (run_folder / "world_model").iterdir()}
    assert {"config.yaml", "model.safetensors", "latent_actions.json", "README.md"} <= files


def test_same_words_again_change_nothing(dataset: Path, run_folder: Path) -> None:
    before = (run_folder / "world_model" / "model.safetensors").read_bytes()
    again = run_command(train_command(dataset, run_folder, "stage=all", *steps(4, 2)))
    assert again.returncode == 0, again.stderr
    assert (run_folder / "world_model" / "model.safetensors").read_bytes() == before


def test_imagine_from_the_command_line(dataset: Path, run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "film"
    arguments = [
        "--data",
        str(dataset),
        "--actions",
        "0*2,3",
        "--out",
        str(out),
        "--json",
        str(tmp_path / "film.json"),
    ]
    done = genie_robot("imagine", str(run_folder / "world_model"), *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "film.json").read_text())["actions"] == [0, 0, 3]
    picture = cv2.imread(str(tmp_path / "film.png"))
    assert picture is not None
    assert picture.std() > 1.0, "the strip is empty"


def test_session_on_the_trained_folder(dataset: Path, run_folder: Path) -> None:
    import genie_robot as package
    from genie_robot.data.open import open_dataset

    model = package.load(str(run_folder / "world_model"))
    episode = next(iter(open_dataset(dataset).episodes("test")))
    session = package.WorldSession(model, seed=3)
    session.reset(episode.frames_TYXC[:2])
    frames = [session.step(code) for code in range(model.num_actions)]
    assert all(frame.shape == (64, 64, 3) and frame.dtype == np.uint8 for frame in frames)
    session.reset(episode.frames_TYXC[:2], seed=3)
    again = [session.step(code) for code in range(model.num_actions)]
    assert all((one == two).all() for one, two in zip(frames, again, strict=True))


def test_ctrl_c_saves_and_the_same_words_go_on(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = train_command(dataset, output, "stage=tokenizer", *steps(100_000, 50_000))
    metrics = output / "tokenizer" / "metrics.jsonl"
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        limit = time.monotonic() + 400
        while not (metrics.exists() and metrics.read_text().count("\n") >= 1):
            assert child.poll() is None, child.stderr.read() if child.stderr else ""
            assert time.monotonic() < limit, "no step was logged"
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=200)
    assert child.returncode == 130
    message = errors.strip().splitlines()[-1]
    assert "run the same command" in message
    assert "Traceback" not in errors
    saved = sorted((output / "tokenizer" / "checkpoints").glob("step_*"))
    assert len(saved) == 1
    stopped_at = int(saved[0].name.removeprefix("step_"))
    assert stopped_at >= 10

    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        limit = time.monotonic() + 400
        before = metrics.read_text().count("\n")
        while metrics.read_text().count("\n") <= before:
            assert child.poll() is None, child.stderr.read() if child.stderr else ""
            assert time.monotonic() < limit, "it did not go on"
            time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=200)
    logged = [row["step"] for row in rows(output, "tokenizer")]
    assert logged == sorted(set(logged)), "steps were logged twice or lost their order"
    assert max(logged) > stopped_at


@pytest.mark.parametrize("arguments", [("data", "inspect", "--help"), ("evaluate", "model", "--help")])
def test_sub_commands_have_examples(arguments: tuple[str, ...]) -> None:
    done = genie_robot(*arguments)
    assert done.returncode == 0
    assert "examples:" in done.stdout
