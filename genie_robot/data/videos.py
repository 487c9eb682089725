"""A folder of plain videos (.mp4, .mkv, .avi, .webm, at any depth) as episodes: pictures and nothing else.

    for episode in open_dataset("phone/").episodes("train"): ...

Each file is an episode, or several of at most MAX_EPISODE_FRAMES frames each. Files are opened in the order of their paths,
2 before 10; the only split is `train`. Frames lie on a regular grid of the file's own frame rate: each slot shows the nearest
frame, and up to two dropped ones in a row are bridged. `rate_hz` is for headers that lie: the same frames, so many a second.
PyAV, which does the reading, is imported by `video.py` alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from genie_robot.data.assemble import ActionChoice
from genie_robot.data.episode import Episode
from genie_robot.data.locate import video_files
from genie_robot.data.resize import resize_frame
from genie_robot.data.video import VideoFacts, read_frames, video_facts
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError, ImageError

log = logging.getLogger(__name__)

MAX_EPISODE_FRAMES = 512  # bounds the memory of one episode
_CAMERA = "video"
_SAME_RATE = 1.1  # files whose frame rates differ by more than this factor are no one dataset
_NEAR, _BRIDGED = (
    0.75,
    1.6,
)  # periods that a frame may be off its slot: at the ends, and where frames were dropped


@dataclass(frozen=True)
class _Piece:
    """Frames `frames` of a file: one episode."""

    path: Path
    facts: VideoFacts
    frames: range


@dataclass(frozen=True)
class _Index:
    """The episodes, those of each file, and what is wrong with the files that cannot be opened."""

    pieces: list[_Piece]
    files: dict[Path, range]
    unreadable: list[str]


class VideoDataset:
    """The videos at a place as an `EpisodeSource`; opening it reads one header, the others follow when they are needed.

    `rate_hz`: the true frame rate, where the headers are wrong. DatasetNotFoundError without a video, DataError where none can
    be opened or, once all headers were read, where their rates differ and none was given.
    """

    def __init__(self, path: str | Path, rate_hz: float | None = None) -> None:
        self.folder = Path(path)
        self.name = re.sub(r"\W", "_", self.folder.resolve().stem)
        self.version = "0.0.0"
        self.cameras = [_CAMERA]
        self.bad_records = 0
        self.bad: list[CorruptRecordError] = []
        self._paths = list(video_files(path))
        if not self._paths:
            raise DatasetNotFoundError(f"{path} holds no video; wanted .mp4, .mkv, .avi or .webm files")
        if rate_hz is not None and not 0 < rate_hz < float("inf"):
            raise DataError(f"got rate_hz={rate_hz:g}; wanted frames per second, above 0")
        self._given_rate = rate_hz is not None
        self.dt_s = 1.0 / (rate_hz or self._first_rate())

    def _first_rate(self) -> float:
        """Frame rate of the first video that can be opened."""
        reasons = []
        for path in self._paths:
            try:
                return video_facts(path).rate_hz
            except DataError as error:
                reasons.append(str(error))
        raise DataError(reasons[0])

    @cached_property
    def _index(self) -> _Index:
        index = _Index([], {}, [])
        rates: dict[str, Path] = {}
        for path in tqdm(
            self._paths, desc="look through videos", unit="file", disable=None, leave=False, delay=2
        ):
            try:
                facts = video_facts(path)
            except DataError as error:
                index.unreadable.append(str(error))
                continue
            rates.setdefault(f"{facts.rate_hz:.4g}", path)
            count = -(-facts.num_frames // MAX_EPISODE_FRAMES)
            edges = [facts.num_frames * n // count for n in range(count + 1)]
            index.files[path] = range(len(index.pieces), len(index.pieces) + count)
            index.pieces.extend(_Piece(path, facts, range(a, b)) for a, b in pairwise(edges))
        known = [float(rate) for rate in rates]
        if not self._given_rate and known and max(known) > _SAME_RATE * min(known):
            found = ", ".join(f"{rate} in {path.name}" for rate, path in rates.items())
            raise DataError(
                f"{self.folder} holds videos of several frame rates ({found}): give each its folder, or rate_hz where headers lie"
            )
        return index

    @property
    def splits(self) -> dict[str, int]:
        """`train` -> number of episodes."""
        return {"train": len(self._index.pieces)}

    @property
    def records(self) -> dict[str, int]:
        """`train` -> number of episodes and of files that cannot be opened: what `bad_records` is a share of."""
        return {"train": len(self._index.pieces) + len(self._index.unreadable)}

    def parts(self, split: str) -> list[range]:
        """The episode numbers of each file."""
        self._check_split(split)
        return list(self._index.files.values())

    def recordings(self, split: str) -> list[range]:
        """The episode numbers of each file or, where folders hold the same several file names (views), of each folder."""
        self._check_split(split)
        files = self._index.files
        folders = [list(paths) for _, paths in groupby(files, key=lambda path: path.parent)]
        names = {tuple(path.name for path in paths) for paths in folders}
        if len(folders) > 1 and len(names) == 1 and len(folders[0]) > 1:
            return [range(files[paths[0]].start, files[paths[-1]].stop) for paths in folders]
        return list(files.values())

    def _check_split(self, split: str) -> None:
        if split != "train":
            raise DataError(
                f"{self.folder} has no split {split!r}; wanted 'train', the only one of a folder of videos"
            )

    def camera(self, image_key: str | None = None) -> str:
        """`video`, the only camera."""
        if image_key not in (None, _CAMERA):
            raise DataError(f"{self.folder} has no camera {image_key!r}; wanted {_CAMERA!r}")
        return _CAMERA

    def episodes(
        self,
        split: str = "train",
        actions: ActionChoice = False,
        state: bool = False,
        image_key: str | None = None,
        *,
        image_hw: tuple[int, int] | None = None,
        skip_bad: bool = False,
        numbers: Collection[int] | None = None,
        stride: int = 1,
    ) -> Iterator[Episode]:
        """Episodes in the order of the files and of time; same arguments and errors as `RldsDataset.episodes`.

        DataError when actions or state are asked for. A video that is cut off or broken loses the episodes it cannot give.
        """
        self._check_split(split)
        self.camera(image_key)
        if actions or state:
            raise DataError(f"{self.folder} holds videos, no actions and no state; read it without them")
        self.bad_records, self.bad = 0, []
        return self._read(image_hw, skip_bad, numbers, stride)

    def _read(
        self,
        image_hw: tuple[int, int] | None,
        skip_bad: bool,
        numbers: Collection[int] | None,
        stride: int,
    ) -> Iterator[Episode]:
        index = self._index
        for reason in index.unreadable if numbers is None or 0 in numbers else ():
            self._pass_over(reason, skip_bad)
        for number, piece in enumerate(index.pieces):
            if numbers is not None and number not in numbers:
                continue
            try:
                frames_TYXC = _frames(piece, image_hw, stride)
            except DataError as error:
                self._pass_over(f"episode {number}: {error}", skip_bad)
            else:
                yield Episode(frames_TYXC, self.dt_s * stride, f"{self.name}/train/{number}")

    def _pass_over(self, reason: str, skip_bad: bool) -> None:
        """Raise CorruptRecordError, or note it and go on."""
        error = CorruptRecordError(f"{reason}, or skip bad records")
        if not skip_bad:
            raise error
        self.bad_records += 1
        self.bad.append(error)
        log.warning("skipped: %s", error)


def _frames(piece: _Piece, image_hw: tuple[int, int] | None, stride: int) -> np.ndarray:
    """The frames of an episode, uint8 RGB (T, Y, X, 3); DataError when some cannot be read."""
    period_s = 1.0 / piece.facts.rate_hz
    times_T = piece.facts.start_s + period_s * np.asarray(piece.frames[::stride], np.float64)
    frames = [
        resize_frame(frame, *image_hw) if image_hw else frame
        for frame in read_frames(piece.path, times_T, _NEAR * period_s, _BRIDGED * period_s)
    ]
    if len({frame.shape for frame in frames}) > 1:
        raise ImageError(f"{piece.path} changes its picture size; give image_hw")
    return np.stack(frames)
