"""In which order windows are drawn: a pure function of (seed, number of the sample), for one dataset or a mixture.

Nothing is buffered, so a resumed run goes on exactly where it stopped, and any number of processes or threads share one
order. The order of an epoch is a seeded permutation computed index by index (a Feistel network with cycle walking: J. Black
and P. Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): it takes no memory and depends on no NumPy version.
A mixture is dealt in blocks of BLOCK samples, each with the same number of every dataset, in shuffled order.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from genie_robot.errors import ConfigError

BLOCK = 4096
_ROUNDS = 6


def _mix(values: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser on uint64 (S. Vigna, public domain)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permuted(indices: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """Images of `indices` (each in [0, size)) under the permutation of [0, size) that belongs to (seed, epoch)."""
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    start = np.array([seed & 0xFFFFFFFFFFFFFFFF, epoch], np.uint64)
    key = _mix(_mix(start[:1]) + start[1:] + np.uint64(0x9E3779B97F4A7C15))
    values = np.asarray(indices).astype(np.uint64)
    pending = np.ones(values.shape, bool)
    while pending.any():
        left, right = values[pending] >> shift, values[pending] & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_mix(key + right + (np.uint64(number) << np.uint64(40))) & mask)
        values[pending] = (left << shift) | right
        pending = values >= np.uint64(size)
    return values.astype(np.int64)


class Order:
    """Which window of which dataset each sample is.

    `sizes`: windows of each dataset; `weights`: their shares of the samples; `names`: what is in them, for `fingerprint`.

    ConfigError for a weight that is not above 0 or a number of weights that does not fit.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], names: Sequence[str] = ()) -> None:
        assert sizes and min(sizes) > 0, "callers say which dataset has no window"
        if len(weights) != len(sizes) or not all(0 < weight < float("inf") for weight in weights):
            raise ConfigError(
                f"weights: got {weights} for {len(sizes)} datasets; wanted a number above 0 for each"
            )
        self.sizes, self._names = list(sizes), list(names)
        self.quotas = _quotas(np.array(weights, np.float64))
        self._starts = np.concatenate([[0], np.cumsum(self.quotas)])

    @property
    def shares(self) -> list[float]:
        """Share of the samples that each dataset really has (quotas are whole numbers of BLOCK)."""
        return [float(quota / BLOCK) for quota in self.quotas]

    @property
    def fingerprint(self) -> str:
        """Names the data: an order goes on only with the same."""
        content = json.dumps([self.sizes, self.quotas.tolist(), self._names])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def draw(self, samples: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample numbers (n,), from 0 without end -> dataset (n,) and window number within it (n,), int64."""
        datasets, places = self._deal(samples, seed)
        windows = np.empty(len(samples), np.int64)
        for dataset in np.unique(datasets):
            size, mine = self.sizes[dataset], datasets == dataset
            epochs, inside = places[mine] // size, places[mine] % size
            found = np.empty(len(inside), np.int64)
            for epoch in np.unique(epochs):
                now = epochs == epoch
                found[now] = permuted(inside[now], size, seed + int(dataset), int(epoch))
            windows[mine] = found
        return datasets, windows

    def _deal(self, samples: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Dataset of each sample, and how many samples of that dataset came before it."""
        if len(self.sizes) == 1:
            return np.zeros(len(samples), np.int64), np.asarray(samples, np.int64)
        blocks, inside = samples // BLOCK, samples % BLOCK
        slots = np.empty(len(samples), np.int64)
        for block in np.unique(blocks):
            now = blocks == block
            slots[now] = permuted(inside[now], BLOCK, ~seed, int(block))
        datasets = np.searchsorted(self._starts, slots, side="right") - 1
        return datasets, blocks * self.quotas[datasets] + slots - self._starts[datasets]


def mixture_weights(sizes: Sequence[int], weights: Sequence[float] | None, balanced: bool) -> list[float]:
    """Shares of datasets in a mixture: their weights (default: 1 each), times their number of windows if `balanced`."""
    given = [1.0] * len(sizes) if weights is None else list(weights)
    if not balanced or len(given) != len(sizes):  # Order refuses another number of weights
        return given
    return [weight * size for weight, size in zip(given, sizes, strict=True)]


def _quotas(weights: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to BLOCK, at least 1 each, as near to the weights as that allows (largest remainders)."""
    if len(weights) > BLOCK:
        raise ConfigError(f"got {len(weights)} datasets; wanted at most {BLOCK} in one mixture")
    exact = weights / weights.sum() * BLOCK
    quotas = np.maximum(np.floor(exact), 1).astype(np.int64)
    while (missing := BLOCK - int(quotas.sum())) != 0:
        error = exact - quotas
        if missing > 0:
            quotas[np.argsort(-error, kind="stable")[:missing]] += 1
        else:
            quotas[np.argmin(np.where(quotas > 1, error, np.inf))] -= 1
    return quotas
