"""The clip cache: every episode decoded and resized once, as one uint8 memory map that training reads at random.

    cache = build_clip_cache("datasets/tabletop", "outputs/cache/train", 64, 64, split="train")
    cache.clip(3)        # uint8 (T, Y, X, 3), a view of the file

A cache is a folder: `frames.u8` (raw uint8, F x Y x X x 3) and `index.json` (episode offsets, rates, sources, the
hash of what it was made from). It holds no actions. It is rebuilt when its sources or its settings changed.

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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from genie_robot.data.atomic import whole_folder
from genie_robot.data.episode import Episode
from genie_robot.data.rlds import EpisodeSource, RldsDataset, open_dataset
from genie_robot.errors import ConfigError, DataError, DatasetNotFoundError

log = logging.getLogger(__name__)

HELD_OUT_EVERY = 20
_FORMAT = 1  # raise when the file layout or the resize rule changes: old caches are then rebuilt
_FRAMES, _INDEX = "frames.u8", "index.json"
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
        path = folder / _FRAMES
        wanted, got = int(np.prod(shape)), path.stat().st_size
        if wanted != got:
            raise DataError(
                f"{path} has {got} bytes; wanted {wanted}: remove {folder} so that it is built again"
            )
        empty = np.zeros(shape, np.uint8)  # an empty file cannot be mapped
        self.frames_FYXC = np.memmap(path, np.uint8, "r", shape=shape) if self.num_frames else empty

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
) -> ClipCache:
    """Decode and resize the episodes of one or more datasets into `out_dir`, or reuse it when nothing changed.

    `max_episodes` is per dataset. Raises what the reader raises, ConfigError for a size below 1, DiskFullError.
    The cache is written beside `out_dir` and renamed: a killed run leaves an old cache as it was.
    """
    if height < 1 or width < 1 or (max_episodes is not None and max_episodes < 1):
        got = f"height={height}, width={width}, max_episodes={max_episodes}"
        raise ConfigError(f"got {got}; wanted numbers of at least 1")
    single = isinstance(dataset_paths, str | Path)
    datasets = [open_dataset(path, rate_hz) for path in ([dataset_paths] if single else dataset_paths)]
    folder = Path(out_dir)
    settings = [_FORMAT, height, width, split, max_episodes, image_key, skip_bad]
    source_hash = _hash_sources(datasets, settings)
    if (folder / _INDEX).exists():
        try:
            cache = ClipCache.open(folder)
            if cache.hash == source_hash:
                log.info(
                    "reusing clip cache %s: %d episodes, %d frames", folder, len(cache), cache.num_frames
                )
                return cache
            log.info("rebuilding clip cache %s: its sources or settings changed", folder)
        except DataError as error:
            log.warning("rebuilding clip cache: %s", error)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists and is no clip cache; wanted a new or empty folder: give another one"
        )
    index = {"format": _FORMAT, "height": height, "width": width, "split": split, "hash": source_hash}
    with whole_folder(folder) as temporary:
        with (temporary / _FRAMES).open("wb") as file:
            episodes = _chosen_episodes(datasets, split, max_episodes, image_key, (height, width), skip_bad)
            index["episodes"] = _write_frames(file, episodes)
        index["bad_records"] = sum(dataset.bad_records for dataset in datasets)
        (temporary / _INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    cache = ClipCache.open(folder)
    log.info("built clip cache %s: %d episodes, %d frames", folder, len(cache), cache.num_frames)
    return cache


def episodes_of_split(
    dataset: EpisodeSource,
    split: str,
    *,
    actions: bool = False,
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


def _chosen_episodes(
    datasets: Sequence[EpisodeSource],
    split: str,
    max_episodes: int | None,
    image_key: str | None,
    image_hw: tuple[int, int],
    skip_bad: bool,
) -> Iterator[Episode]:
    for dataset in datasets:
        chosen = episodes_of_split(dataset, split, image_key=image_key, image_hw=image_hw, skip_bad=skip_bad)
        for count, episode in enumerate(chosen):
            if count == max_episodes:
                break
            yield episode


def _write_frames(file: BinaryIO, episodes: Iterator[Episode]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    offset = 0
    # disable=None: no bar where nobody looks (a pipe or a log file)
    for episode in tqdm(episodes, desc="clip cache", unit=" episodes", disable=None):
        file.write(np.ascontiguousarray(episode.frames_TYXC).data)
        entry = ClipEntry(offset, episode.num_frames, episode.dt_s, episode.source, episode.instruction)
        entries.append(asdict(entry))
        offset += episode.num_frames
    return entries


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
