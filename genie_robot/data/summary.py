"""What is in a dataset: counts, cameras, actions, motion, cuts, bad records, and a contact sheet to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.data.open import open_dataset
from genie_robot.data.registry import FACTS, action_layout
from genie_robot.data.resize import resize_frame
from genie_robot.data.rlds import EpisodeSource, RldsDataset
from genie_robot.data.segments import BLACK_LEVEL, STILL_CHANGE, find_segments, step_changes
from genie_robot.errors import DataError

_CUT_HW = (64, 64)  # the size at which `segments.py` was tuned
_LABEL_PIXELS = 16
_GAP_PIXELS = 2
_MOST_SAID = 20  # instructions and bad records that are listed


@dataclass
class SplitSummary:
    """Counts of one split; `frame_counts` has one number per episode, `change_sum` adds up mean |d| (of 255) by step."""

    episodes: int = 0
    frames: int = 0
    bad_records: int = 0
    bad: list[str] = field(default_factory=list)
    frame_counts: list[int] = field(default_factory=list)
    steps: int = 0
    still_steps: int = 0
    change_sum: float = 0.0
    cuts: int = 0
    black_frames: int = 0
    instructions: dict[str, int] = field(default_factory=dict)
    sizes: set[tuple[int, int]] = field(default_factory=set)


@dataclass(frozen=True)
class CameraSummary:
    """A camera by its first episode: size (None: no frame), the registry's role for it, whether it is used, or black."""

    key: str
    height: int | None
    width: int | None
    role: str
    used: bool
    black: bool


@dataclass
class SheetRow:
    """A row of the contact sheet: a label and a few frames, uint8 (K, Y, X, 3)."""

    label: str
    frames_KYXC: np.ndarray


@dataclass
class DatasetSummary:
    """What `inspect_dataset` found; `as_dict` is the machine-readable form of `data inspect --json`."""

    name: str
    version: str
    folder: str
    rate_hz: float
    cameras: list[CameraSummary]
    actions: str
    splits: dict[str, SplitSummary]
    rows: list[SheetRow]

    def as_dict(self) -> dict[str, Any]:
        """Keys: episodes, frames, height, width, rate_hz, bad_records of the whole; the same and more per split."""
        parts = self.splits.values()
        sizes = sorted(set().union(*(part.sizes for part in parts)))
        height, width = sizes[0] if len(sizes) == 1 else (None, None)
        counts = [count for part in parts for count in part.frame_counts]
        steps = sum(part.steps for part in parts)
        change, still = sum(part.change_sum for part in parts), sum(part.still_steps for part in parts)
        return {
            "name": self.name,
            "version": self.version,
            "folder": self.folder,
            "episodes": sum(part.episodes for part in parts),
            "frames": sum(part.frames for part in parts),
            "height": height,
            "width": width,
            "sizes": [list(size) for size in sizes],
            "rate_hz": self.rate_hz,
            "cameras": [asdict(camera) for camera in self.cameras],
            "actions": self.actions,
            "bad_records": sum(part.bad_records for part in parts),
            "frames_per_episode": _spread(counts),
            "mean_step_change": round(change / steps, 3) if steps else None,
            "still_steps": round(still / steps, 4) if steps else None,
            "cuts": sum(part.cuts for part in parts),
            "black_frames": sum(part.black_frames for part in parts),
            "registry": asdict(FACTS[self.name]) if self.name in FACTS else None,
            "splits": {name: _split_dict(part) for name, part in self.splits.items()},
        }


def _spread(counts: Sequence[int]) -> dict[str, float] | None:
    if not counts:
        return None
    return {"min": min(counts), "median": float(np.median(counts)), "max": max(counts)}


def _split_dict(part: SplitSummary) -> dict[str, Any]:
    content = asdict(part)
    for name in ("frame_counts", "steps", "still_steps", "change_sum", "sizes"):
        del content[name]
    common = sorted(part.instructions.items(), key=lambda item: -item[1])[:_MOST_SAID]
    return {**content, "frames_per_episode": _spread(part.frame_counts), "instructions": dict(common)}


