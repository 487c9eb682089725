"""What a configuration costs, before anything is trained: parameters, FLOPs, memory, and which GPU it fits.

    genie-robot train --describe model=base [--json FILE]

Networks are built on torch's meta device, so that eleven billion parameters take seconds and no memory.
"""

from __future__ import annotations

from typing import Any

import torch

from genie_robot.config import SamplingConfig, TrainConfig
from genie_robot.errors import ConfigError
from genie_robot.models.world_model import WorldModel
from genie_robot.training.devices import DEVICES, Device
from genie_robot.training.memory import (
    GIB,
    USABLE,
    StageNeeds,
    bytes_a_number,
    decoder_cache_bytes,
    inference_gib,
    num_parameters,
    stage_needs,
)

MFU = 0.4  # share of a GPU's peak that times are computed at: an assumption, well-tuned training reaches it
WORLD_SIZES = (1, 2, 4, 8)

Report = dict[str, Any]


def describe(config: TrainConfig) -> Report:
    """Counts of `config` as nested plain values (keys: docs/presets.md).

    `flops.training_step` and `memory_gib.training` are those of the stage that `config.stage` names, of the dynamics
    for stage=all; the latter on one process with the micro batch and recomputation of `config.hardware`.
    `flops.generated_frame` is the last frame of a full window: each pass, and one more that commits the frame.
    """
    with torch.device("meta"):
        model = WorldModel(config.model)
    names = config.training.stages if config.stage == "all" else (config.stage,)
    stages = [stage_needs(config, name) for name in names]
    main, number = stages[-1], bytes_a_number(config.hardware)
    memory = {stage.name: _memory(stage, config) for stage in stages}
    return {
        "model": config.model.name,
        "parameters": {
            "total": num_parameters(model),
            **{name: num_parameters(part) for name, part in model.named_children()},
        },
        "flops": {
            "training_step": main.flops_per_step,
            **_generation_flops(model, SamplingConfig().steps),
            "stages": {stage.name: stage.flops_per_step for stage in stages},
            "recipe": sum(stage.flops_per_step * stage.config.steps for stage in stages),
        },
        "bytes": {
            "per_number": number,
            "weights": number * num_parameters(model),
            "cache_per_frame": model.dynamics.cache_bytes_per_frame(number),
            "decoder_cache_per_frame": decoder_cache_bytes(model, number),
        },
        "memory_gib": {
            "training": memory[main.name]["total"],
            "inference": inference_gib(model, number),
            "stages": memory,
        },
        "recipe": {
            stage.name: {"steps": stage.config.steps, "batch_size": stage.config.batch_size}
            for stage in stages
        },
        "assumed_mfu": MFU,
        "devices": [_device(device, stages, inference_gib(model, number)) for device in DEVICES],
    }


def _generation_flops(model: WorldModel, steps: int) -> dict[str, int]:
    past = model.config.video.num_frames - 1
    return {
        "passes": steps + 1,
        "generated_frame": (steps + 1) * model.dynamics.pass_flops(1, past),
        "encode_frame": model.tokenizer.encode_flops(1),
        "decode_frame": model.tokenizer.decode_flops(1, past),
    }


def _memory(stage: StageNeeds, config: TrainConfig) -> Report:
    hardware = config.hardware
    parts = stage.memory_gib(hardware.recompute, hardware.micro_batch_size)
    clip = {name: round(one.of(1) / GIB, 4) for name, one in stage.activations.items()}
    return {**parts, "activations_per_clip": clip}


def _device(device: Device, stages: list[StageNeeds], needed_gib: float) -> Report:
    training: Report = {}
    for world_size in WORLD_SIZES:
        found = {stage.name: next(stage.fitting(device.memory_gib, world_size), None) for stage in stages}
        if all(found.values()):
            flops = sum(stage.flops_per_step * stage.config.steps for stage in stages)
            training[str(world_size)] = {
                "stages": {
                    name: {"recompute": fit[0], "micro_batch": fit[1]} for name, fit in found.items() if fit
                },
                "hours": round(flops / (MFU * device.bf16_tflops * 1e12 * world_size) / 3600, 4),
            }
        else:
            training[str(world_size)] = None
    return {
        "name": device.name,
        "memory_gib": device.memory_gib,
        "bf16_tflops": device.bf16_tflops,
        "inference": needed_gib <= USABLE * device.memory_gib,
        "training": training,
    }


