"""Muon for whole and for sharded matrices (K. Jordan et al. 2024; Nesterov momentum, five Newton-Schulz steps in bf16, on a CPU in fp32).

`torch.optim.Muon` on a sharded matrix orthogonalises by many small collectives, in another rounding. Here the
momentum stays sharded and the update alone is gathered, so that the result is that of one process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_EPS = 1e-7


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest (nearly) orthogonal matrix, by a quintic Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(_iteration_dtype(matrix.device))
    x = x.T if tall else x
    x = x / x.norm().clamp(min=_EPS)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _iteration_dtype(device: torch.device) -> torch.dtype:
    # CPUs round bf16 products each in its own way, and the iteration makes much of little: a run on them would depend on
    # the make of the CPU.
    return torch.float32 if device.type == "cpu" else torch.bfloat16


class Muon(torch.optim.Optimizer):
    """Same update as `torch.optim.Muon`; parameters are matrices, plain or DTensor."""

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._update(matrix, group["lr"], group["weight_decay"], group["momentum"])

    def _update(self, matrix: Tensor, lr: float, weight_decay: float, momentum: float) -> None:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        update = matrix.grad.lerp(buffer, momentum)
        scale = lr * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        matrix.mul_(1 - lr * weight_decay)
        matrix.add_(_orthogonal(update).to(matrix.dtype), alpha=-scale)


def _orthogonal(update: Tensor) -> Tensor:
    if not isinstance(update, DTensor):
        return orthogonalise(update)
    # Every process computes the same whole matrix and keeps its part: one gather a matrix, no second exchange.
    whole = orthogonalise(update.full_tensor())
    return distribute_tensor(whole, update.device_mesh, update.placements, src_data_rank=None)