def inspect_dataset(
    path: str | Path,
    split: str | None = None,
    max_episodes: int | None = None,
    *,
    image_key: str | None = None,
    rate_hz: float | None = None,
    root: str | Path | None = None,
    sheet_rows: int = 8,
    sheet_columns: int = 10,
) -> DatasetSummary:
    """Read every episode (or `max_episodes` of each split) once, passing over bad records and counting them.

    Of the cameras that are not used, the first episode is read too. No action is parsed.
    """
    dataset = open_dataset(path, rate_hz, root)
    names = [split] if split else list(dataset.splits)
    rows: list[SheetRow] = []
    parts: dict[str, SplitSummary] = {}
    rows_each = -(-sheet_rows // max(len(names), 1))
    for name in names:
        part = parts[name] = SplitSummary()
        total = min(dataset.splits.get(name, 0), max_episodes or dataset.splits.get(name, 0))
        chosen = set(np.linspace(0, max(total - 1, 0), rows_each).round().astype(int).tolist())
        episodes = dataset.episodes(name, image_key=image_key, skip_bad=True)
        for number, episode in enumerate(islice(episodes, max_episodes)):
            _count(part, episode)
            if number in chosen and episode.num_frames:
                label = f"{episode.source}  {episode.num_frames} frames  {episode.instruction}"
                rows.append(_row(label, episode, sheet_columns))
        part.bad_records = dataset.bad_records
        part.bad = [str(error) for error in dataset.bad[:_MOST_SAID]]
    cameras, camera_rows = _cameras(dataset, names[0], image_key, sheet_columns) if names else ([], [])
    return DatasetSummary(
        dataset.name,
        dataset.version,
        str(dataset.folder),
        round(1.0 / dataset.dt_s, 6),
        cameras,
        _actions(dataset, names[0]) if names else "",
        parts,
        rows + camera_rows,
    )


def _count(part: SplitSummary, episode: Episode) -> None:
    frames_TYXC = episode.frames_TYXC
    part.episodes += 1
    part.frames += episode.num_frames
    part.frame_counts.append(episode.num_frames)
    part.instructions[episode.instruction] = part.instructions.get(episode.instruction, 0) + 1
    if not episode.num_frames:
        return
    part.sizes.add((int(frames_TYXC.shape[1]), int(frames_TYXC.shape[2])))
    changes = step_changes(frames_TYXC)
    part.steps += len(changes)
    part.change_sum += float(changes.sum())
    part.still_steps += int((changes < STILL_CHANGE).sum())
    small_TYXC = np.stack([resize_frame(frame, *_CUT_HW) for frame in frames_TYXC])
    segments = find_segments(small_TYXC, step_changes(small_TYXC))
    part.black_frames += episode.num_frames - sum(len(segment) for segment in segments)
    part.cuts += max(len(segments) - 1, 0)


def _row(label: str, episode: Episode, columns: int) -> SheetRow:
    steps = np.linspace(0, episode.num_frames - 1, columns).round().astype(int)
    return SheetRow(label, episode.frames_TYXC[steps])


def _cameras(
    dataset: EpisodeSource, split: str, image_key: str | None, columns: int
) -> tuple[list[CameraSummary], list[SheetRow]]:
    """All cameras by their first episode, and a row of frames of each that is not used."""
    used = dataset.camera(image_key)
    layout = getattr(dataset, "layout", dataset.name)
    known = FACTS[layout].cameras if layout in FACTS else ()
    roles = {camera.key: camera.role for camera in known}
    cameras, rows = [], []
    for key in sorted(dataset.cameras):
        facts = {"role": roles.get(key, ""), "used": key == used}
        episode = next(_first_episode(dataset, split, key), None)
        if episode is None or not episode.num_frames:
            cameras.append(CameraSummary(key, None, None, black=False, **facts))
            continue
        height, width = episode.frames_TYXC.shape[1:3]
        black = float(episode.frames_TYXC.mean()) < BLACK_LEVEL
        cameras.append(CameraSummary(key, height, width, black=black, **facts))
        if key != used:
            rows.append(_row(f"camera {key} (not used): {episode.source}", episode, columns))
    return cameras, rows


def _first_episode(dataset: EpisodeSource, split: str, key: str) -> Iterator[Episode]:
    for part in dataset.parts(split)[:1]:
        yield from dataset.episodes(split, image_key=key, skip_bad=True, numbers=part[:1])


def _actions(dataset: EpisodeSource, split: str) -> str:
    """Whether actions in the common convention can be had, and how well it is known what the stored numbers mean."""
    try:
        dataset.episodes(split, actions=True)
    except DataError as error:
        return f"none: {error}"
    if not isinstance(dataset, RldsDataset):
        return "7 numbers a step"
    one = action_layout(dataset.layout, dataset.features)
    if one is None:
        return "7 numbers a step, taken as they are"
    gripper = f"; gripper {one.gripper_as} from {one.gripper}" if one.gripper else ""
    turn = f"; rotation as {one.rotation_as} from {one.rotation}" if one.rotation else ""
    return f"{one.kind} from {one.move}{turn}{gripper} ({one.sure})"


def contact_sheet(rows: Sequence[SheetRow], tile_height: int = 96) -> np.ndarray:
    """Rows of frames under their labels as one uint8 RGB image; a label's letters outside ASCII are shown as '?'."""
    strips: list[np.ndarray] = []
    for row in rows:
        width = max(1, round(row.frames_KYXC.shape[2] * tile_height / row.frames_KYXC.shape[1]))
        tiles = [resize_frame(frame, tile_height, width) for frame in row.frames_KYXC]
        padded = [cv2.copyMakeBorder(t, 0, _GAP_PIXELS, 0, _GAP_PIXELS, cv2.BORDER_CONSTANT) for t in tiles]
        strip = np.concatenate(padded, axis=1)
        label = np.zeros((_LABEL_PIXELS, strip.shape[1], 3), np.uint8)
        text = row.label.encode("ascii", errors="replace").decode()
        cv2.putText(label, text, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
        strips.append(np.concatenate([label, strip]))
    if not strips:
        return np.zeros((tile_height, tile_height, 3), np.uint8)
    width = max(strip.shape[1] for strip in strips)
    return np.concatenate(
        [cv2.copyMakeBorder(s, 0, 0, 0, width - s.shape[1], cv2.BORDER_CONSTANT) for s in strips]
    )
