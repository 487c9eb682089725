"""Optimizers and the learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from genie_robot.config import StageConfig
from genie_robot.training.muon import Muon


def build_optimizers(module: nn.Module, config: StageConfig) -> list[torch.optim.Optimizer]:
    """AdamW for everything, or Muon for the matrices inside transformer blocks and AdamW for the rest."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    hidden = [p for name, p in named if config.optimizer == "muon" and "blocks." in name and p.ndim == 2]
    chosen = {id(p) for p in hidden}
    rest = [p for _, p in named if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            _groups(rest),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=all(p.is_cuda for p in rest),  # one kernel and no temporary copy of the weights
        )
    ]
    if hidden:
        optimizers.append(Muon(hidden, lr=config.muon_learning_rate, weight_decay=config.weight_decay))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _groups(parameters: Sequence[Tensor]) -> list[dict[str, Any]]:
    # Fused kernels take sharded and whole tensors, but not both at once.
    sharded = [p for p in parameters if isinstance(p, DTensor)]
    whole = [p for p in parameters if not isinstance(p, DTensor)]
    return [{"params": group} for group in (sharded, whole) if group]


def rate_factor(step: int, config: StageConfig) -> float:
    """Warm-up, stable, cosine decay to the minimum: the factor on the peak rate at `step` (from 0).

    `decay_share` 1 is the plain cosine schedule.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay = max(1, round(config.steps * config.decay_share))
    progress = min(max((step - (config.steps - decay)) / decay, 0.0), 1.0)
    low = config.min_learning_rate_ratio
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))


def set_rate(optimizers: list[torch.optim.Optimizer], step: int, config: StageConfig) -> float:
    """Set the rates for `step` and return AdamW's."""
    factor = rate_factor(step, config)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
    return optimizers[0].param_groups[0]["lr"]


def state_tensors(optimizers: list[torch.optim.Optimizer], module: nn.Module) -> dict[str, Tensor]:
    """All optimizer state as `<parameter name>.<what>`: alike for any number of processes and any grouping."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {
        f"{names[id(parameter)]}.{what}": value
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for what, value in state.items()
    }


def create_state(optimizers: list[torch.optim.Optimizer], module: nn.Module) -> None:
    """Make all optimizers have their state (at zero), so that a checkpoint can be read into it."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = 0.0  # set again at each step
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
