"""The training loop: resume equals uninterrupted, kills and full disks lose nothing, mistakes are one line."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import genie_robot
from genie_robot.config import TrainConfig, to_dict
from genie_robot.errors import CheckpointError, ConfigError, DiskFullError, TrainingDivergedError
from genie_robot.training import checkpoint, run
from genie_robot.training.logs import read_rows
from genie_robot.training.stages import TokenizerStage

MakeConfig = Callable[..., TrainConfig]
CHILD = """
import sys, yaml
from genie_robot.config import TrainConfig, from_dict
from genie_robot.errors import GenieError
from genie_robot.training.run import run
try:
    run(from_dict(TrainConfig, yaml.safe_load(open(sys.argv[1]))))
except GenieError as error:
    print(error, file=sys.stderr); sys.exit(error.exit_code)
except KeyboardInterrupt as error:
    print(error, file=sys.stderr); sys.exit(130)
"""


def _start(config: TrainConfig, file: Path) -> subprocess.Popen[str]:
    file.write_text(yaml.safe_dump(to_dict(config)))
    return subprocess.Popen([sys.executable, "-c", CHILD, str(file)], stderr=subprocess.PIPE, text=True)


def _weights(config: TrainConfig, stage: str) -> dict[str, torch.Tensor]:
    state = checkpoint.load_newest(Path(config.output) / stage / "checkpoints")
    assert state is not None and state["step"] == getattr(config.training, stage).steps
    return state["model"]


def _wait_for(folder: Path, process: subprocess.Popen[str], count: int = 1) -> None:
    deadline = time.monotonic() + 90
    while len(checkpoint.checkpoints(folder)) < count:
        assert process.poll() is None and time.monotonic() < deadline, (
            process.stderr and process.stderr.read()
        )
        time.sleep(0.005)


def test_all_stages_give_a_model_that_opens_alone(make_config: MakeConfig) -> None:
    config = make_config("all")
    folder = run.run(config)
    model = genie_robot.load(str(folder))
    assert model.config == config.model
    assert "held-out" in (folder / "README.md").read_text()
    for stage in ("tokenizer", "latent_action", "dynamics"):
        rows = read_rows(Path(config.output) / stage / "metrics.jsonl")
        assert {row["split"] for row in rows} == {"validation"}  # 6 steps: below LOG_EVERY
        assert rows[-1]["step"] == 6
        assert list((Path(config.output) / stage / "samples").glob("*.png"))
        assert list((Path(config.output) / stage / "tensorboard").iterdir())
    before = {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*.pt")}
    run.run(config)  # finished stages are not trained again
    assert before == {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*.pt")}


@pytest.mark.parametrize("stage", ["tokenizer", "latent_action", "dynamics"])
def test_resumed_after_kill_9_equals_uninterrupted_bit_for_bit(
    make_config: MakeConfig, tmp_path: Path, stage: str
) -> None:
    straight, killed = make_config("all", "straight", steps=14), make_config("all", "killed", steps=14)
    run.run(straight)
    process = _start(killed, tmp_path / "config.yaml")
    _wait_for(Path(killed.output) / stage / "checkpoints", process)
    process.kill()
    process.communicate(timeout=10)
    reached = checkpoint.load_newest(Path(killed.output) / stage / "checkpoints")
    assert reached is not None and reached["step"] < 14, "killed too late to prove anything"
    run.run(killed)
    a, b = _weights(straight, stage), _weights(killed, stage)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    steps = [row["step"] for row in read_rows(Path(killed.output) / stage / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert len(steps) == len(read_rows(Path(straight.output) / stage / "metrics.jsonl"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_so(make_config: MakeConfig, tmp_path: Path, number: signal.Signals) -> None:
    config = make_config("tokenizer", steps=100000, validate_every=100000, checkpoint_every=5)
    process = _start(config, tmp_path / "config.yaml")
    _wait_for(Path(config.output) / "tokenizer" / "checkpoints", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "saved" in errors.splitlines()[-1] and "go on" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    state = checkpoint.load_newest(Path(config.output) / "tokenizer" / "checkpoints")
    assert state is not None and f"step {state['step']}" in errors


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    small, big = {"step": 1, "x": torch.zeros(10)}, {"step": 2, "x": torch.zeros(1_000_000)}
    checkpoint.save(tmp_path, 1, small)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # writes beyond fail, as on a full disk
    try:
        with pytest.raises(DiskFullError, match=r"step 2.*step_00000001"):
            checkpoint.save(tmp_path, 2, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001.pt"]
    assert checkpoint.load_newest(tmp_path)["step"] == 1  # type: ignore[index]


def test_old_checkpoints_go_and_a_damaged_newest_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"step": step})
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "step_00000002.pt",
        "step_00000003.pt",
    ]
    newest = checkpoint.checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoint.load_newest(tmp_path) == {"step": 2}
    for path in checkpoint.checkpoints(tmp_path):
        path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="none of 2"):
        checkpoint.load_newest(tmp_path)


def test_going_on_with_another_configuration_is_refused(make_config: MakeConfig) -> None:
    run.run(make_config("tokenizer"))
    with pytest.raises(CheckpointError, match="training configuration"):
        run.run(make_config("tokenizer", steps=8))


def test_dynamics_without_the_stages_before_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(CheckpointError, match="stage=tokenizer"):
        run.run(make_config("dynamics"))


def test_a_run_without_data_is_refused(make_config: MakeConfig) -> None:
    config = make_config("tokenizer")
    with pytest.raises(ConfigError, match=r"data\.path"):
        run.run(dataclasses.replace(config, data=dataclasses.replace(config.data, path="")))


def test_divergence_stops_and_names_the_last_good_checkpoint(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(100))
    original = TokenizerStage.loss

    def loss(self: TokenizerStage, *args: Any) -> dict[str, torch.Tensor]:
        out = original(self, *args)
        return {**out, "loss": out["loss"] * (float("nan") if next(calls) == 4 else 1.0)}

    monkeypatch.setattr(TokenizerStage, "loss", loss)
    config = make_config("tokenizer", steps=20)
    with pytest.raises(TrainingDivergedError, match=r"step 5.*step_00000004"):
        run.run(config)
    state = checkpoint.load_newest(Path(config.output) / "tokenizer" / "checkpoints")
    assert state is not None
    assert all(torch.isfinite(value).all() for value in state["model"].values() if value.is_floating_point())


def test_training_never_reads_an_action(
    make_config: MakeConfig, square_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files hold actions; the keys that the reader asks the parser for do not name one."""
    from genie_robot.data import example_proto

    asked: set[str] = set()
    original = example_proto.parse_example

    def spy(*args: object, **kwargs: object) -> object:
        asked.update(str(item) for group in (*args[1:], *kwargs.values()) if group for item in group)  # type: ignore[attr-defined]
        return original(*args, **kwargs)  # type: ignore[arg-type]

    assert b"steps/action/world_vector" in next(square_data.glob("*.tfrecord*")).read_bytes()
    monkeypatch.setattr("genie_robot.data.rlds.parse_example", spy)
    run.run(make_config("tokenizer"))
    assert any("image" in key for key in asked)
    assert not [key for key in asked if "action" in key or "state" in key]


def test_logs_drop_rows_after_the_checkpoint_and_a_cut_line(tmp_path: Path) -> None:
    from genie_robot.training.logs import RunLog

    rows = "".join(json.dumps({"stage": "x", "step": step, "split": "train"}) + "\n" for step in (1, 2, 3))
    (tmp_path / "metrics.jsonl").write_text(rows + '{"stage": "x", "st')
    RunLog(tmp_path, "x", step=2).close()
    assert [row["step"] for row in read_rows(tmp_path / "metrics.jsonl")] == [1, 2]


def test_the_door_ends_with_honest_exit_codes(repository_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository_root / "train.py"), f"output={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: data.path")
    missing = [*command, "data.path=/nowhere"]
    result = subprocess.run(missing, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 2 and "/nowhere" in result.stderr and "Traceback" not in result.stderr
