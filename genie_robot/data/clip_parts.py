"""The parts of a clip cache while it is built: one for each shard of the source, written in threads, then joined.

A part is there when its index file is, so a killed build goes on with what is missing. Joining appends each part to the
cache's files and removes it when it is safely in, so it needs room for one part more, and can be killed as well.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from tqdm import tqdm

from genie_robot.data.atomic import full_disk_is_said, whole_file
from genie_robot.data.clips import ACTIONS, CHANGES, FRAMES
from genie_robot.data.commands import commands, poses_of
from genie_robot.data.episode import Episode
from genie_robot.data.labels import is_labelled
from genie_robot.data.rlds import EpisodeSource
from genie_robot.data.segments import find_segments, step_changes
from genie_robot.errors import CorruptRecordError, DataError


@dataclass(frozen=True)
class Plan:
    """What to build: the episodes of each part by number, in `split` of `source`, and how; at most `most_bad` may be lost."""

    source: EpisodeSource
    split: str
    parts: Sequence[frozenset[int]]
    image_hw: tuple[int, int]
    image_key: str | None
    stride: int
    label_share: float
    commanded_poses: bool
    most_bad: int
    folder: Path


@dataclass
class _Progress:
    """What all threads share: the bar, the records that could not be read, and whether to stop (Ctrl-C, an error)."""

    bar: Any
    lost: int = 0
    stopped: bool = False
    lock: Lock = field(default_factory=Lock)


def make_parts(plan: Plan, workers: int) -> None:
    """Write every part that is not there yet; the first error stops all, what is finished stays."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(len(plan.parts)) if not part_index(plan.folder, number).exists()]
    total = sum(len(part) for part in plan.parts)
    # disable=None: no bar where nobody looks (a pipe or a log file)
    name = f"clip cache {plan.source.name}/{plan.split}"
    bar = tqdm(desc=name, total=total, unit=" episodes", disable=None)
    with bar, ThreadPoolExecutor(max(1, min(workers, len(missing)))) as pool:
        bar.update(total - sum(len(plan.parts[number]) for number in missing))
        done = set(range(len(plan.parts))) - set(missing)
        progress = _Progress(bar, sum(read_part(plan.folder, number)["lost"] for number in done))
        futures = [pool.submit(_make_part, plan, number, progress) for number in missing]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            progress.stopped = True
            for future in futures:
                future.cancel()


def _make_part(plan: Plan, part: int, progress: _Progress) -> None:
    """Frames, changes and actions of the part's episodes, and last its index: with it the part is there."""
    source = copy(plan.source)
    rows: list[tuple[int, int, int, int]] = []
    texts: list[str] = []
    changes, labels = [np.zeros(0, np.float32)], []
    with whole_file(part_file(plan.folder, FRAMES, part)) as file:
        offset = 0
        for episode in _episodes(plan, source, part, progress):
            steps = step_changes(episode.frames_TYXC)
            numbers_TA = _robot_numbers(plan, source, episode)
            for segment in find_segments(episode.frames_TYXC, steps):
                piece = slice(segment.start, segment.stop)
                file.write(np.ascontiguousarray(episode.frames_TYXC[piece]).data)
                changes.append(np.append(steps[segment.start : segment.stop - 1], np.float32(0)))
                labels.append(None if numbers_TA is None else numbers_TA[piece])
                rows.append((offset, len(segment), segment.start, episode_number(episode)))
                texts.append(episode.instruction)
                offset += len(segment)
            progress.bar.update()
    _write_array(part_file(plan.folder, CHANGES, part), np.concatenate(changes))
    if plan.label_share:
        _write_array(part_file(plan.folder, ACTIONS, part), _label_rows(rows, labels, offset))
    known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    content = {
        "rows": [(*row, known[text]) for row, text in zip(rows, texts, strict=True)],
        "texts": list(known),
    }
    content |= {"frames": offset, "lost": source.bad_records, "bad": [str(error) for error in source.bad]}
    with whole_file(part_index(plan.folder, part)) as file:
        file.write(json.dumps(content, ensure_ascii=False).encode())


