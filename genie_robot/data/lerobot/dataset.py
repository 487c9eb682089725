"""LeRobotDataset folders (v2.0, v2.1 and v3.0) as episodes; the package lerobot is not needed.

    for episode in open_dataset("pusht").episodes("train", image_key="observation.images.top"): ...

A folder holds meta/info.json (rate, features, path templates), parquet files with the numbers, and MP4 files with the
pictures, or the pictures inside the parquet files. Frames are found by timestamp. `rate_hz` thins them: the frame nearest
to each slot of a grid. Needs pyarrow and PyAV, which `files.py` and `video.py` import.
Format: https://huggingface.co/docs/lerobot/lerobot-dataset-v3
"""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from genie_robot.data.assemble import ActionChoice
from genie_robot.data.bags.alignment import nearest, sum_deltas
from genie_robot.data.episode import Episode
from genie_robot.data.lerobot.actions import DeltaActions, flat_names
from genie_robot.data.resample import combine_actions
from genie_robot.data.resize import resize_frame
from genie_robot.errors import CorruptRecordError, DataError, ImageError

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_PART_EPISODES = 64
_CAMERA_PREFIXES = ("observation.images.", "observation.")
_WRIST_WORDS = ("wrist", "hand", "gripper")


def is_lerobot(path: str | Path) -> bool:
    """Whether a folder is a LeRobotDataset: it has meta/info.json with a codebase_version."""
    place = Path(path) / "meta" / "info.json"
    return place.is_file() and b'"codebase_version"' in place.read_bytes()


