"""Batches of video windows from a clip cache, in an order that is a pure function of (seed, epoch, position).

Nothing is buffered, so the state is three numbers and a resumed loader goes on exactly where it stopped. The batch of
a step is the same for any number of processes: each takes its own rows of it. The order of an epoch is a seeded
permutation computed index by index (a Feistel network with cycle walking: J. Black and P. Rogaway, "Ciphers with
Arbitrary Finite Domains", 2002), so it takes no memory and does not depend on the NumPy version.
Shapes: B rows of this process, T frames, S = T - 1 steps, Y X pixels, C channels, A numbers of a robot action.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from genie_robot.data.clips import ClipCache
from genie_robot.errors import CheckpointError, ConfigError, DataError

log = logging.getLogger(__name__)

T = TypeVar("T")

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


class ShuffledLoader(Iterator[T]):
    """The order that all loaders share: which windows of [0, num_windows) make the next batch; subclasses fetch them.

    Every window comes once per epoch, and a batch at an epoch's end goes on into the next epoch. `batch_size` is that of
    all processes together; rank r of world_size takes rows [r, r + 1) * batch_size / world_size of each batch.
    ConfigError for numbers below 1, a rank that does not exist, or a batch that world_size does not divide.
    """

    def __init__(self, num_windows: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        assert num_windows > 0, "subclasses say what is missing"
        if min(batch_size, world_size) < 1 or not 0 <= rank < world_size:
            got = f"{batch_size=}, {rank=}, {world_size=}"
            raise ConfigError(f"got {got}; wanted numbers of at least 1 and 0 <= rank < world_size")
        if batch_size % world_size:
            raise ConfigError(
                f"batch_size: got {batch_size}, wanted a multiple of the number of processes ({world_size})"
            )
        self.num_windows, self.batch_size, self.rank, self.world_size = (
            num_windows,
            batch_size,
            rank,
            world_size,
        )
        self.seed, self.epoch, self.position = seed, 0, 0

    @property
    def rows(self) -> int:
        """Rows of a batch that this process gets."""
        return self.batch_size // self.world_size

    @property
    def batches_per_epoch(self) -> float:
        """Batches that one epoch makes."""
        return self.num_windows / self.batch_size

    def next_numbers(self) -> np.ndarray:
        """Window numbers of this process's rows of the next batch, int64 (B,); moves the state forward."""
        steps = self.position + self.rank * self.rows + np.arange(self.rows)
        epochs, places = self.epoch + steps // self.num_windows, steps % self.num_windows
        numbers = np.empty(self.rows, np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            numbers[chosen] = permuted(places[chosen], self.num_windows, self.seed, int(epoch))
        ahead, self.position = divmod(self.position + self.batch_size, self.num_windows)
        self.epoch += ahead
        return numbers

    def state_dict(self) -> dict[str, int]:
        """What exact resume needs: seed, epoch, position (windows of the epoch given out); alike in all processes."""
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


class Clips(NamedTuple):
    """A batch of windows: uint8 video (B,T,Y,X,3), and from a cache with labels the robot action of each step.

    `labels_BSA` float32 (B,S,A), standardised (mean 0, deviation 1 over the labelled steps of the cache); NaN where a
    step has no label; None when the cache holds no labels.
    """

    video_BTYXC: np.ndarray
    labels_BSA: np.ndarray | None


class ClipLoader(ShuffledLoader[Clips]):
    """Endless iterator of `Clips`, C-contiguous copies of windows of the cache.

    A window is `num_frames` frames, `frame_stride` apart, inside one episode. Episodes shorter than a window are left
    out and counted in `skipped_episodes`. Order, rows of a process and state: see `ShuffledLoader`.
    ConfigError for numbers below 1 and for labels with a stride (they are actions from a frame to the next); DataError
    when no episode is long enough.
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
        if min(num_frames, frame_stride) < 1:
            raise ConfigError(f"got {num_frames=}, {frame_stride=}; wanted numbers of at least 1")
        if cache.labels_FA is not None and frame_stride > 1:
            raise ConfigError(f"got {frame_stride=} and labelled actions; wanted frame_stride=1 with labels")
        self.cache, self.num_frames, self.frame_stride = cache, num_frames, frame_stride
        self.span = (num_frames - 1) * frame_stride + 1
        counts = window_counts(cache, self.span)
        self.skipped_episodes = int((counts == 0).sum())
        self._ends = np.cumsum(counts)
        super().__init__(int(counts.sum()), batch_size, seed, rank, world_size)

    def windows(self, numbers: np.ndarray) -> list[tuple[int, int]]:
        """Window numbers in [0, num_windows) -> (episode, first frame within it)."""
        episodes = np.searchsorted(self._ends, numbers, side="right")
        previous = np.concatenate([[0], self._ends])[episodes]
        return list(zip(episodes.tolist(), (np.asarray(numbers) - previous).tolist(), strict=True))

    def next_windows(self) -> list[tuple[int, int]]:
        """(episode, first frame) of this process's rows of the next batch; moves the state forward."""
        return self.windows(self.next_numbers())

    def __next__(self) -> Clips:
        """The next batch, as far as it is of this process."""
        cache = self.cache
        video_BTYXC = np.empty((self.rows, self.num_frames, cache.height, cache.width, 3), np.uint8)
        labels_BSA = None
        if cache.labels_FA is not None:
            labels_BSA = np.empty((self.rows, self.num_frames - 1, cache.labels_FA.shape[1]), np.float32)
        for row, (episode, start) in enumerate(self.next_windows()):
            first = cache.episodes[episode].offset + start
            video_BTYXC[row] = cache.frames_FYXC[first : first + self.span : self.frame_stride]
            if labels_BSA is not None:
                labels_BSA[row] = cache.standard_labels(first, self.num_frames - 1)
        return Clips(video_BTYXC, labels_BSA)


def window_counts(cache: ClipCache, span: int) -> np.ndarray:
    """Places in each episode where a window of `span` frames can begin, int64; DataError when there is none at all."""
    lengths = np.array([entry.num_frames for entry in cache.episodes], np.int64)
    counts = np.maximum(lengths - span + 1, 0)
    skipped = int((counts == 0).sum())
    if skipped == len(cache):
        longest = int(lengths.max(initial=0))
        raise DataError(
            f"{cache.folder}: no episode of {len(cache)} has {span} frames (longest: {longest}); "
            "use fewer frames, a smaller stride or other data"
        )
    if skipped:
        log.info("%d of %d episodes are shorter than %d frames", skipped, len(cache), span)
    return counts