def _episodes(plan: Plan, source: EpisodeSource, part: int, progress: _Progress) -> Iterator[Episode]:
    """The episodes of a part; CorruptRecordError when too many of all cannot be read."""
    actions = partial(is_labelled, share=plan.label_share) if plan.label_share else False
    episodes = source.episodes(
        plan.split,
        actions,
        image_key=plan.image_key,
        image_hw=plan.image_hw,
        skip_bad=plan.most_bad > 0,
        numbers=plan.parts[part],
        stride=plan.stride,
        state=plan.commanded_poses,
    )
    counted = 0
    for episode in episodes:
        counted = _count_lost(plan, source, counted, progress)
        if progress.stopped:
            raise DataError(f"{plan.folder}: stopped; run the same command again to go on")
        yield episode
    _count_lost(plan, source, counted, progress)


def _robot_numbers(plan: Plan, source: EpisodeSource, episode: Episode) -> np.ndarray | None:
    """The robot's actions (T, A) of an episode, with the poses that they command where these are wanted."""
    if episode.actions_TA is None or not plan.commanded_poses:
        return episode.actions_TA
    names = getattr(source, "state_names", [])
    start_S = np.zeros(0) if episode.state_TS is None else episode.state_TS[0]
    return commands(poses_of(start_S, names), episode.actions_TA)


def _count_lost(plan: Plan, source: EpisodeSource, counted: int, progress: _Progress) -> int:
    if source.bad_records == counted:
        return counted
    with progress.lock:
        progress.lost += source.bad_records - counted
        if progress.lost > plan.most_bad:
            raise CorruptRecordError(
                f"{source.name}/{plan.split}: {progress.lost} records cannot be read, more than data.max_bad_share "
                f"allows ({plan.most_bad}); the last: {source.bad[-1]}"
            )
    return source.bad_records


def _label_rows(
    rows: Sequence[Sequence[int]], labels: Sequence[np.ndarray | None], num_frames: int
) -> np.ndarray:
    """Actions (F, A) of a part, NaN for clips without and for last frames (no frame follows them)."""
    size = next((actions.shape[1] for actions in labels if actions is not None), 7)
    labels_FA = np.full((num_frames, size), np.nan, np.float32)
    for (offset, count, *_), actions_TA in zip(rows, labels, strict=True):
        if actions_TA is not None:
            labels_FA[offset : offset + count - 1] = actions_TA[: count - 1]
    return labels_FA


def join_parts(folder: Path, name: str, count: int) -> None:
    """Append the part files of `name` to one file, each removed when it is safely in; a killed join goes on."""
    target = folder / name
    sizes_path = folder / f"{name}.sizes"
    if not sizes_path.exists():  # written once, while every part is still there
        sizes = [part_file(folder, name, part).stat().st_size for part in range(count)]
        with whole_file(sizes_path) as file:
            file.write(json.dumps(sizes).encode())
    sizes = json.loads(sizes_path.read_text())
    there = target.stat().st_size if target.exists() else 0
    with full_disk_is_said(target), target.open("ab") as file:
        for part, (start, end) in enumerate(
            zip(accumulate(sizes, initial=0), accumulate(sizes), strict=False)
        ):
            path = part_file(folder, name, part)
            if end > there:
                file.truncate(start)
                with path.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 22)
                file.flush()
                os.fsync(file.fileno())
            path.unlink(missing_ok=True)


def part_file(folder: Path, name: str, part: int) -> Path:
    """Where the part of a file of the cache is, until it is joined."""
    return folder / f"{name}.{part:05d}"


def part_index(folder: Path, part: int) -> Path:
    """The file that says that a part is there, and what is in it."""
    return folder / f"part_{part:05d}.json"


def read_part(folder: Path, part: int) -> dict[str, Any]:
    """What `part_index` says."""
    return json.loads(part_index(folder, part).read_text(encoding="utf-8"))


def episode_number(episode: Episode) -> int:
    """Number of an episode in its split."""
    return int(episode.source.rsplit("/", 1)[1])


def _write_array(path: Path, array: np.ndarray) -> None:
    with whole_file(path) as file:
        file.write(np.ascontiguousarray(array).data)