class LeRobotDataset:
    """A LeRobotDataset folder as an `EpisodeSource`. DataError when its meta files cannot be read.

    `gripper`: what the last number of an action says (`actions.GRIPPERS`), where the registry does not know the dataset.
    """

    def __init__(self, path: str | Path, rate_hz: float | None = None, gripper: str | None = None) -> None:
        from genie_robot.data.lerobot.files import LeRobotFiles  # pyarrow and PyAV are an extra

        self.folder = Path(path)
        self.info = _read_info(self.folder)
        self.name = re.sub(r"\W", "_", self.folder.resolve().name)
        self.version = str(self.info["codebase_version"]).lstrip("v")
        fps = self.info["fps"]
        if rate_hz is not None and not 0 < rate_hz <= fps:
            raise DataError(
                f"{self.folder} has {fps:g} frames per second; got rate_hz={rate_hz:g}: ask for less"
            )
        self._gripper = gripper
        self._period_s = 1.0 / fps
        self.dt_s = 1.0 / (rate_hz or fps)
        self.bad_records = 0
        self.bad: list[CorruptRecordError] = []
        features = self.info["features"]
        self.cameras = [
            key for key, f in features.items() if f.get("dtype") in ("video", "image") and not _is_depth(f)
        ]
        videos = [key for key in self.cameras if features[key]["dtype"] == "video"]
        self._files = LeRobotFiles(self.folder, self.info, videos)

    def __copy__(self) -> LeRobotDataset:
        """The same dataset for another thread: files are read without regard to this one."""
        twin = object.__new__(LeRobotDataset)
        twin.__dict__.update(self.__dict__, _files=copy.copy(self._files))
        return twin

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes, as info.json says."""
        return {name: len(numbers) for name, numbers in self._split_ranges().items()}

    @property
    def records(self) -> dict[str, int]:
        """The same: what is lost is an episode."""
        return self.splits

    def recordings(self, split: str) -> None:
        """None: each episode was recorded by itself."""

    def _split_ranges(self) -> dict[str, range]:
        count = len(self._files.episodes)
        ranges = {}
        for name, text in (self.info.get("splits") or {"train": f"0:{count}"}).items():
            first, colon, last = str(text).partition(":")
            if not (colon and first.isdecimal() and last.isdecimal()):
                raise DataError(
                    f"{self.folder}: split {name!r} is {text!r}; wanted two numbers such as '0:{count}'"
                )
            ranges[name] = range(min(int(first), count), min(int(last), count))
        return ranges

    @property
    def state_names(self) -> list[str]:
        """Names of the numbers that `state=True` reads, where info.json gives them."""
        feature = self.info["features"].get("observation.state", {})
        return flat_names(feature)

    def parts(self, split: str) -> list[range]:
        """The episode numbers in pieces of 64."""
        count = len(self._split(split))
        return [range(n, min(n + _PART_EPISODES, count)) for n in range(0, count, _PART_EPISODES)]

    def _split(self, split: str) -> range:
        ranges = self._split_ranges()
        if split not in ranges:
            raise DataError(f"{self.folder} has no split {split!r}; wanted one of {sorted(ranges)}")
        return ranges[split]

    def camera(self, image_key: str | None = None) -> str:
        """The camera feature for a key, with or without "observation.images."; default: the first not on the gripper."""
        if not self.cameras:
            raise DataError(
                f"{self.folder} has no camera; its features are {', '.join(self.info['features'])}"
            )
        if image_key is None:
            outside = [key for key in self.cameras if not any(word in key for word in _WRIST_WORDS)]
            best = (outside or self.cameras)[0]
            if len(self.cameras) > 1:
                log.info("reading camera %s of %s: choose by image_key", best, ", ".join(self.cameras))
            return best
        for key in (image_key, *(prefix + image_key for prefix in _CAMERA_PREFIXES)):
            if key in self.cameras:
                return key
        raise DataError(
            f"{self.folder} has no camera {image_key!r}; wanted one of: {', '.join(self.cameras)}"
        )

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
        """Episodes in the order of their index; same arguments and errors as `RldsDataset.episodes`.

        `actions`: in the common convention where info.json names seven end-effector deltas, else DataError.
        """

        def build(
            stored: Any, camera: str, rows_T: np.ndarray, times_T: np.ndarray, rest: tuple[Any, ...]
        ) -> Episode:
            frames = []
            for frame in self._files.frames(stored, camera, times_T, rows_T, 0.5 * self._period_s):
                frames.append(resize_frame(frame, *image_hw) if image_hw else frame)
            if len({frame.shape for frame in frames}) > 1:
                raise ImageError(f"{camera} changes its size within the episode; give image_hw")
            return Episode(np.stack(frames), self.dt_s * stride, *rest)

        return self._start(build, split, actions, state, image_key, skip_bad, numbers, stride)

    def stored_encoding(self, image_key: str | None = None) -> str | None:
        """Encoding of a camera's pictures in the parquet files, "png" or "jpeg"; None for a video."""
        camera = self.camera(image_key)
        if self.info["features"][camera]["dtype"] == "video" or not self._files.episodes:
            return None
        first = self._files.stored_images(self._files.episodes[0], camera, np.zeros(1, np.int64))[0]
        return "png" if first.startswith(b"\x89PNG") else "jpeg"

    def encoded_episodes(
        self,
        split: str = "train",
        actions: ActionChoice = False,
        state: bool = False,
        image_key: str | None = None,
        *,
        skip_bad: bool = False,
        numbers: Collection[int] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The same episodes for `rlds_writer.write_dataset`, with the bytes of stored pictures as they are."""

        def build(
            stored: Any, camera: str, rows_T: np.ndarray, times_T: np.ndarray, rest: tuple[Any, ...]
        ) -> dict[str, Any]:
            images = self._files.stored_images(stored, camera, rows_T)
            return {"encoded": images, "instruction": rest[1], "actions": rest[2], "state": rest[3]}

        return self._start(build, split, actions, state, image_key, skip_bad, numbers)

    def _start(
        self,
        build: Callable[..., _T],
        split: str,
        actions: ActionChoice,
        state: bool,
        image_key: str | None,
        skip_bad: bool,
        numbers: Collection[int] | None,
        stride: int = 1,
    ) -> Iterator[_T]:
        """Check the arguments now, read later."""
        camera = self.camera(image_key)
        chosen = self._split(split)
        if state and "observation.state" not in self.info["features"]:
            raise DataError(f"{self.folder} has no observation.state; read it without the state")
        deltas = DeltaActions(self.folder, self.info, self.name, self._gripper) if actions else None
        self.bad_records, self.bad = 0, []
        places = [
            (number, chosen[number]) for number in range(len(chosen)) if numbers is None or number in numbers
        ]

        def read() -> Iterator[_T]:
            for number, place in places:
                source = f"{self.name}/{split}/{number}"
                stored = self._files.episodes[place]
                wanted = actions(source) if callable(actions) else bool(actions)
                try:
                    rows_T, times_T, own, values = self._values(stored, deltas if wanted else None, state)
                    rows_T, times_T = rows_T[::stride], times_T[::stride]
                    own = None if own is None else combine_actions(own, stride)
                    values = None if values is None else values[::stride]
                    item = build(stored, camera, rows_T, times_T, (source, stored.task, own, values))
                except DataError as error:
                    self._pass_over(
                        CorruptRecordError(f"{self.folder}: episode {stored.index}: {error}"), skip_bad
                    )
                else:
                    yield item

        return read()

    def _values(
        self, stored: Any, deltas: DeltaActions | None, state: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Rows and times of the grid's slots, actions (T, 7) and state (T, S) where asked for."""
        names = ["timestamp", *(["observation.state"] if state else []), *([deltas.column] if deltas else [])]
        columns = self._files.numbers(stored, names)
        stamps_N = columns["timestamp"].ravel()
        if (
            not len(stamps_N)
            or np.abs(np.diff(stamps_N) - self._period_s).max(initial=0) > 0.5 * self._period_s
        ):
            raise DataError(f"{len(stamps_N)} timestamps are not {1 / self._period_s:g} a second")
        # a hair of slack, so that rounded timestamps do not lose the last slot
        count = int((stamps_N[-1] - stamps_N[0]) / self.dt_s + 1e-3) + 1
        slots_T = stamps_N[0] + self.dt_s * np.arange(count)
        rows_T = nearest(stamps_N, slots_T)
        actions_TA = state_TS = None
        if deltas is not None:
            stamps_ns, slots_ns = (
                np.rint(times * 1e9).astype(np.int64) for times in (stamps_N, stamps_N[rows_T])
            )
            actions_TA = sum_deltas(stamps_ns, deltas.common(columns[deltas.column]), slots_ns)
        if state:
            state_TS = columns["observation.state"].reshape(len(stamps_N), -1)[rows_T].astype(np.float32)
        return rows_T, stamps_N[rows_T], actions_TA, state_TS

    def _pass_over(self, error: CorruptRecordError, skip_bad: bool) -> None:
        """Raise the error, or note it and go on."""
        if not skip_bad:
            raise error
        self.bad_records += 1
        self.bad.append(error)
        log.warning("skipped: %s", error)


def _is_depth(feature: dict[str, Any]) -> bool:
    facts = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    return bool(facts.get("is_depth_map") or facts.get("video.is_depth_map"))


def _read_info(folder: Path) -> dict[str, Any]:
    """meta/info.json with what is needed checked; DataError names what is wrong."""
    path = folder / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version, fps, features = str(info["codebase_version"]), float(info["fps"]), dict(info["features"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error!r}); wanted that of a LeRobotDataset") from error
    if not re.fullmatch(r"v?[23]\.\d+(\.\d+)?", version):
        raise DataError(
            f"{path} is of LeRobotDataset {version}; wanted v2.0, v2.1 or v3.0: convert it with lerobot"
        )
    if not 0 < fps < float("inf"):
        raise DataError(f"{path} says {fps} frames per second; wanted a number above 0")
    return {**info, "fps": fps, "features": features}
