"""Any dataset that `open_dataset` opens -> an RLDS dataset: bags and LeRobot folders in the layout that TFDS reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from tqdm import tqdm

from genie_robot.data.assemble import COMMON_ACTIONS, NO_ACTIONS
from genie_robot.data.rlds import EpisodeSource
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError, CorruptRecordError, DataError

log = logging.getLogger(__name__)

VERSION = "1.0.0"


@runtime_checkable
class StoresImages(Protocol):
    """A source that can hand on its encoded pictures as they are (`BagDataset`, `LeRobotDataset`)."""

    def stored_encoding(self, image_key: str | None = None) -> str | None:
        """Encoding of a camera's pictures, "png" or "jpeg"; None when they are no such files."""
        ...

    def encoded_episodes(
        self,
        split: str = "train",
        actions: bool = False,
        state: bool = False,
        image_key: str | None = None,
        *,
        skip_bad: bool = False,
        numbers: Collection[int] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Episodes as `rlds_writer.write_dataset` takes them."""
        ...


def convert_dataset(
    source: EpisodeSource,
    out: str | Path,
    *,
    name: str | None = None,
    image_key: str | None = None,
    image_hw: tuple[int, int] | None = None,
    val_share: float = 0.05,
    actions: bool = False,
    state: bool = False,
    lossless: bool = False,
    skip_bad: bool = False,
    overwrite: bool = False,
) -> tuple[Path, list[CorruptRecordError]]:
    """Write `out/name/1.0.0`; returns that folder and what was passed over (`skip_bad`).

    `image_hw` None keeps the size, and with it PNG and JPEG pictures as they are stored; every other picture becomes
    JPEG of quality 95 or, with `lossless`, PNG. A source with the split `train` alone gives its last recordings as `val`
    (`held_out`). An episode is cut where an action is not known. ConfigError for a name or share that is not allowed;
    errors of the reader and the writer.
    """
    name = name or re.sub(r"\W", "_", source.name)
    if not name.isidentifier() or not 0 <= val_share < 1:
        raise ConfigError(
            f"got name {name!r} and val_share {val_share}; wanted letters, digits and '_', and a share from 0 to below 1"
        )
    target = Path(out) / name / VERSION
    if target.exists() and not overwrite:  # said before the first episode is read
        raise ConfigError(f"{target} exists already; wanted a new place: give another one or overwrite it")
    division = _division(source, val_share)
    writer = _Conversion(source, image_key, image_hw, actions, state, lossless, skip_bad)
    folder = write_dataset(
        out,
        name,
        VERSION,
        {split: writer.episodes(own, numbers) for split, (own, numbers) in division.items()},
        writer.size,
        1.0 / source.dt_s,
        encoding=writer.encoding,
        state_names=writer.state_names,
        description=f"Converted from {source.name}.",
        metadata={
            "converted_from": source.name,
            "image_key": image_key,
            "actions": COMMON_ACTIONS if actions else NO_ACTIONS,
        },
        overwrite=overwrite,
    )
    return folder, writer.bad


def _division(source: EpisodeSource, val_share: float) -> dict[str, tuple[str, range | None]]:
    """New split -> (split of the source, episode numbers of it)."""
    splits = {split: count for split, count in source.splits.items() if count}
    if not splits:
        raise DataError(f"{source.name} has no episodes; wanted at least one")
    if list(splits) != ["train"] or not val_share:
        return {split: (split, None) for split in splits}
    count = splits["train"]
    recordings = source.recordings("train") or [range(n, n + 1) for n in range(count)]
    train, val = held_out(recordings, val_share)
    if not val:
        log.warning("%s is one short recording: nothing is held out", source.name)
        return {"train": ("train", None)}
    return {"train": ("train", train), "val": ("train", val)}


def held_out(recordings: Sequence[range], share: float) -> tuple[range, range]:
    """Episode numbers of train and val: about `share` of all, the last, in whole recordings; val may be empty.

    Frames of the same minute must not lie on both sides. Of a single recording its last pieces are held out, and the one
    before them belongs to neither.
    """
    count = recordings[-1].stop
    wanted = max(1, round(share * count))
    if len(recordings) > 1:
        starts = [recording.start for recording in recordings[1:]]
        first = min(starts, key=lambda start: abs(count - start - wanted))
        return range(first), range(first, count)
    first = max(2, count - wanted)
    return (range(first - 1), range(first, count)) if count > 2 else (range(count), range(0))


class _Conversion:
    """Reads a source as the writer wants it."""

    def __init__(
        self,
        source: EpisodeSource,
        image_key: str | None,
        image_hw: tuple[int, int] | None,
        actions: bool,
        state: bool,
        lossless: bool,
        skip_bad: bool,
    ) -> None:
        self._source, self._image_hw = source, image_hw
        self._reading: dict[str, Any] = {
            "actions": actions,
            "state": state,
            "image_key": image_key,
            "skip_bad": skip_bad,
        }
        stored = None
        if isinstance(source, StoresImages) and image_hw is None:
            stored = source.stored_encoding(image_key)
        self._keeps_bytes = stored is not None
        self.encoding = stored or ("png" if lossless else "jpeg")
        self.bad: list[CorruptRecordError] = []
        self.size, self.state_names = self._look()
        log.info(
            "pictures: %s",
            f"{self.encoding} as stored" if self._keeps_bytes else f"encoded as {self.encoding}",
        )

    def _look(self) -> tuple[tuple[int, int], list[str]]:
        """Height and width of the pictures and names of the state's numbers, from the first episode with frames."""
        split = next(split for split, count in self._source.splits.items() if count)
        for episode in self._source.episodes(split, image_hw=self._image_hw, **self._reading):
            if not episode.num_frames:
                continue
            height, width = episode.frames_TYXC.shape[1:3]
            if episode.state_TS is None:
                return (height, width), []
            names, count = list(getattr(self._source, "state_names", [])), episode.state_TS.shape[1]
            return (height, width), names if len(names) == count else [f"state_{n}" for n in range(count)]
        raise DataError(f"{self._source.name} has no episode with frames; wanted at least one")

    def episodes(self, split: str, numbers: range | None) -> Iterator[dict[str, Any]]:
        """Episodes of a split for the writer, with a progress bar."""
        count = self._source.splits[split] if numbers is None else len(numbers)
        bar = tqdm(total=count, desc=f"convert {split}", unit=" episodes", disable=None)
        with bar:
            for episode in self._read(split, numbers):
                yield from known_pieces(episode)
                bar.update()
        known = {str(error) for error in self.bad}  # a bag that two splits share is damaged once
        self.bad += [error for error in self._source.bad if str(error) not in known]

    def _read(self, split: str, numbers: range | None) -> Iterator[dict[str, Any]]:
        if self._keeps_bytes:
            assert isinstance(self._source, StoresImages)
            yield from self._source.encoded_episodes(split, numbers=numbers, **self._reading)
            return
        for episode in self._source.episodes(
            split, image_hw=self._image_hw, numbers=numbers, **self._reading
        ):
            yield {
                "frames_TYXC": episode.frames_TYXC,
                "instruction": episode.instruction,
                "actions": episode.actions_TA,
                "state": episode.state_TS,
            }


def known_pieces(episode: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An episode for the writer, cut at the steps whose action is not known (NaN): the format has no word for these."""
    actions_TA = episode.get("actions")
    if actions_TA is None or not np.isnan(actions_TA).any():
        yield episode
        return
    lost = np.flatnonzero(np.isnan(actions_TA[:-1]).any(axis=1))
    borders = [0, *(int(step) + 1 for step in lost), len(actions_TA)]
    for first, end in pairwise(borders):
        if end - first < 2:  # a single frame is no motion
            continue
        piece = {
            key: value if value is None or isinstance(value, str) else value[first:end]
            for key, value in episode.items()
        }
        yield {**piece, "actions": np.append(actions_TA[first : end - 1], np.zeros((1, 7)), axis=0)}
