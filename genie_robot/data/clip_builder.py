"""Build a clip cache: decode, cut, resample and resize the episodes of one dataset, in threads, going on after a kill.

The parts (`clip_parts.py`) are made in a folder beside the cache, which takes the cache's place when all are there: an old
cache stays as it was until then. One process builds at a time; others that want the same cache wait and then use it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.atomic import locked, replace_folder, whole_file
from genie_robot.data.clip_parts import Plan, join_parts, make_parts, part_index, read_part
from genie_robot.data.clips import ACTIONS, CHANGES, CLIP_TYPE, CLIPS, FORMAT, FRAMES, INDEX, ClipCache
from genie_robot.data.held_out import chosen_episodes
from genie_robot.data.labels import statistics
from genie_robot.data.open import open_dataset
from genie_robot.data.resample import stride_for
from genie_robot.data.rlds import EpisodeSource
from genie_robot.errors import ConfigError, DataError

log = logging.getLogger(__name__)

_STATISTICS_STEPS = 1_000_000  # evenly spread over the dataset; more change nothing that matters


def build_clip_cache(
    dataset: str | Path | EpisodeSource,
    out_dir: str | Path,
    height: int,
    width: int,
    split: str = "train",
    max_episodes: int | None = None,
    *,
    image_key: str | None = None,
    rate_hz: float = 0.0,
    label_share: float = 0.0,
    commanded_poses: bool = False,
    max_bad_share: float = 0.0,
    workers: int = 0,
) -> ClipCache:
    """Decode and resize the episodes of a dataset into `out_dir`, or reuse what is there when nothing changed.

    `split`: by the rule of `held_out.py`. `rate_hz`: common rate that the recording is brought to (`resample.py`), 0 as
    recorded. `label_share`: share of the episodes whose robot actions are read and kept, chosen by a hash of where they
    come from (a larger share contains a smaller one); of all others no action is read. `commanded_poses`: keep with each
    action the pose that it leads to (`data.commands`; simulated data alone). `max_bad_share`: the build stops
    when more of the records than this cannot be read; up to it they are left out, and named in `ClipCache.bad`.
    `workers`: threads, 0: one per core.
    Raises what the reader raises, CorruptRecordError, ConfigError for values that are not allowed, DiskFullError.
    """
    _check(height, width, max_episodes, label_share, max_bad_share)
    source = open_dataset(dataset) if isinstance(dataset, str | Path) else dataset
    stride = stride_for(source.name, 1 / source.dt_s, rate_hz)
    settings = [FORMAT, height, width, split, max_episodes, image_key, stride, label_share, max_bad_share]
    if commanded_poses:
        _check_rate_as_recorded(source, stride, rate_hz)
        settings.append("commanded_poses")
    made_from, folder = _hash_source(source, settings), Path(out_dir)
    if (reusable := _reusable(folder, made_from)) is not None:
        return reusable
    with locked(folder):
        if (reusable := _reusable(folder, made_from)) is not None:
            return reusable  # another process has built it meanwhile
        building = folder.with_name(f".{folder.name}.building-{made_from[:12]}")
        _remove_others(building, folder)
        own_split, numbers = chosen_episodes(source, split, max_episodes)
        plan = Plan(
            source,
            own_split,
            _parts(source.parts(own_split), frozenset(numbers)),
            (height, width),
            image_key,
            stride,
            label_share,
            commanded_poses,
            int(max_bad_share * source.records[own_split] * len(numbers) / source.splits[own_split]),
            building,
        )
        make_parts(plan, workers or os.cpu_count() or 1)
        _finish(plan, {"hash": made_from, "dataset": source.name, "dt_s": source.dt_s * stride})
        replace_folder(building, folder)
    return _said(ClipCache.open(folder), stride)


def _check_rate_as_recorded(source: EpisodeSource, stride: int, rate_hz: float) -> None:
    if stride > 1:
        raise ConfigError(
            f"{source.name}: recorded at {1 / source.dt_s:g} Hz and wanted at {rate_hz:g} Hz, with commanded poses; wanted "
            "model.video.rate_hz as recorded, for a pose follows from every single action"
        )


def _said(cache: ClipCache, stride: int) -> ClipCache:
    cuts = len(cache) - len(np.unique(cache.rows["episode"]))
    log.info(
        "clip cache %s: %d clips, %d frames at %.3g Hz%s, %d cut or black places, %d bad records",
        cache.folder,
        len(cache),
        cache.num_frames,
        1 / cache.dt_s,
        f" (one of {stride} as recorded)" if stride > 1 else "",
        cuts,
        cache.bad_records,
    )
    return cache


def _check(
    height: int, width: int, max_episodes: int | None, label_share: float, max_bad_share: float
) -> None:
    smallest = min(height, width, 1 if max_episodes is None else max_episodes)
    if smallest < 1 or not 0 <= label_share <= 1 or not 0 <= max_bad_share <= 1:
        got = f"{height=}, {width=}, {max_episodes=}, {label_share=}, {max_bad_share=}"
        raise ConfigError(f"got {got}; wanted numbers of at least 1, and shares between 0 and 1")


def _reusable(folder: Path, made_from: str) -> ClipCache | None:
    """The finished cache in `folder` when it was made from the same; ConfigError when something else is there."""
    if (folder / INDEX).exists():
        try:
            cache = ClipCache.open(folder)
        except DataError as error:
            log.warning("building the clip cache again: %s", error)
            return None
        if cache.hash != made_from:
            log.info("building clip cache %s again: its sources or settings changed", folder)
            return None
        log.info("reusing clip cache %s: %d clips, %d frames", folder, len(cache), cache.num_frames)
        return cache
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists and is no clip cache; wanted a new or empty folder: give another one"
        )
    return None


def _parts(pieces: Sequence[range], chosen: frozenset[int]) -> list[frozenset[int]]:
    """The chosen episode numbers of each piece of the source that has some."""
    inside = (frozenset(number for number in piece if number in chosen) for piece in pieces)
    return [part for part in inside if part]


def _finish(plan: Plan, facts: dict[str, Any]) -> None:
    """Join the parts into the cache's own files."""
    folder, count = plan.folder, len(plan.parts)
    parts = [read_part(folder, part) for part in range(count)]
    for name in (FRAMES, CHANGES, *([ACTIONS] if plan.label_share else [])):
        join_parts(folder, name, count)
    texts = {text: number for number, text in enumerate(dict.fromkeys(t for p in parts for t in p["texts"]))}
    rows, num_frames = [], 0
    for part in parts:
        for offset, length, first, episode, text in part["rows"]:
            rows.append((num_frames + offset, length, first, episode, texts[part["texts"][text]]))
        num_frames += part["frames"]
    table = np.array(rows, CLIP_TYPE)
    index = {"format": FORMAT, **facts, "split": plan.split, "num_frames": num_frames, "texts": list(texts)}
    index["height"], index["width"] = plan.image_hw
    index["contents"] = _hash_contents(table, folder / CHANGES)
    index["bad_records"] = sum(part["lost"] for part in parts)
    index["bad"] = [line for part in parts for line in part["bad"]]
    if plan.label_share:
        index["labels"] = statistics(_sample_rows(folder / ACTIONS, num_frames), plan.label_share).as_dict()
    with whole_file(folder / CLIPS) as file:
        np.save(file, table)
    with whole_file(folder / INDEX) as file:
        file.write(json.dumps(index, indent=1, ensure_ascii=False).encode())
    for path in (*(part_index(folder, part) for part in range(count)), *folder.glob("*.sizes")):
        path.unlink()


