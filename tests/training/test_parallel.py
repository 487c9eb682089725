"""Two processes train as one does: same losses, checkpoints that either can go on from."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genie_robot.config import HardwareConfig, TrainConfig, from_dict, to_dict
from genie_robot.errors import ConfigError
from genie_robot.models.world_model import WorldModel
from genie_robot.nn.st_transformer import STBlock
from genie_robot.training import run, trainer
from genie_robot.training.checkpoint import checkpoints
from genie_robot.training.logs import read_rows
from genie_robot.training.parallel import ONE_PROCESS, joined, prepare
from tests.invariants.conftest import make_model, small_config

MakeConfig = Callable[..., TrainConfig]
CHILD = """
import sys, yaml, warnings
warnings.simplefilter("error", RuntimeWarning)
from genie_robot.config import TrainConfig, from_dict
from genie_robot.training import run, trainer
trainer.LOG_EVERY = 1
run.run(from_dict(TrainConfig, yaml.safe_load(open(sys.argv[1]))))
"""


@pytest.fixture(autouse=True)
def _log_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY", 1)


def _run_processes(config: TrainConfig, tmp_path: Path, processes: int = 2) -> None:
    file, script = tmp_path / "config.yaml", tmp_path / "child.py"
    file.write_text(yaml.safe_dump(to_dict(config)))
    script.write_text(CHILD)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"),
        *(str(script), str(file)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def _curve(config: TrainConfig, stage: str, *names: str) -> torch.Tensor:
    rows = read_rows(Path(config.output) / stage / "metrics.jsonl")
    return torch.tensor([[row[name] for name in names] for row in rows if row["split"] == "train"])


def _with(config: TrainConfig, output: str, variant: str = "paper", **hardware: object) -> TrainConfig:
    values = to_dict(config)
    values["output"] = str(Path(config.output).parent / output)
    values["model"] = to_dict(small_config(variant))
    values["hardware"] |= hardware
    return from_dict(TrainConfig, values)


def _assert_same_curve(got: torch.Tensor, wanted: torch.Tensor, rough: bool = False) -> None:
    """Loss and gradient norm to float32 rounding with AdamW.

    `rough`: Muon rounds each update to bf16, so the runs drift apart a little after the first.
    """
    torch.testing.assert_close(got[0], wanted[0], rtol=1e-3 if rough else 1e-5, atol=1e-7)
    torch.testing.assert_close(got[:, 0], wanted[:, 0], rtol=1e-2 if rough else 1e-4, atol=1e-6)
    torch.testing.assert_close(got[:, 1], wanted[:, 1], rtol=5e-2 if rough else 1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("variant", "optimizer", "hardware"),
    [
        ("paper", "adamw", {"shard": 0}),
        ("tiny", "adamw", {"shard": 0, "micro_batch_size": 2, "recompute": "full"}),
        ("paper", "muon", {"shard": 0}),
        ("paper", "adamw", {"shard": 1}),
    ],
    ids=["fsdp", "fsdp-fsq-recompute", "fsdp-muon", "ddp"],
)
def test_two_processes_follow_the_curve_of_one_and_one_goes_on_from_two(
    make_config: MakeConfig, tmp_path: Path, variant: str, optimizer: str, hardware: dict[str, Any]
) -> None:
    config, rough = make_config("all", steps=6, ema_decay=0.9, optimizer=optimizer), optimizer == "muon"
    one, two = _with(config, "one", variant), _with(config, "two", variant, **hardware)
    run.run(one)
    _run_processes(two, tmp_path)
    names = ("loss", "gradient_norm")
    for stage in ("tokenizer", "latent_action", "dynamics"):
        alone, together = _curve(one, stage, *names), _curve(two, stage, *names)
        assert alone.shape == (6, 2)
        _assert_same_curve(together, alone, rough)
        assert alone[0, 0] != alone[5, 0]
    # Back to step 4 of the two-process run, and on with one process.
    newest = Path(two.output) / "dynamics" / "checkpoints"
    shutil.rmtree(checkpoints(newest)[-1])
    assert [path.name for path in checkpoints(newest)] == ["step_00000004"]
    run.run(replace(two, hardware=one.hardware))
    _assert_same_curve(_curve(two, "dynamics", *names), _curve(one, "dynamics", *names), rough)
    models = [WorldModel.load(Path(c.output) / "world_model") for c in (one, two)]
    for a, b in zip(models[0].dynamics.parameters(), models[1].dynamics.parameters(), strict=True):
        assert (a - b).norm() <= (0.1 if rough else 1e-3) * a.norm()


def test_processes_of_which_some_train_on_guessed_frames_do_not_wait_for_each_other_for_ever(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("all", steps=8, optimizer="adamw")
    values = to_dict(_with(config, "two", shard=0))
    values["model"]["dynamics"] |= {"history": "clean", "own_history": 0.3}
    one = from_dict(TrainConfig, values | {"output": str(tmp_path / "one")})
    two = from_dict(TrainConfig, values | {"output": str(tmp_path / "two")})
    run.run(one)
    _run_processes(two, tmp_path)
    _assert_same_curve(
        _curve(two, "dynamics", "loss", "gradient_norm"), _curve(one, "dynamics", "loss", "gradient_norm")
    )


def test_micro_batches_give_the_step_of_the_whole_batch(make_config: MakeConfig) -> None:
    config = make_config("all", steps=4, optimizer="adamw")
    whole, parts = _with(config, "whole"), _with(config, "parts", micro_batch_size=1)
    for each in (whole, parts):
        run.run(each)
    for stage in ("tokenizer", "latent_action", "dynamics"):
        names = ("loss", "gradient_norm")
        _assert_same_curve(_curve(parts, stage, *names), _curve(whole, stage, *names))


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_recomputation_changes_memory_and_not_the_result(make_config: MakeConfig, mode: str) -> None:
    config = make_config("tokenizer", steps=3)
    plain, again = _with(config, "plain"), _with(config, "again", recompute=mode)
    for each in (plain, again):
        run.run(each)
    names = ("loss", "gradient_norm")
    torch.testing.assert_close(
        _curve(again, "tokenizer", *names), _curve(plain, "tokenizer", *names), rtol=1e-5, atol=1e-7
    )


def _saved_bytes(mode: str) -> int:
    """Bytes kept for the backward pass of the dynamics."""
    torch.manual_seed(0)
    model = make_model("paper").float()
    networks = torch.nn.ModuleDict({"dynamics": model.dynamics})
    prepare(networks, HardwareConfig(recompute=mode), ONE_PROCESS)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other storage takes its place
        return tensor

    blocks = [part for part in model.modules() if isinstance(part, STBlock)]
    assert blocks
    tokens, actions = torch.randint(24, (2, 5, 24)), torch.randint(8, (2, 4))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model.dynamics(tokens, actions, [torch.Generator().manual_seed(row) for row in range(2)])
    assert out["loss"].requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_recomputation_keeps_less() -> None:
    none, selective, full = (_saved_bytes(mode) for mode in ("none", "selective", "full"))
    assert full < none / 2 and selective < none


def _step_flops(mode: str) -> int:
    """Operations of forward and backward pass as torch counts them."""
    model = make_model("paper").float()
    prepare(torch.nn.ModuleDict({"dynamics": model.dynamics}), HardwareConfig(recompute=mode), ONE_PROCESS)
    tokens, actions = torch.randint(24, (2, 5, 24)), torch.randint(8, (2, 4))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.dynamics(tokens, actions)["loss"].backward()
    return counter.get_total_flops()


def test_selective_recomputation_computes_no_product_again() -> None:
    none, selective, full = (_step_flops(mode) for mode in ("none", "selective", "full"))
    assert selective == none
    assert 1.2 * none < full < 1.4 * none  # one forward pass more, of three


@pytest.mark.filterwarnings("ignore")  # those of the compiler's own walk through torch
@pytest.mark.parametrize("mode", ["none", "selective", "full"])
def test_blocks_are_compiled_whatever_is_recomputed(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compile_block = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda *args, **kwargs: compile_block(*args, **{**kwargs, "backend": count})
    )
    torch.compiler.reset()
    model = make_model("paper").float()
    networks = torch.nn.ModuleDict({"dynamics": model.dynamics})
    prepare(networks, HardwareConfig(recompute=mode, compile=True), ONE_PROCESS)
    tokens, actions = torch.randint(24, (2, 5, 24)), torch.randint(8, (2, 4))
    model.dynamics(tokens, actions, [torch.Generator().manual_seed(row) for row in range(2)])[
        "loss"
    ].backward()
    assert len(graphs) == 1  # one for both blocks


def test_float8_without_torchao_or_a_gpu_is_refused() -> None:
    networks = torch.nn.ModuleDict({"dynamics": make_model("paper").dynamics})
    with pytest.raises(ConfigError, match=r"hardware\.float8"):
        prepare(networks, HardwareConfig(float8=True), ONE_PROCESS)


def test_a_batch_that_processes_cannot_share_is_refused(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with joined(torch.device("cpu")) as processes:
        assert (processes.rank, processes.world_size) == (0, 1)
    from genie_robot.data.loader import ClipLoader
    from genie_robot.training.clip_sets import clip_sets

    config = make_config("tokenizer")
    clips, _ = clip_sets(config, Path(config.output), ONE_PROCESS, 6)
    with pytest.raises(ConfigError, match="3"):
        ClipLoader(clips.caches, 6, 4, rank=0, world_size=3)
