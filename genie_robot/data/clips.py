"""The clip cache: every episode decoded and resized once, as one uint8 memory map that training reads at random.

    cache = build_clip_cache("datasets/tabletop", "outputs/cache/train", 64, 64, split="train")
    cache.clip(3)        # uint8 (T, Y, X, 3), a view of the file

A cache is a folder: `frames.u8` (raw uint8, F x Y x X x 3) and `index.json` (episode offsets, rates, sources, the
hash of what it was made from). It is rebuilt when its sources or its settings changed. It holds no actions, unless
`label_share` asks for those of some episodes: then `actions.f32` (raw float32, F x A) holds them as the dataset has
them (`Episode.actions_TA`: row t leads from frame t to t+1), and NaN for other episodes and for last frames.

Held-out episodes: `split="val"` is the dataset's own `val` or `validation` split. A dataset without one is divided by
episode number n: n % k == k - 1 is held out, k = 20 or, in a smaller dataset, its number of episodes (so: the last).
`split="train"` of such a dataset is the rest. Any other split name is taken as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from genie_robot.data.atomic import whole_folder
from genie_robot.data.episode import Episode
from genie_robot.data.labels import is_labelled, write_labels
from genie_robot.data.open import open_dataset
from genie_robot.data.rlds import ActionChoice, EpisodeSource, RldsDataset
from genie_robot.errors import ConfigError, DataError, DatasetNotFoundError

log = logging.getLogger(__name__)

HELD_OUT_EVERY = 20
_FORMAT = 1  # raise when the file layout or the resize rule changes: old caches are then rebuilt
_FRAMES, _ACTIONS, _INDEX = "frames.u8", "actions.f32", "index.json"
_OWN_HELD_OUT = ("val", "validation")


@dataclass(frozen=True)
class ClipEntry:
    """One episode in the cache: first frame `offset`, `num_frames`, seconds a frame, where it came from, its text."""

    offset: int
    num_frames: int
    dt_s: float
    source: str
    instruction: str = ""


class ClipCache:
    """A finished cache folder, opened for reading; `open` it, or get it from `build_clip_cache`."""

    def __init__(self, folder: Path, index: dict[str, Any]) -> None:
        self.folder = folder
        self.height, self.width = int(index["height"]), int(index["width"])
        self.hash = str(index["hash"])
        self.bad_records = int(index["bad_records"])
        self.episodes: tuple[ClipEntry, ...] = tuple(ClipEntry(**entry) for entry in index["episodes"])
        self.num_frames = sum(entry.num_frames for entry in self.episodes)
        shape = (self.num_frames, self.height, self.width, 3)
        self.frames_FYXC = _map(folder / _FRAMES, np.uint8, shape)
        labels = index.get("labels")
        self.labels_FA: np.ndarray | None = None
        if labels is not None:
            self._label_mean_A = np.array(labels["mean"], np.float32)
            self._label_deviation_A = np.array(labels["deviation"], np.float32)
            shape = (self.num_frames, len(self._label_mean_A))
            self.labels_FA = _map(folder / _ACTIONS, np.float32, shape)

    @classmethod
    def open(cls, folder: str | Path) -> ClipCache:
        """Open a finished cache; DatasetNotFoundError when there is none, DataError when it is not whole."""
        path = Path(folder) / _INDEX
        try:
            return cls(Path(folder), json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise DatasetNotFoundError(
                f"{folder} is no clip cache ({error.filename} is missing); build it"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{path} cannot be read ({error!r}); remove {folder} so that it is built again"
            ) from error

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    def __reduce__(self) -> tuple[Any, ...]:
        return ClipCache.open, (self.folder,)  # a pickled memory map would carry every frame

    def clip(self, number: int) -> np.ndarray:
        """All frames of an episode, uint8 (T, Y, X, 3), a read-only view."""
        entry = self.episodes[number]
        return self.frames_FYXC[entry.offset : entry.offset + entry.num_frames]

    def standard_labels(self, first: int, count: int) -> np.ndarray:
        """Robot actions of `count` frames of the file from number `first`: float32 (count, A), NaN where unlabelled.

        Each number has mean 0 and deviation 1 over the labelled steps of this cache (the index keeps both).
        """
        assert self.labels_FA is not None, "the cache was built without labels"
        return (self.labels_FA[first : first + count] - self._label_mean_A) / self._label_deviation_A


def _map(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """A file as an array, read where it is touched (an empty one cannot be mapped); DataError for another size."""
    wanted, got = int(np.prod(shape)) * np.dtype(dtype).itemsize, path.stat().st_size
    if wanted != got:
        raise DataError(
            f"{path} has {got} bytes; wanted {wanted}: remove {path.parent} so that it is built again"
        )
    return np.memmap(path, dtype, "r", shape=shape) if wanted else np.zeros(shape, dtype)


def build_clip_cache(
    dataset_paths: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    height: int,
    width: int,
    split: str = "train",
    max_episodes: int | None = None,
    *,
    image_key: str | None = None,
    rate_hz: float | None = None,
    skip_bad: bool = False,
    label_share: float = 0.0,
) -> ClipCache:
    """Decode and resize the episodes of one or more datasets into `out_dir`, or reuse it when nothing changed.

    `max_episodes` is per dataset. `label_share`: share of the episodes whose robot actions are read and kept, chosen by
    a hash of where they come from (a larger share contains a smaller one); of all others no action is read.
    Raises what the reader raises, ConfigError for a size below 1 or a share that no episode falls into, DiskFullError.
    The cache is written beside `out_dir` and renamed: a killed run leaves an old cache as it was.
    """
    smallest = min(height, width, 1 if max_episodes is None else max_episodes)
    if smallest < 1 or not 0 <= label_share <= 1:
        got = f"height={height}, width={width}, max_episodes={max_episodes}, label_share={label_share}"
        raise ConfigError(f"got {got}; wanted numbers of at least 1, and a share between 0 and 1")
    single = isinstance(dataset_paths, str | Path)
    datasets = [open_dataset(path, rate_hz) for path in ([dataset_paths] if single else dataset_paths)]
    folder = Path(out_dir)
    settings = [_FORMAT, height, width, split, max_episodes, image_key, skip_bad]
    settings += [label_share] if label_share else []  # a cache without labels keeps its hash of old
    source_hash = _hash_sources(datasets, settings)
    reusable = _reusable(folder, source_hash)
    if reusable is not None:
        return reusable
    reading = {
        "actions": partial(is_labelled, share=label_share) if label_share else False,
        "image_key": image_key,
        "image_hw": (height, width),
        "skip_bad": skip_bad,
    }
    index = {"format": _FORMAT, "height": height, "width": width, "split": split, "hash": source_hash}
    with whole_folder(folder) as temporary:
        episodes = (
            episode
            for dataset in datasets
            for episode in islice(episodes_of_split(dataset, split, **reading), max_episodes)
        )
        with (temporary / _FRAMES).open("wb") as file:
            index["episodes"], actions, num_frames = _write_frames(file, episodes)
        if label_share:
            index["labels"] = write_labels(temporary / _ACTIONS, actions, num_frames, label_share)
        index["bad_records"] = sum(dataset.bad_records for dataset in datasets)
        (temporary / _INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    cache = ClipCache.open(folder)
    log.info("built clip cache %s: %d episodes, %d frames", folder, len(cache), cache.num_frames)
    return cache


def _reusable(folder: Path, source_hash: str) -> ClipCache | None:
    """The cache in `folder` when it was made from the same; None when it must be built; ConfigError when it is no cache."""
    if (folder / _INDEX).exists():
        try:
            cache = ClipCache.open(folder)
        except DataError as error:
            log.warning("rebuilding clip cache: %s", error)
            return None
        if cache.hash != source_hash:
            log.info("rebuilding clip cache %s: its sources or settings changed", folder)
            return None
        log.info("reusing clip cache %s: %d episodes, %d frames", folder, len(cache), cache.num_frames)
        return cache
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists and is no clip cache; wanted a new or empty folder: give another one"
        )
    return None


def episodes_of_split(
    dataset: EpisodeSource,
    split: str,
    *,
    actions: ActionChoice = False,
    state: bool = False,
    image_key: str | None = None,
    image_hw: tuple[int, int] | None = None,
    skip_bad: bool = False,
) -> Iterator[Episode]:
    """Episodes of `train` or `val` by the rule in this file's docstring; same arguments as `episodes`."""

    def read(name: str) -> Iterator[Episode]:
        return dataset.episodes(name, actions, state, image_key, image_hw=image_hw, skip_bad=skip_bad)

    splits = dataset.splits
    own = next((name for name in _OWN_HELD_OUT if name in splits), None)
    if split not in ("train", "val") or (split == "val" and own):
        return read(own if split == "val" and own else split)
    if own:
        return read("train")
    period = min(HELD_OUT_EVERY, splits.get("train", 0))
    if split == "val" and period < 2:
        raise DataError(
            f"{dataset.name} has {period} training episode(s) and no val split; wanted 2 to hold one out"
        )
    if period < 2:
        return read("train")
    return (e for e in read("train") if (_number(e) % period == period - 1) == (split == "val"))