def _sample_rows(path: Path, num_frames: int) -> np.ndarray:
    """Evenly spread rows of the actions of a cache, (n, A), few enough to keep in memory."""
    if not num_frames:
        return np.zeros((0, 7), np.float32)
    actions_FA = np.memmap(path, np.float32, "r").reshape(num_frames, -1)
    return np.array(actions_FA[:: -(-num_frames // _STATISTICS_STEPS)])


def _hash_contents(table: np.ndarray, changes: Path) -> str:
    """Names what is in the cache, wherever it came from: the clips, and how much each step of them changes."""
    digest = hashlib.sha256(table.tobytes())
    with changes.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _remove_others(building: Path, folder: Path) -> None:
    """Remove what builds from other sources or settings left."""
    for path in folder.parent.glob(f".{folder.name}.building-*"):
        if path != building:
            shutil.rmtree(path, ignore_errors=True)


def _hash_source(source: EpisodeSource, settings: Sequence[Any]) -> str:
    """Hash of the settings and of every file of the dataset: name, size, time of change; small files by content."""
    digest = hashlib.sha256(json.dumps(list(settings)).encode())
    digest.update(json.dumps([source.name, source.version, source.dt_s, source.splits]).encode())
    for path in _files(source.folder):
        status = path.stat()
        digest.update(json.dumps([path.name, status.st_size]).encode())
        digest.update(path.read_bytes() if path.suffix == ".json" else str(status.st_mtime_ns).encode())
    return digest.hexdigest()


def _files(place: str | Path) -> list[Path]:
    """Every file of a dataset on this machine, [] for one that is elsewhere (gs://...)."""
    path = Path(place)
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
