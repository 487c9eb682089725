"""Exponential moving average of trained weights: what validation and the model folder use when it is on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averaged copies of a module's parameters; buffers are not averaged. Decay 0: nothing is kept."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._module = module
        named = module.named_parameters() if decay else ()  # frozen ones too: an average is a whole network
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in named}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the present weights. Early averages follow closely: decay min(decay, (1 + step) / (10 + step))."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self._module.named_parameters() if self.weights else ():
            self.weights[name].lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module runs with the averaged weights inside the context."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._module.named_parameters() if self.weights else ():
            present = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(present)
