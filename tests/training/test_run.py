"""The training loop: resume equals uninterrupted, kills and full disks lose nothing, mistakes are one line."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
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
from genie_robot.errors import CheckpointError, ConfigError, TrainingDivergedError
from genie_robot.models.world_model import WorldModel
from genie_robot.training import checkpoint, run, trainer
from genie_robot.training.batch import Batch, clip_generators
from genie_robot.training.logs import read_rows
from genie_robot.training.stages import DynamicsStage, Losses, Term, TokenizerStage, build_stage
from tests.training.conftest import with_fields

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
    folder = Path(config.output) / stage / "checkpoints"
    network = getattr(WorldModel(config.model), stage)
    found = checkpoint.load_weights(folder, stage, network, averaged=False)
    assert found is not None and found["step"] == getattr(config.training, stage).steps
    return network.state_dict()


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
    before = {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*.distcp")}
    run.run(config)  # finished stages are not trained again
    assert before
    assert before == {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*.distcp")}


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
    reached = checkpoint.newest_run(Path(killed.output) / stage / "checkpoints")
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
    state = checkpoint.newest_run(Path(config.output) / "tokenizer" / "checkpoints")
    assert state is not None and f"step {state['step']}" in errors


def test_a_run_can_be_made_longer_but_not_another(make_config: MakeConfig) -> None:
    run.run(make_config("tokenizer"))
    with pytest.raises(CheckpointError, match=r"another training\.batch_size"):
        run.run(make_config("tokenizer", batch_size=2))
    tokenizer = {"tokenizer": {"encoder_transformer": {"dim": 32}}}
    with pytest.raises(CheckpointError, match=r"another model\.tokenizer"):
        run.run(with_fields(make_config("dynamics"), model=tokenizer))
    with pytest.raises(CheckpointError, match="another seed"):
        run.run(dataclasses.replace(make_config("tokenizer"), seed=5))
    longer = make_config("tokenizer", steps=9, learning_rate=1e-4, checkpoint_every=3)
    run.run(longer)
    assert checkpoint.newest_run(Path(longer.output) / "tokenizer" / "checkpoints")["step"] == 9  # type: ignore[index]


def test_another_configuration_is_named_before_anything_is_called_unreadable(make_config: MakeConfig) -> None:
    config = make_config("all")
    run.run(config)
    wider = {"tokenizer": {"encoder_transformer": {"dim": 32}}}
    with pytest.raises(CheckpointError, match=r"another model\.tokenizer"):
        run.run(with_fields(dataclasses.replace(config, stage="assemble"), model=wider))


def test_a_stage_is_not_built_on_an_older_checkpoint_than_the_finished_one(make_config: MakeConfig) -> None:
    config = make_config("all")
    run.run(config)
    folder = Path(config.output)
    (checkpoint.checkpoints(folder / "tokenizer" / "checkpoints")[-1] / "__0_0.distcp").unlink()
    shutil.rmtree(folder / "dynamics")
    with pytest.raises(CheckpointError, match=r"tokenizer stage is damaged.*stage=tokenizer"):
        run.run(dataclasses.replace(config, stage="dynamics"))


def test_an_unfinished_run_becomes_a_model_folder_on_request(make_config: MakeConfig) -> None:
    config = make_config("all")
    with pytest.raises(CheckpointError, match="no checkpoint of the tokenizer"):
        run.run(dataclasses.replace(config, stage="assemble"))
    run.run(config)
    folder = Path(config.output)
    shutil.rmtree(folder / "world_model")
    shutil.rmtree(checkpoint.checkpoints(folder / "dynamics" / "checkpoints")[-1])
    model = WorldModel.load(run.run(dataclasses.replace(config, stage="assemble")))
    reached = WorldModel(config.model).dynamics
    found = checkpoint.load_weights(folder / "dynamics" / "checkpoints", "dynamics", reached, averaged=False)
    assert found is not None and found["step"] == 4
    assert all(
        torch.equal(a, b) for a, b in zip(reached.parameters(), model.dynamics.parameters(), strict=True)
    )


def test_dynamics_without_the_stages_before_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(CheckpointError, match="stage=tokenizer"):
        run.run(make_config("dynamics"))


def test_a_run_without_data_is_refused(make_config: MakeConfig) -> None:
    config = make_config("tokenizer")
    with pytest.raises(ConfigError, match=r"data\.path"):
        run.run(dataclasses.replace(config, data=dataclasses.replace(config.data, path="")))


@pytest.mark.parametrize(
    ("factor", "at", "message"),
    [
        (float("nan"), 5, r"loss is nan.*step 5.*step_00000004"),
        (1e6, 71, r"loss jumped.*step 71.*step_00000070"),
    ],
)
def test_divergence_stops_before_the_update_and_names_the_last_good_checkpoint(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, factor: float, at: int, message: str
) -> None:
    calls = iter(range(1, 1000))
    original = TokenizerStage.losses

    def losses(self: TokenizerStage, *args: Any) -> Losses:
        loss, weight = original(self, *args).terms["tokenizer"]
        return Losses({"tokenizer": Term(loss * (factor if next(calls) == at else 1.0), weight)}, {})

    monkeypatch.setattr(TokenizerStage, "losses", losses)
    config = make_config("tokenizer", steps=80, validate_every=100)
    with pytest.raises(TrainingDivergedError, match=message):
        run.run(config)
    module = WorldModel(config.model).tokenizer
    found = checkpoint.load_weights(
        Path(config.output) / "tokenizer" / "checkpoints", "tokenizer", module, False
    )
    assert found is not None and found["step"] == at - 1
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())


@pytest.mark.parametrize("how", ["parallel", "end_to_end"])
def test_co_training_moves_both_networks_and_goes_on_bit_for_bit(make_config: MakeConfig, how: str) -> None:
    straight = with_fields(make_config("all", "straight"), training={"co_training": how})
    model = WorldModel.load(run.run(straight))
    assert not (Path(straight.output) / "latent_action").exists()
    stage = build_stage("dynamics", straight)
    start = stage.model.latent_action.encoder.state_dict()
    assert any(not torch.equal(start[k], v) for k, v in model.latent_action.encoder.state_dict().items())
    again = with_fields(make_config("all", "again"), training={"co_training": how})
    run.run(again)
    folder = Path(again.output) / "dynamics" / "checkpoints"
    for path in (checkpoint.checkpoints(folder)[-1], Path(again.output) / "world_model"):
        shutil.rmtree(path)
    rest = WorldModel.load(run.run(again))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name]), name


def _gradients(config: TrainConfig) -> tuple[DynamicsStage, dict[str, bool]]:
    stage = build_stage("dynamics", config)
    assert isinstance(stage, DynamicsStage)
    with torch.no_grad():  # the zero projections of a new network would hide the gradient
        for parameter in stage.networks.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    video = torch.rand(2, 6, 16, 24, 3)
    terms = stage.losses(Batch(video), clip_generators(0, 0, 0, 2)).terms
    terms["dynamics"].loss.backward()
    encoder = stage.model.latent_action.encoder.parameters()
    return stage, {"encoder": any(p.grad is not None and bool(p.grad.any()) for p in encoder)}


@pytest.mark.parametrize(("how", "reaches"), [("parallel", False), ("end_to_end", True)])
def test_the_dynamics_loss_reaches_the_action_encoder_end_to_end_only(
    make_config: MakeConfig, how: str, reaches: bool
) -> None:
    torch.manual_seed(0)
    _, found = _gradients(with_fields(make_config("all"), training={"co_training": how}))
    assert found["encoder"] is reaches


def test_the_dynamics_train_from_a_token_cache_that_is_made_once(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY", 1)
    config = with_fields(make_config("all", "tokens"), data={"tokens": True})
    run.run(config)
    rows = read_rows(Path(config.output) / "dynamics" / "metrics.jsonl")
    losses = [row["loss"] for row in rows if row["split"] == "train"]
    assert len(losses) == 6 and all(math.isfinite(loss) for loss in losses)
    index = list((Path(config.data.cache) / "tokens").rglob("index.json"))
    assert index
    before = {path: path.stat().st_mtime_ns for path in index}
    shutil.rmtree(Path(config.output) / "dynamics")
    run.run(config)  # the cache is used again
    assert before == {path: path.stat().st_mtime_ns for path in index}
    again = read_rows(Path(config.output) / "dynamics" / "metrics.jsonl")
    assert [row["loss"] for row in again if row["split"] == "train"] == losses


def test_every_loss_of_the_tokenizer_trains_through_the_loop(make_config: MakeConfig, tmp_path: Path) -> None:
    class Features(torch.nn.Module):
        def forward(self, frames: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(frames, 2)

    file = tmp_path / "features.pt"
    torch.jit.trace(Features(), torch.rand(2, 3, 16, 24)).save(str(file))
    config = with_fields(
        make_config("tokenizer", steps=12, validate_every=12),
        model={
            "tokenizer": {
                "perceptual_weight": 0.1,
                "perceptual_network": str(file),
                "adversarial_weight": 0.1,
                "discriminator_channels": 8,
                "quantizer": "lfq",
                "codebook_size": 32,
                "fsq_levels": [],
            }
        },
    )
    run.run(config)
    rows = read_rows(Path(config.output) / "tokenizer" / "metrics.jsonl")
    row = next(row for row in rows if row["split"] == "train")
    assert {"loss", "perceptual_loss", "generator_loss", "discriminator_loss"} <= set(row)
    assert {"tokens_per_s", "mfu", "memory_gib", "data_wait", "gradient_norm", "learning_rate"} <= set(row)
    run.run(dataclasses.replace(config, stage="tokenizer"))  # opens again with its discriminator


def test_a_few_labels_train_the_auxiliary_head_and_nothing_else_reads_actions(
    make_config: MakeConfig,
) -> None:
    labels = {"label_weight": 1.0, "label_dim": 7}
    config = with_fields(
        make_config("latent_action"), data={"label_share": 0.5}, model={"latent_action": labels}
    )
    run.run(config)
    start = build_stage("latent_action", config).model.latent_action
    end = WorldModel(config.model).latent_action
    checkpoint.load_weights(
        Path(config.output) / "latent_action" / "checkpoints", "latent_action", end, averaged=False
    )
    assert start.label_head is not None and end.label_head is not None
    moved = (start.label_head.weight - end.label_head.weight).abs().max()
    assert moved > 1e-4  # weight decay alone would be a thousand times less
    other = dataclasses.replace(config, output=config.output + "_3")
    with pytest.raises(ConfigError, match=r"label_dim: got 3.*have 7"):
        run.run(with_fields(other, model={"latent_action": {"label_dim": 3}}))
    with pytest.raises(ConfigError, match="wanted it above 0 with one of these"):
        with_fields(config, data={"label_share": 0.0})


def test_wandb_without_the_package_is_refused(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="pip install wandb"):
        run.run(dataclasses.replace(make_config("tokenizer"), wandb="project"))


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