def check_fits(config: TrainConfig, stage: str, memory_bytes: int, world_size: int = 1) -> None:
    """Raise ConfigError, in one line, when `stage` needs more than a device of `memory_bytes` has.

    The line says what each part needs and which settings would fit.
    """
    needs, hardware, has = stage_needs(config, stage), config.hardware, memory_bytes / GIB
    parts = needs.memory_gib(hardware.recompute, hardware.micro_batch_size, world_size, hardware.shard)
    total = parts.pop("total")
    if total <= USABLE * has:
        return
    listed = ", ".join(f"{name} {size:.1f}" for name, size in parts.items() if size >= 0.05)
    fits = [
        f"hardware.recompute={recompute} hardware.micro_batch_size={size}"
        for recompute, size in needs.fitting(has, world_size)
    ]
    more = (2**power * world_size for power in range(1, 8))
    processes = next((n for n in more if n <= needs.config.batch_size and any(needs.fitting(has, n))), None)
    if processes and not fits:
        recompute, size = next(needs.fitting(has, processes))
        fits.append(
            f"{processes} processes with hardware.recompute={recompute} hardware.micro_batch_size={size}"
        )
    fits.append("a smaller model (docs/presets.md)")
    raise ConfigError(
        f"{stage}: needs about {total:.1f} GiB a GPU ({listed}), wanted at most {USABLE * has:.1f} "
        f"({USABLE:.0%} of {has:.1f}); what fits: {'; or '.join(fits)}"
    )


def as_text(report: Report) -> str:
    """The report as a page for people."""
    blocks = (_parameters_text, _flops_text, _memory_text, _devices_text)
    return "\n\n".join("\n".join(block(report)) for block in blocks)


def _parameters_text(report: Report) -> list[str]:
    counts = report["parameters"]
    rows = [f"  {name:<14}{count / 1e6:>12,.2f} M" for name, count in counts.items() if name != "total"]
    return [f"{report['model']}: {counts['total'] / 1e6:,.2f} M parameters", *rows]


def _flops_text(report: Report) -> list[str]:
    flops, sizes = report["flops"], report["bytes"]
    lines = ["FLOPs (a multiply-add is 2; attention included)"]
    for name, count in flops["stages"].items():
        recipe = report["recipe"][name]
        lines.append(
            f"  {name:<14}{count:>12.3g} a step of {recipe['batch_size']} clips, {recipe['steps']:,} steps"
        )
    cached = (sizes["cache_per_frame"] + sizes["decoder_cache_per_frame"]) / 2**20
    return [
        *lines,
        f"  {'recipe':<14}{flops['recipe']:>12.3g}",
        f"  {'a new frame':<14}{flops['generated_frame']:>12.3g} in {flops['passes']} passes after a full window",
        f"  {'':<14}{flops['encode_frame']:>12.3g} to encode a frame, {flops['decode_frame']:.3g} to decode one",
        f"Bytes at {sizes['per_number']} a number: weights {sizes['weights'] / GIB:,.2f} GiB, "
        f"caches {cached:,.2f} MiB a frame",
    ]


def _memory_text(report: Report) -> list[str]:
    memory = report["memory_gib"]
    lines = [
        f"GiB to imagine: {memory['inference']:,.2f}. GiB to train on one device, as configured; "
        "an uncompiled upper estimate"
    ]
    for name, parts in memory["stages"].items():
        listed = [
            f"{part} {size:,.1f}" for part, size in parts.items() if isinstance(size, float) and size >= 0.05
        ]
        clip = ", ".join(f"{size:.3g} ({kind})" for kind, size in parts["activations_per_clip"].items())
        lines += [f"  {name:<14}{', '.join(listed)}", f"  {'':<14}activations a clip by recompute: {clip}"]
    return lines


def _devices_text(report: Report) -> list[str]:
    lines = [
        "Fits: recompute x micro-batch of the last stage, and the time of the recipe at an assumed "
        f"{report['assumed_mfu']:.0%} of the bf16 peak (recompute=full takes up to a third more)",
        f"  {'':<16}{'GiB':>6} {'imagine':>8}" + "".join(f"{f'{size} GPU':>22}" for size in WORLD_SIZES),
    ]
    for device in report["devices"]:
        cells = "".join(f"{_cell(device['training'][str(size)]):>22}" for size in WORLD_SIZES)
        imagine = "yes" if device["inference"] else "no"
        lines.append(f"  {device['name']:<16}{device['memory_gib']:>6.1f} {imagine:>8}{cells}")
    return lines


def _cell(training: Report | None) -> str:
    if training is None:
        return "-"
    fit = list(training["stages"].values())[-1]
    return f"{fit['recompute']} x{fit['micro_batch']} {_time(training['hours'])}"


def _time(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(60 * hours))} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:,.0f} d"
