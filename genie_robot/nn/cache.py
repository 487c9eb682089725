"""The exact temporal cache: keys and values of finished frames.

Spatial attention, norms and FFN read one frame; attention through time (to the same place, or to all tokens) is
causal. So the activations of a finished frame depend on frames up to it and never change while a later frame is
refined, and all that a later frame needs of it are the keys and values that each block attends to through time.
Nothing else is cached, and nothing is approximated.

Shapes: B batch, N tokens per frame, H heads, T frames, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one block, in a buffer of fixed capacity (frames)."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._keys_BNHTE: Tensor | None = None
        self._values_BNHTE: Tensor | None = None

    def extend(self, keys_BNHTE: Tensor, values_BNHTE: Tensor, past: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the `past` finished frames followed by the new ones, which are written after them."""
        end = past + keys_BNHTE.shape[3]
        assert end <= self.capacity, (past, end, self.capacity)
        if self._keys_BNHTE is None or self._values_BNHTE is None:
            shape = (*keys_BNHTE.shape[:3], self.capacity, keys_BNHTE.shape[4])
            self._keys_BNHTE, self._values_BNHTE = keys_BNHTE.new_empty(shape), values_BNHTE.new_empty(shape)
        # Slots after the finished frames are scratch space: each refinement pass writes over them.
        self._keys_BNHTE[:, :, :, past:end] = keys_BNHTE
        self._values_BNHTE[:, :, :, past:end] = values_BNHTE
        return self._keys_BNHTE[:, :, :, :end], self._values_BNHTE[:, :, :, :end]

    def fork(self, copies: int) -> LayerCache:
        """A cache whose batch holds `copies` copies of each row, side by side."""
        other = LayerCache(self.capacity)
        if self._keys_BNHTE is not None and self._values_BNHTE is not None:
            other._keys_BNHTE = self._keys_BNHTE.repeat_interleave(copies, dim=0)
            other._values_BNHTE = self._values_BNHTE.repeat_interleave(copies, dim=0)
        return other


class TemporalCache:
    """One `LayerCache` per block. `length` is the number of finished frames; only a commit raises it."""

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.layers = [LayerCache(capacity) for _ in range(num_layers)]
        self.capacity = capacity
        self.length = 0

    @property
    def is_full(self) -> bool:
        """True when no further frame fits."""
        return self.length == self.capacity

    def fork(self, copies: int) -> TemporalCache:
        """A cache with each batch row repeated `copies` times."""
        assert copies >= 1, copies
        other = TemporalCache(0, self.capacity)
        other.layers = [layer.fork(copies) for layer in self.layers]
        other.length = self.length
        return other


def causal_mask(num_new: int, num_past: int, device: torch.device) -> Tensor | None:
    """Boolean (new, past + new) mask, True where attention is allowed; None when everything is."""
    if num_new == 1:
        return None
    return torch.ones(num_new, num_past + num_new, dtype=torch.bool, device=device).tril(num_past)
