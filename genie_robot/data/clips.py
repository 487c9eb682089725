"""The clip cache: every episode decoded, cut and resized once, as uint8 files that training reads at random.

    cache = build_clip_cache("outputs/tabletop", "outputs/cache/train", 64, 64, split="train")     # clip_builder.py
    cache.clip(3)        # uint8 (T, Y, X, 3), a view of the file

A cache is a folder: `frames.u8` (raw uint8, F x Y x X x 3), `changes.f32` (mean absolute change from each frame to the next,
of 255), `clips.npy` (a row a clip, see CLIP_TYPE) and `index.json` (sizes, rate, texts, bad records, hash of what it was made
from). A clip is an episode, or a piece of one where it is cut. A cache holds no actions, unless `label_share` asks for those
of some episodes: then `actions.f32` (raw float32, F x A; row t leads from frame t to t+1) holds them, and NaN for other
episodes and for last frames.
Shapes: F frames of a cache, T of a clip, Y X pixels, A numbers of a robot action.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.actions import ActionStatistics
from genie_robot.data.labels import standardised
from genie_robot.data.segments import STILL_CHANGE
from genie_robot.errors import DataError, DatasetNotFoundError

# Raise it when the file layout, the cutting or the resize rule changes: old caches are then built again.
FORMAT = 3
FRAMES, CHANGES, ACTIONS = "frames.u8", "changes.f32", "actions.f32"
INDEX, CLIPS = "index.json", "clips.npy"
CLIP_TYPE = np.dtype(
    [("offset", "<i8"), ("num_frames", "<i4"), ("first", "<i4"), ("episode", "<i8"), ("text", "<i4")]
)
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Clip:
    """One clip of a cache: place in its files, frame `first` of episode `source` (name/split/number), its text."""

    offset: int
    num_frames: int
    first: int
    source: str
    instruction: str


class ClipCache:
    """A finished cache folder, opened for reading; `open` it, or get it from `build_clip_cache`."""

    def __init__(self, folder: Path, index: dict[str, Any], rows: np.ndarray) -> None:
        if index["format"] != FORMAT or rows.dtype != CLIP_TYPE:
            raise DataError(
                f"{folder} is a clip cache of another version; remove it so that it is built again"
            )
        self.folder = folder
        self.height, self.width = int(index["height"]), int(index["width"])
        self.dataset, self.split = str(index["dataset"]), str(index["split"])
        self.hash, self.contents = str(index["hash"]), str(index["contents"])
        self.dt_s = float(index["dt_s"])
        self.bad: list[str] = list(index["bad"])
        self.bad_records = int(index["bad_records"])
        self.rows, self._texts = rows, index["texts"]
        self.num_frames = int(index["num_frames"])
        self.frames_FYXC = _map(folder / FRAMES, np.uint8, (self.num_frames, self.height, self.width, 3))
        labels = index.get("labels")
        self.labels = None if labels is None else ActionStatistics.from_dict(labels)
        self.actions_FA: np.ndarray | None = None
        if self.labels is not None:
            self.actions_FA = _map(folder / ACTIONS, np.float32, (self.num_frames, self.label_size))

    @classmethod
    def open(cls, folder: str | Path) -> ClipCache:
        """Open a finished cache; DatasetNotFoundError when there is none, DataError when it is not whole."""
        folder = Path(folder)
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            return cls(folder, index, np.load(folder / CLIPS, allow_pickle=False))
        except FileNotFoundError as error:
            raise DatasetNotFoundError(
                f"{folder} is no clip cache ({error.filename} is missing); build it"
            ) from error
        except (ValueError, KeyError, TypeError, IndexError, EOFError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{folder / INDEX} cannot be read ({error!r}); remove {folder} so that it is built again"
            ) from error

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return ClipCache.open, (self.folder,)  # a pickled memory map would carry every frame

    def __getitem__(self, number: int) -> Clip:
        """What is known of a clip."""
        row = self.rows[number]
        source = f"{self.dataset}/{self.split}/{row['episode']}"
        return Clip(
            int(row["offset"]), int(row["num_frames"]), int(row["first"]), source, self._texts[row["text"]]
        )

    def __iter__(self) -> Iterator[Clip]:
        """All clips, in stored order."""
        return (self[number] for number in range(len(self)))

    @property
    def label_size(self) -> int:
        """Numbers of a robot action, 0 where the cache holds none."""
        return 0 if self.labels is None else len(self.labels.mean)

    def clip(self, number: int) -> np.ndarray:
        """All frames of a clip, uint8 (T, Y, X, 3), a read-only view."""
        row = self.rows[number]
        return self.frames_FYXC[row["offset"] : row["offset"] + row["num_frames"]]

    def step_labels(self, first: int, count: int, stored: bool = False) -> np.ndarray:
        """Robot actions of `count` frames of the file: float32 (count, A), standardised (`labels.py`) or as stored.

        NaN where a step has no label.
        """
        assert self.labels is not None and self.actions_FA is not None, "the cache was built without labels"
        actions_FA = self.actions_FA[first : first + count]
        return actions_FA.copy() if stored else standardised(actions_FA, self.labels)

    def changes(self) -> np.ndarray:
        """Mean change from each frame to the next (of 255): float32 (F,); 0 at the end of a clip."""
        return _map(self.folder / CHANGES, np.float32, (self.num_frames,))


def _map(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """A file as an array, read where it is touched (an empty one cannot be mapped); DataError for another size."""
    wanted, got = int(np.prod(shape)) * np.dtype(dtype).itemsize, path.stat().st_size
    if wanted != got:
        raise DataError(
            f"{path} has {got} bytes; wanted {wanted}: remove {path.parent} so that it is built again"
        )
    return np.memmap(path, dtype, "r", shape=shape) if wanted else np.zeros(shape, dtype)


class Windows:
    """Where windows of `num_frames` frames begin in a cache, numbered in stored order.

    They begin every `stride` frames of each clip, and with a stride one more at its end, so that no frame is left out. Of
    windows that change less than STILL_CHANGE a step on average, `still_share` is kept. DataError when there is none.
    """

    def __init__(self, cache: ClipCache, num_frames: int, stride: int = 1, still_share: float = 1.0) -> None:
        check_longest(cache, num_frames)
        lengths = cache.rows["num_frames"].astype(np.int64)
        long_enough = lengths >= num_frames
        self._offsets, self._room = cache.rows["offset"][long_enough], lengths[long_enough] - num_frames
        self._stride = stride
        counts = -(-self._room // stride) + 1  # the last window of a clip is moved back to end with it
        self._firsts = np.concatenate([[0], np.cumsum(counts)])
        self._kept: np.ndarray | None = None
        if still_share < 1:
            self._kept = self._worth_keeping(cache, num_frames, still_share)
        if not len(self):
            raise DataError(
                f"{cache.folder}: nothing moves in any window of {num_frames} frames; "
                "raise data.still_share or use other data"
            )

    def __len__(self) -> int:
        """Number of windows."""
        return int(self._firsts[-1]) if self._kept is None else len(self._kept)

    def first_frames(self, numbers: np.ndarray) -> np.ndarray:
        """Window numbers (n,) -> frame numbers of the cache at which they begin, (n,) int64."""
        return self._starts(numbers if self._kept is None else self._kept[numbers])

    def _starts(self, numbers: np.ndarray) -> np.ndarray:
        clips = np.searchsorted(self._firsts, numbers, side="right") - 1
        inside = (np.asarray(numbers, np.int64) - self._firsts[clips]) * self._stride
        return self._offsets[clips] + np.minimum(inside, self._room[clips])

    def _worth_keeping(self, cache: ClipCache, num_frames: int, still_share: float) -> np.ndarray:
        """Numbers of the windows that are kept, uint32; block by block, so that memory stays small for 30 M frames."""
        changes, seen = cache.changes(), 0
        blocks = [np.zeros(0, np.uint32)]
        for first in range(0, int(self._firsts[-1]), _BLOCK):
            numbers = np.arange(first, min(first + _BLOCK, int(self._firsts[-1])))
            starts = self._starts(numbers)
            piece = changes[starts[0] : starts[-1] + num_frames]
            total = np.concatenate([[0.0], np.cumsum(piece, dtype=np.float64)])
            begin = starts - starts[0]
            still = total[begin + num_frames - 1] - total[begin] < STILL_CHANGE * (num_frames - 1)
            # evenly spread: one more is kept each time the sum of shares passes a whole number
            due = np.floor((seen + np.concatenate([[0], np.cumsum(still)])) * still_share)
            blocks.append(numbers[~still | (np.diff(due) > 0)].astype(np.uint32))
            seen += int(still.sum())
        return np.concatenate(blocks)


def check_longest(cache: ClipCache, num_frames: int) -> None:
    """DataError when no clip of a cache has as many frames as a window."""
    longest = int(cache.rows["num_frames"].max(initial=0))
    if longest < num_frames:
        raise DataError(
            f"{cache.folder}: no clip of {len(cache)} has {num_frames} frames (longest: {longest}); "
            "use fewer frames, a higher model.video.rate_hz or other data"
        )
