"""Batches of video windows from a clip cache, in an order that is a pure function of (seed, epoch, position).

Nothing is buffered, so the state is three numbers and a resumed loader goes on exactly where it stopped, also with
another number of ranks. The order of an epoch is a seeded permutation computed index by index (a Feistel network
with cycle walking: J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), so it takes no memory
and does not depend on the NumPy version.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from genie_robot.data.clips import ClipCache
from genie_robot.errors import CheckpointError, ConfigError, DataError

log = logging.getLogger(__name__)

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


class ClipLoader(Iterator[np.ndarray]):
    """Endless iterator of uint8 video_BTYXC (batch_size, num_frames, Y, X, 3), C-contiguous.

    A window is `num_frames` frames, `frame_stride` apart, inside one episode; every window comes once per epoch, and
    a batch at an epoch's end goes on into the next epoch. Rank r of world_size gets the r-th of each world_size
    consecutive batches. Episodes shorter than a window are left out and counted in `skipped_episodes`.
    ConfigError for numbers below 1 or a rank that does not exist; DataError when no episode is long enough.
    """

    def __init__(
        self,
        cache: ClipCache,
        num_frames: int,
        batch_size: int,
        seed: int = 0,
        *,
        frame_stride: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if min(num_frames, batch_size, frame_stride, world_size) < 1 or not 0 <= rank < world_size:
            got = f"{num_frames=}, {batch_size=}, {frame_stride=}, {rank=}, {world_size=}"
            raise ConfigError(f"got {got}; wanted numbers of at least 1 and 0 <= rank < world_size")
        self.cache, self.num_frames, self.batch_size = cache, num_frames, batch_size
        self.frame_stride, self.rank, self.world_size = frame_stride, rank, world_size
        self.seed, self.epoch, self.position = seed, 0, 0
        self.span = (num_frames - 1) * frame_stride + 1
        lengths = np.array([entry.num_frames for entry in cache.episodes], np.int64)
        counts = np.maximum(lengths - self.span + 1, 0)
        self.skipped_episodes = int((counts == 0).sum())
        self._ends = np.cumsum(counts)
        self.num_windows = int(counts.sum())
        if self.num_windows == 0:
            longest = int(lengths.max(initial=0))
            raise DataError(
                f"{cache.folder}: no episode of {len(cache)} has {self.span} frames (longest: {longest}); "
                "use fewer frames, a smaller stride or other data"
            )
        if self.skipped_episodes:
            log.info(
                "%d of %d episodes are shorter than %d frames", self.skipped_episodes, len(cache), self.span
            )

    @property
    def batches_per_epoch(self) -> float:
        """Batches (over all ranks together) that one epoch of windows makes."""
        return self.num_windows / self.batch_size

    def windows(self, numbers: np.ndarray) -> list[tuple[int, int]]:
        """Window numbers in [0, num_windows) -> (episode, first frame within it)."""
        episodes = np.searchsorted(self._ends, numbers, side="right")
        previous = np.concatenate([[0], self._ends])[episodes]
        return list(zip(episodes.tolist(), (np.asarray(numbers) - previous).tolist(), strict=True))

    def next_windows(self) -> list[tuple[int, int]]:
        """(episode, first frame) of the next batch of this rank; moves the state forward."""
        steps = self.position + self.rank * self.batch_size + np.arange(self.batch_size)
        epochs, places = self.epoch + steps // self.num_windows, steps % self.num_windows
        numbers = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            numbers[chosen] = permuted(places[chosen], self.num_windows, self.seed, int(epoch))
        ahead, self.position = divmod(self.position + self.batch_size * self.world_size, self.num_windows)
        self.epoch += ahead
        return self.windows(numbers)

    def __next__(self) -> np.ndarray:
        """Next batch, uint8 (B, T, Y, X, 3)."""
        video_BTYXC = np.empty(
            (self.batch_size, self.num_frames, self.cache.height, self.cache.width, 3), dtype=np.uint8
        )
        for row, (episode, start) in enumerate(self.next_windows()):
            first = self.cache.episodes[episode].offset + start
            video_BTYXC[row] = self.cache.frames_FYXC[first : first + self.span : self.frame_stride]
        return video_BTYXC

    def state_dict(self) -> dict[str, int]:
        """What exact resume needs: seed, epoch, position (windows of the epoch given out over all ranks)."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
            "num_windows": self.num_windows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; CheckpointError when it belongs to other data or is not a loader's state."""
        names = ("seed", "epoch", "position", "num_windows")
        try:
            seed, epoch, position, num_windows = (int(state[name]) for name in names)
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"loader state is {dict(state)!r}; wanted numbers for {names}") from error
        if num_windows != self.num_windows:
            raise CheckpointError(
                f"loader state is for {num_windows} windows, this data has {self.num_windows}; "
                "resume with the dataset, window length and stride of the first run, or start anew"
            )
        if epoch < 0 or not 0 <= position < self.num_windows:
            raise CheckpointError(
                f"loader state has epoch {epoch}, position {position}; wanted a saved state"
            )
        self.seed, self.epoch, self.position = seed, epoch, position