def _number(episode: Episode) -> int:
    return int(episode.source.rsplit("/", 1)[1])


def _write_frames(
    file: BinaryIO, episodes: Iterator[Episode]
) -> tuple[list[dict[str, Any]], dict[int, np.ndarray], int]:
    """Index entries of the episodes, actions (T,A) of those that have some by their first frame, number of frames."""
    entries: list[dict[str, Any]] = []
    actions: dict[int, np.ndarray] = {}
    offset = 0
    # disable=None: no bar where nobody looks (a pipe or a log file)
    for episode in tqdm(episodes, desc="clip cache", unit=" episodes", disable=None):
        file.write(np.ascontiguousarray(episode.frames_TYXC).data)
        entry = ClipEntry(offset, episode.num_frames, episode.dt_s, episode.source, episode.instruction)
        entries.append(asdict(entry))
        if episode.actions_TA is not None and episode.num_frames:
            actions[offset] = episode.actions_TA
        offset += episode.num_frames
    return entries, actions, offset


def _hash_sources(datasets: Sequence[EpisodeSource], settings: Sequence[Any]) -> str:
    """Hash of the settings and of every file of each dataset: name, size, time of change; small files by content."""
    digest = hashlib.sha256(json.dumps(list(settings)).encode())
    for dataset in datasets:
        digest.update(json.dumps([dataset.name, dataset.version, dataset.dt_s, dataset.splits]).encode())
        if not isinstance(dataset, RldsDataset):
            continue
        for path in sorted(dataset.folder.iterdir()):
            status = path.stat()
            digest.update(json.dumps([path.name, status.st_size]).encode())
            digest.update(path.read_bytes() if path.suffix == ".json" else str(status.st_mtime_ns).encode())
    return digest.hexdigest()
