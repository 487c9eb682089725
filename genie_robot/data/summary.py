"""What is in a dataset: counts, sizes, motion, bad records, and a contact sheet to look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.data.open import open_dataset
from genie_robot.data.resize import resize_frame
from genie_robot.data.rlds import EpisodeSource

_STILL = 1.0  # a step with a smaller mean change (of 255) than this counts as still
_LABEL_PIXELS = 16
_GAP_PIXELS = 2


@dataclass
class SplitSummary:
    """Counts of one split; `frame_counts` has one number per episode, `change_sum` adds up mean |d| (of 255) by step."""

    episodes: int = 0
    frames: int = 0
    bad_records: int = 0
    frame_counts: list[int] = field(default_factory=list)
    steps: int = 0
    still_steps: int = 0
    change_sum: float = 0.0
    instructions: dict[str, int] = field(default_factory=dict)
    sizes: set[tuple[int, int]] = field(default_factory=set)


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
    rate_hz: float
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
            "episodes": sum(part.episodes for part in parts),
            "frames": sum(part.frames for part in parts),
            "height": height,
            "width": width,
            "sizes": [list(size) for size in sizes],
            "rate_hz": self.rate_hz,
            "bad_records": sum(part.bad_records for part in parts),
            "frames_per_episode": _spread(counts),
            "mean_step_change": round(change / steps, 3) if steps else None,
            "still_steps": round(still / steps, 4) if steps else None,
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
    common = sorted(part.instructions.items(), key=lambda item: -item[1])[:20]
    return {**content, "frames_per_episode": _spread(part.frame_counts), "instructions": dict(common)}


def inspect_dataset(
    path: str | Path,
    split: str | None = None,
    max_episodes: int | None = None,
    *,
    image_key: str | None = None,
    rate_hz: float | None = None,
    sheet_rows: int = 8,
    sheet_columns: int = 10,
) -> DatasetSummary:
    """Read every episode (or `max_episodes` of each split) once, passing over bad records and counting them."""
    dataset = open_dataset(path, rate_hz)
    names = [split] if split else list(dataset.splits)
    summary = DatasetSummary(dataset.name, dataset.version, round(1.0 / dataset.dt_s, 6), {}, [])
    rows_each = -(-sheet_rows // max(len(names), 1))
    for name in names:
        part = SplitSummary()
        summary.splits[name] = part
        total = min(dataset.splits.get(name, 0), max_episodes or dataset.splits.get(name, 0))
        chosen = set(np.linspace(0, max(total - 1, 0), rows_each).round().astype(int).tolist())
        for number, episode in enumerate(_first(dataset, name, max_episodes, image_key)):
            _count(part, episode.frames_TYXC, episode.instruction)
            if number in chosen and episode.num_frames:
                columns = np.linspace(0, episode.num_frames - 1, sheet_columns).round().astype(int)
                label = f"{episode.source}  {episode.num_frames} frames  {episode.instruction}"
                summary.rows.append(SheetRow(label, episode.frames_TYXC[columns]))
        part.bad_records = dataset.bad_records
    return summary


def _first(dataset: EpisodeSource, split: str, limit: int | None, image_key: str | None) -> Iterator[Episode]:
    for number, episode in enumerate(dataset.episodes(split, image_key=image_key, skip_bad=True)):
        if number == limit:
            return
        yield episode


def _count(part: SplitSummary, frames_TYXC: np.ndarray, instruction: str) -> None:
    part.episodes += 1
    part.frames += len(frames_TYXC)
    part.frame_counts.append(len(frames_TYXC))
    part.instructions[instruction] = part.instructions.get(instruction, 0) + 1
    if len(frames_TYXC):
        part.sizes.add((int(frames_TYXC.shape[1]), int(frames_TYXC.shape[2])))
    for before, after in itertools.pairwise(frames_TYXC):
        change = float(cv2.absdiff(before, after).mean())
        part.steps, part.change_sum = part.steps + 1, part.change_sum + change
        part.still_steps += change < _STILL


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
