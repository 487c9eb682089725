"""`train --describe`: counts that agree with the models, an estimate that refuses what cannot fit, the two doors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from genie_robot.cli._compose import choices, compose
from genie_robot.config import SamplingConfig, TrainConfig
from genie_robot.errors import ConfigError
from genie_robot.models.world_model import WorldModel
from genie_robot.training.describe import WORLD_SIZES, as_text, check_fits, describe
from genie_robot.training.devices import DEVICES, find_device, peak_tflops
from genie_robot.training.memory import GIB, USABLE, stage_needs
from genie_robot.training.optim import build_optimizers
from genie_robot.training.stages import build_stage


@pytest.fixture(scope="module")
def tiny() -> TrainConfig:
    return compose(["model=tiny"])


def test_keys_that_scripts_rely_on(tiny: TrainConfig) -> None:
    report = describe(tiny)
    assert {"total", "tokenizer", "latent_action", "dynamics"} <= set(report["parameters"])
    assert {"training_step", "generated_frame"} <= set(report["flops"])
    assert {"weights", "cache_per_frame"} <= set(report["bytes"])
    assert {"training", "inference"} <= set(report["memory_gib"])
    assert json.loads(json.dumps(report)) == report


def test_counts_are_those_of_the_built_model(tiny: TrainConfig) -> None:
    report, model = describe(tiny), WorldModel(tiny.model)
    for name, part in model.named_children():
        assert report["parameters"][name] == sum(p.numel() for p in part.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert report["parameters"]["total"] == total
    assert report["bytes"]["weights"] == 2 * total
    assert report["bytes"]["cache_per_frame"] == model.dynamics.cache_bytes_per_frame(2)


def test_flops_are_those_of_the_cost_methods(tiny: TrainConfig) -> None:
    flops, model, training = describe(tiny)["flops"], WorldModel(tiny.model), tiny.training
    frames = training.dynamics.num_frames
    a_clip = (
        model.dynamics.training_flops(frames)
        + model.tokenizer.encode_flops(frames)
        + model.latent_action.infer_flops(frames)
    )
    assert flops["training_step"] == flops["stages"]["dynamics"] == training.dynamics.batch_size * a_clip
    assert flops["stages"]["tokenizer"] == training.tokenizer.batch_size * model.tokenizer.training_flops(
        training.tokenizer.num_frames
    )
    past = tiny.model.video.num_frames - 1
    passes = SamplingConfig().steps + 1
    assert flops["passes"] == passes
    assert flops["generated_frame"] == passes * model.dynamics.pass_flops(1, past)
    assert flops["decode_frame"] == model.tokenizer.decode_flops(1, past)
    steps = {name: getattr(training, name).steps for name in flops["stages"]}
    assert flops["recipe"] == sum(flops["stages"][name] * count for name, count in steps.items())


def test_the_stage_asked_for_is_the_one_described(tiny: TrainConfig) -> None:
    report = describe(replace(tiny, stage="tokenizer"))
    assert list(report["flops"]["stages"]) == ["tokenizer"]
    assert report["flops"]["training_step"] == report["flops"]["stages"]["tokenizer"]
    together = describe(compose(["model=tiny", "training.co_training=parallel"]))
    assert list(together["flops"]["stages"]) == ["tokenizer", "dynamics"]


def test_state_is_what_the_optimizers_keep(tiny: TrainConfig) -> None:
    for name in ("tokenizer", "dynamics"):  # AdamW alone, and Muon with AdamW
        stage = build_stage(name, tiny)
        for parameter in stage.networks.parameters():
            parameter.grad = parameter.detach().clone()
        optimizers = build_optimizers(stage.networks, getattr(tiny.training, name))
        for optimizer in optimizers:
            optimizer.step()
        moments = sum(
            value.nbytes
            for optimizer in optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if getattr(value, "ndim", 0)
        )
        parts = stage_needs(tiny, name).memory_gib("none", 0)
        assert parts["optimizer"] * GIB == pytest.approx(moments, rel=0.02)
        gradients = sum(p.nbytes for p in stage.networks.parameters())
        assert parts["gradients"] * GIB == pytest.approx(gradients, rel=0.02)


def test_every_preset_is_described_in_seconds_and_fits_somewhere() -> None:
    for model in choices("model"):
        report = describe(compose([f"model={model}"]))
        assert 0 < report["memory_gib"]["inference"] < report["memory_gib"]["training"]
        assert any(device["training"]["8"] for device in report["devices"])
        assert f"{report['parameters']['total'] / 1e6:,.2f} M parameters" in as_text(report)
        assert all(device.name in as_text(report) for device in DEVICES)


def test_more_processes_and_recomputation_need_less() -> None:
    needs = stage_needs(compose(["model=base"]), "dynamics")
    alone = [needs.memory_gib(recompute, 4)["total"] for recompute in ("none", "selective", "full")]
    assert alone == sorted(alone, reverse=True)
    sharded = [needs.memory_gib("full", 1, size)["optimizer"] for size in WORLD_SIZES]
    assert sharded == pytest.approx([sharded[0] / size for size in WORLD_SIZES], rel=0.01)
    copied = needs.memory_gib("full", 1, 8, shard=1)
    assert copied["optimizer"] == pytest.approx(sharded[0])
    assert needs.memory_gib("full", 0, 8) == needs.memory_gib("full", 16, 8)  # the whole share: 128 / 8


def test_what_is_said_to_fit_does_and_the_next_size_does_not() -> None:
    needs = stage_needs(compose(["model=base"]), "dynamics")
    for recompute, size in needs.fitting(44.4, 2):
        assert needs.memory_gib(recompute, size, 2)["total"] <= USABLE * 44.4
        assert needs.memory_gib(recompute, 2 * size, 2)["total"] > USABLE * 44.4 or size == needs.share(2)


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    config = compose(["model=robotics_2_5b", "hardware.recompute=none"])
    with pytest.raises(ConfigError) as caught:
        check_fits(config, "dynamics", 80 * GIB)
    message = str(caught.value)
    assert "\n" not in message
    for word in ("dynamics: needs about", "weights ", "optimizer ", "activations ", "73.6 (92% of 80.0)"):
        assert word in message
    assert "hardware.recompute=full hardware.micro_batch_size=4" in message and "a smaller model" in message
    fixed = compose(["model=robotics_2_5b", "hardware.recompute=full", "hardware.micro_batch_size=4"])
    check_fits(fixed, "dynamics", 80 * GIB)


def test_more_processes_are_named_when_nothing_else_helps() -> None:
    with pytest.raises(ConfigError, match=r"2 processes with hardware\.recompute=full"):
        check_fits(compose(["model=platformers_11b"]), "dynamics", 140 * GIB)
    with pytest.raises(ConfigError, match="what fits: a smaller model"):
        check_fits(compose(["model=platformers_11b"]), "dynamics", 8 * GIB)


def test_perceptual_network_is_not_read_to_describe() -> None:
    words = ["model.tokenizer.perceptual_weight=1", "model.tokenizer.perceptual_network=no.pt"]
    with_it, without = (describe(compose(["model=tiny", *more])) for more in (words, []))
    assert with_it["parameters"] == without["parameters"]  # it is no part of the model


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("NVIDIA A100 80GB PCIe", "A100 80 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 80 GB"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA B200", "B200"),
        ("Orin", "AGX Orin 64 GB"),
        ("NVIDIA Thor", "AGX Thor"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_known_gpus(reported: str, name: str | None) -> None:
    device = find_device(reported)
    assert (device.name if device else None) == name


def test_peak_rates() -> None:
    assert peak_tflops("NVIDIA H200", "bf16") == 989
    assert peak_tflops("NVIDIA H200", "fp8") == 1979
    assert peak_tflops("NVIDIA A100-SXM4-40GB", "fp8") is None  # it has none
    assert peak_tflops("NVIDIA H200", "fp32") is None
    assert peak_tflops("a GPU from the future", "bf16") is None


def door(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(root / "train.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_describe_through_the_door(repository_root: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "tiny.json"
    done = door(repository_root, "--describe", "--json", str(file), "model=tiny")
    assert done.returncode == 0, done.stderr
    assert "tiny: 3.38 M parameters" in done.stdout and "RTX 4090" in done.stdout
    assert json.loads(file.read_text()) == describe(compose(["model=tiny"]))


def test_help_and_mistakes_through_the_door(repository_root: Path) -> None:
    helped = door(repository_root, "--help")
    assert helped.returncode == 0 and "--describe" in helped.stdout and "recipe=" in helped.stdout
    for words, message in (
        (("--describe", "model=huge"), "model: got 'huge'"),
        (("model=huge",), "model: got 'huge'"),
        (("--json", "x.json"), "without --describe"),
    ):
        done = door(repository_root, *words)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr


def preset_row(model: str, report: dict) -> str:
    """The preset's row in docs/presets.md."""
    parameters, flops, memory = report["parameters"], report["flops"], report["memory_gib"]
    parts = (parameters[name] / 1e6 for name in ("total", "tokenizer", "latent_action", "dynamics"))
    cells = [
        f"`{model}`",
        *(f"{count:,.1f}" for count in parts),
        *(f"{flops[name]:.2g}" for name in ("training_step", "recipe", "generated_frame")),
        *(
            f"{memory[name]:,.2g}" if memory[name] < 10 else f"{memory[name]:,.0f}"
            for name in ("training", "inference")
        ),
    ]
    return f"| {' | '.join(cells)} |"


def fit_row(model: str, report: dict) -> str:
    """The preset's row in the table of GPUs in docs/presets.md: the last stage."""
    devices = {device["name"]: device for device in report["devices"]}
    cells = []
    for name, size in (("RTX 4090", 1), ("H100 SXM", 1), ("H200", 1), ("H100 SXM", 8), ("H200", 8)):
        training = devices[name]["training"][str(size)]
        fit = list(training["stages"].values())[-1] if training else None
        cells.append(f"{fit['recompute']} x{fit['micro_batch']}" if fit else "no")
    imagine = "yes" if devices["AGX Orin 64 GB"]["inference"] else "no"
    return f"| `{model}` | {' | '.join(cells)} | {imagine} |"


@pytest.mark.parametrize("model", choices("model"))
def test_numbers_in_the_docs_are_the_described_ones(model: str, repository_root: Path) -> None:
    text, report = (
        (repository_root / "docs" / "presets.md").read_text(),
        describe(compose([f"model={model}"])),
    )
    assert preset_row(model, report) in text
    assert fit_row(model, report) in text
