"""Batches of video windows from clip caches, in an order that is a pure function of (seed, number of the sample).

Nothing is buffered, so the state is a few numbers and a resumed loader goes on exactly where it stopped. The batch of a
step is the same for any number of processes and threads: each takes its own rows of it (`order.py`).
Shapes: B rows of this process, T frames, S = T - 1 steps, Y X pixels, C channels, A numbers of a robot action.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from genie_robot.data.augment import Augmentation
from genie_robot.data.clips import ClipCache, Windows
from genie_robot.data.order import Order, mixture_weights
from genie_robot.errors import CheckpointError, ConfigError

log = logging.getLogger(__name__)

T = TypeVar("T")

_MEMORY = 7  # keeps the draw of a remembered frame apart from others of the same sample


class Place(NamedTuple):
    """A row of a batch: number of the sample, its dataset, and the window within that."""

    sample: int
    dataset: int
    window: int


class ShuffledLoader(Iterator[T]):
    """The order that all loaders share: which windows make the next batch; subclasses fetch them.

    `batch_size` is that of all processes together; rank r of world_size takes rows [r, r + 1) * batch_size / world_size of
    each batch. ConfigError for numbers below 1, a rank that does not exist, or a batch that world_size does not divide.
    """

    def __init__(self, order: Order, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        if min(batch_size, world_size) < 1 or not 0 <= rank < world_size:
            got = f"{batch_size=}, {rank=}, {world_size=}"
            raise ConfigError(f"got {got}; wanted numbers of at least 1 and 0 <= rank < world_size")
        if batch_size % world_size:
            raise ConfigError(
                f"batch_size: got {batch_size}, wanted a multiple of the number of processes ({world_size})"
            )
        self.order, self.batch_size, self.rank, self.world_size = order, batch_size, rank, world_size
        self.seed, self.samples = seed, 0

    @property
    def num_windows(self) -> int:
        """Windows of all datasets."""
        return sum(self.order.sizes)

    @property
    def rows(self) -> int:
        """Rows of a batch that this process gets."""
        return self.batch_size // self.world_size

    def next_places(self) -> list[Place]:
        """Rows of this process of the next batch; moves the state forward."""
        samples = self.samples + self.rank * self.rows + np.arange(self.rows)
        datasets, windows = self.order.draw(samples, self.seed)
        self.samples += self.batch_size
        return [
            Place(*row) for row in zip(samples.tolist(), datasets.tolist(), windows.tolist(), strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """What exact resume needs: seed, samples given out, and which data; alike in all processes."""
        return {
            "seed": self.seed,
            "samples": self.samples,
            "num_windows": self.num_windows,
            "data": self.order.fingerprint,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; CheckpointError when it belongs to other data or is not a loader's state."""
        names = ("seed", "samples", "num_windows")
        try:
            seed, samples, num_windows = (int(state[name]) for name in names)
            data = str(state["data"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"loader state is {dict(state)!r}; wanted numbers for {names}") from error
        if data != self.order.fingerprint:
            raise CheckpointError(
                f"loader state is for other data ({num_windows} windows; here are {self.num_windows}); resume with the "
                "datasets, weights, rate and window length of the first run, or start anew"
            )
        if samples < 0:
            raise CheckpointError(f"loader state has {samples} samples; wanted a saved state")
        self.seed, self.samples = seed, samples


class Clips(NamedTuple):
    """A batch of windows: uint8 video (B,T,Y,X,3), and from caches with labels the robot action of each step.

    `gaps_B`: frames left out between the first and the second frame of each, 0 in a window without a gap.
    `labels_BSA` float32 (B,S,A), standardised (mean 0, deviation 1 over the labelled steps of its cache) or as stored;
    NaN where a step has no label; None when the caches hold no labels.
    """

    video_BTYXC: np.ndarray
    labels_BSA: np.ndarray | None
    gaps_B: np.ndarray


class ClipLoader(ShuffledLoader[Clips]):
    """Endless iterator of `Clips`, C-contiguous copies of windows of one cache or of a mixture of them.

    A window is `num_frames` frames inside one clip; shorter clips are left out and counted in `skipped_clips`. `weights`
    of the caches (default: 1 each) are shares of the clips, or, `balanced`, factors on the number of windows: with 1 each,
    every window comes equally often. `still_share`: how many of the windows in which nothing moves
    are kept. `memory_share`: share of the windows whose first frame is an earlier one of their clip, any of them equally often.
    `workers`: threads that fill rows. `stored_labels`: labels as stored, not standardised. ConfigError for
    numbers below 1, for caches that do not fit together;
    DataError when a cache has no window.
    """

    def __init__(
        self,
        caches: ClipCache | Sequence[ClipCache],
        num_frames: int,
        batch_size: int,
        seed: int = 0,
        *,
        weights: Sequence[float] | None = None,
        balanced: bool = True,
        still_share: float = 1.0,
        memory_share: float = 0.0,
        augmentation: Augmentation | None = None,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 1,
        stored_labels: bool = False,
    ) -> None:
        if num_frames < 1 or workers < 1:
            raise ConfigError(f"got {num_frames=}, {workers=}; wanted numbers of at least 1")
        self.caches = [caches] if isinstance(caches, ClipCache) else list(caches)
        self.label_size, self.stored_labels = fitting_label_size(self.caches), stored_labels
        self.memory_share = memory_share
        self.num_frames, self.augmentation = num_frames, augmentation or Augmentation()
        self._windows = [Windows(cache, num_frames, still_share=still_share) for cache in self.caches]
        self.skipped_clips = sum(int((cache.rows["num_frames"] < num_frames).sum()) for cache in self.caches)
        if self.skipped_clips:
            log.info("%d clips are shorter than %d frames and left out", self.skipped_clips, num_frames)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="clips") if workers > 1 else None
        sizes = [len(windows) for windows in self._windows]
        names = [cache.contents for cache in self.caches]
        order = Order(sizes, mixture_weights(sizes, weights, balanced), names)
        super().__init__(order, batch_size, seed, rank, world_size)

    def first_frame(self, place: Place) -> int:
        """Number of the first frame of a window in its cache."""
        return int(self._windows[place.dataset].first_frames(np.array([place.window]))[0])

    def remembered_frame(self, place: Place) -> int:
        """Number of the frame that stands first in a window: its own first one, or an earlier one of the clip."""
        cache, first = self.caches[place.dataset], self.first_frame(place)
        draw = np.random.default_rng((self.seed, place.sample, _MEMORY))
        if draw.random() >= self.memory_share:
            return first
        offsets = cache.rows["offset"]
        start = int(offsets[np.searchsorted(offsets, first, side="right") - 1])
        return int(draw.integers(start, first)) if start < first else first

    def __next__(self) -> Clips:
        """The next batch, as far as it is of this process."""
        cache, steps = self.caches[0], self.num_frames - 1
        video_BTYXC = np.empty((self.rows, self.num_frames, cache.height, cache.width, 3), np.uint8)
        labels_BSA = np.empty((self.rows, steps, self.label_size), np.float32) if self.label_size else None
        gaps_B = np.zeros(self.rows, np.int64)

        def fill(row: int, place: Place) -> None:
            cache, first = self.caches[place.dataset], self.first_frame(place)
            frames = cache.frames_FYXC[first : first + self.num_frames]
            if self.memory_share:
                remembered = self.remembered_frame(place)
                frames = np.concatenate([cache.frames_FYXC[remembered : remembered + 1], frames[1:]])
                gaps_B[row] = first - remembered
            if self.augmentation:
                frames = self.augmentation.apply(frames, self.seed, place.sample)
            video_BTYXC[row] = frames
            if labels_BSA is not None:
                labels_BSA[row] = cache.step_labels(first, steps, self.stored_labels)

        self._each(fill)
        return Clips(video_BTYXC, labels_BSA, gaps_B)

    def _each(self, fill: Callable[[int, Place], None]) -> None:
        places = self.next_places()
        mapped = self._pool.map if self._pool else map
        for _ in mapped(fill, range(len(places)), places):
            pass


def fitting_label_size(caches: Sequence[ClipCache]) -> int:
    """Numbers of a robot action in all of the caches, 0 for none; ConfigError when they do not fit into one batch."""
    if not caches:
        raise ConfigError("got no clip cache; wanted at least one dataset")
    kinds = {(cache.height, cache.width, cache.label_size) for cache in caches}
    if len(kinds) > 1:
        raise ConfigError(
            f"clip caches of {sorted(kinds)} (height, width, numbers of an action) do not fit together; build them alike"
        )
    return caches[0].label_size
