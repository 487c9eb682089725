"""What one process needs to train a stage: arithmetic on parameter counts and the formula of `activations`.

Weights, gradients, moments and averages are fp32. In bf16 there is a copy of the weights to multiply with. With several
processes the state is shared, but weights stay gathered, whole, from forward to backward, unless all is computed again.
With several processes and micro-batches gradients add up whole, too, before they are shared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from genie_robot.config import HardwareConfig, StageConfig, TrainConfig
from genie_robot.models.world_model import WorldModel
from genie_robot.training.activations import Activations, clip_activations
from genie_robot.training.muon import Muon
from genie_robot.training.optim import build_optimizers
from genie_robot.training.stages import build_stage

GIB = 2**30
USABLE = (
    0.92  # share of a device's memory that tensors can have: the rest is CUDA's, cuBLAS's and fragmentation
)
RECOMPUTE = ("none", "selective", "full")  # in order of what they cost


def bytes_a_number(hardware: HardwareConfig) -> int:
    """Of activations and of the weights that are multiplied: 2 in bf16 (what "auto" takes on a GPU), 4 in fp32."""
    return 4 if hardware.precision == "fp32" else 2


def num_parameters(module: nn.Module) -> int:
    """Numbers that training changes (buffers are not counted)."""
    return sum(p.numel() for p in module.parameters())


@dataclass(frozen=True)
class StageNeeds:
    """One stage of a recipe, in numbers that do not depend on the device."""

    name: str
    config: StageConfig
    number: int  # bytes, see bytes_a_number
    trained: int  # parameters
    adamw: int  # those with two moments; the rest has Muon's one
    frozen: int
    flops_per_clip: int
    clip_bytes: int  # float pixels of one clip
    activations: Mapping[str, Activations]  # of one clip, by kind of recomputation

    @property
    def flops_per_step(self) -> int:
        """Of the whole batch, on all processes together; what is computed again is not counted."""
        return self.flops_per_clip * self.config.batch_size

    def share(self, world_size: int) -> int:
        """Clips of a step for each process."""
        return max(1, self.config.batch_size // world_size)

    def memory_gib(
        self, recompute: str, micro_batch: int, world_size: int = 1, shard: int = 0
    ) -> dict[str, float]:
        """Peak of one process by part, and `total`. `micro_batch` 0: its whole share of the batch at once."""
        share, shard = self.share(world_size), shard or world_size
        micro = min(micro_batch or share, share)
        gathered = world_size > 1
        clip = self.activations[recompute]
        # Of all weights, for the backward pass; with full recomputation of one block at a time.
        copies = (2 * (self.number == 2) + 4 * (shard > 1)) * self.trained * (recompute != "full")
        parts = {
            "weights": 4 * self.trained / shard + copies,
            "gradients": 4 * self.trained / (1 if gathered and micro < share else shard),
            "optimizer": (8 * self.adamw + 4 * (self.trained - self.adamw)) / shard,
            "averages": 4 * self.trained / shard * (self.config.ema_decay > 0),
            "frozen": 4 * self.frozen,
            "batch": share * self.clip_bytes,
            "activations": clip.of(micro),
        }
        gib = {name: round(size / GIB, 4) for name, size in parts.items()}
        return {**gib, "total": round(sum(parts.values()) / GIB, 4)}

    def fitting(self, memory_gib: float, world_size: int) -> Iterator[tuple[str, int]]:
        """(recompute, micro batch) that fit into a device's memory: for each kind the largest micro batch, if any."""
        share = self.share(world_size)
        sizes = [share] + [2**power for power in reversed(range(share.bit_length())) if 2**power < share]
        for recompute in RECOMPUTE:
            for size in sizes:
                if self.memory_gib(recompute, size, world_size)["total"] <= USABLE * memory_gib:
                    yield recompute, size
                    break


def stage_needs(config: TrainConfig, name: str) -> StageNeeds:
    """Build a stage on the meta device (no memory, no time) and count."""
    tokenizer = replace(config.model.tokenizer, perceptual_weight=0.0)  # its network would be read from disk
    with torch.device("meta"):
        stage = build_stage(name, replace(config, model=replace(config.model, tokenizer=tokenizer)))
    stage_config: StageConfig = getattr(config.training, name)
    trained = num_parameters(stage.networks)
    muon = [
        optimizer
        for optimizer in build_optimizers(stage.networks, stage_config)
        if isinstance(optimizer, Muon)
    ]
    matrices = sum(p.numel() for one in muon for group in one.param_groups for p in group["params"])
    frozen = sum(num_parameters(getattr(stage.model, part)) for part in stage.frozen)
    number, frames, video = bytes_a_number(config.hardware), stage_config.num_frames, config.model.video
    networks = [part for part in ("tokenizer", "latent_action", "dynamics") if part in stage.networks]
    activations = {}
    for recompute in RECOMPUTE:
        total = Activations(0)
        for network in networks:
            total += clip_activations(config.model, network, frames, number, recompute)
        activations[recompute] = total
    return StageNeeds(
        name=name,
        config=stage_config,
        number=number,
        trained=trained,
        adamw=trained - matrices,
        frozen=frozen,
        flops_per_clip=stage.flops_per_clip(frames),
        clip_bytes=frames * video.height * video.width * 3 * 4,
        activations=activations,
    )


def inference_gib(model: WorldModel, number: int) -> float:
    """To imagine one film: weights, temporal caches of dynamics and decoder, and one pass's work."""
    config = model.config
    tokens, frames = config.tokens_per_frame, config.video.num_frames
    cache = model.dynamics.cache_bytes_per_frame(number) + decoder_cache_bytes(model, number)
    # Logits, probabilities and their running sum in fp32; a dozen maps of a block's width.
    work = tokens * (12 * config.tokenizer.codebook_size + 12 * number * config.dynamics.transformer.dim)
    return round((number * num_parameters(model) + frames * cache + work) / GIB, 4)


def decoder_cache_bytes(model: WorldModel, number: int) -> int:
    """Keys and values that one finished frame adds to the cache of a transformer decoder."""
    tokenizer = model.config.tokenizer
    stack = tokenizer.decoder_transformer
    if tokenizer.decoder != "st_transformer" or stack.attention == "space":
        return 0
    return 2 * stack.num_layers * model.config.tokens_per_frame * stack.dim * number
