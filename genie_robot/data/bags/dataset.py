"""ROS bags as episodes: rosbag2 folders (sqlite3, MCAP), single .mcap, .db3 and .bag files, or a folder of these.

    for episode in open_dataset("recordings/").episodes("train", image_key="/camera/image_raw"): ...

Frames come from one image topic, on a regular grid by their header stamps (`alignment.py` has the rule): at `rate_hz`,
or at the camera's own usual rate. A gap of more than three periods ends an episode; a recording without gaps is cut
into episodes of at most `MAX_EPISODE_FRAMES`. The episodes are those of the camera `choose_camera` names; another one,
asked for by `image_key`, is read at the same times, so that views belong together. A bag's only split is `train`.
Needs the package rosbags, which only `file.py` imports.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from genie_robot.data.assemble import ActionChoice
from genie_robot.data.bags.alignment import Segment, grid_segments, usual_period_ns
from genie_robot.data.bags.images import COMPRESSED_IMAGE, decode_frame, encoded_image
from genie_robot.data.bags.index import IndexedBag
from genie_robot.data.bags.mcap_scan import Damage
from genie_robot.data.bags.places import find_bags, is_bag
from genie_robot.data.bags.reader import RecordingReader
from genie_robot.data.bags.streams import (
    Camera,
    choose_actions,
    choose_camera,
    image_topics,
    joint_topic,
    read_joints,
)
from genie_robot.data.episode import Episode
from genie_robot.data.resample import combine_actions
from genie_robot.data.resize import resize_frame
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError, ImageError

__all__ = ["BagDataset", "is_bag"]

log = logging.getLogger(__name__)
_T = TypeVar("_T")

MAX_EPISODE_FRAMES = 512  # bounds the memory of one episode: 512 frames of 640x480 are 0.5 GB


@dataclass(frozen=True)
class _Recording:
    """One bag, what its camera shows when, and the episodes in it, numbered from `first`."""

    bag: IndexedBag
    camera: Camera
    segments: list[Segment]
    first: int

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + len(self.segments))


@dataclass(frozen=True)
class _Plan:
    """What one call of `episodes` reads."""

    image_key: str
    action_topic: str | None
    actions: ActionChoice
    joints: tuple[str, list[str]] | None
    numbers: Collection[int] | None
    stride: int

    def reads(self, number: int) -> bool:
        """Whether the episode with this number is asked for."""
        return self.numbers is None or number in self.numbers

    def wants_actions(self, source: str) -> bool:
        """Whether this episode's actions are asked for."""
        return self.actions(source) if callable(self.actions) else bool(self.actions)


class BagDataset:
    """The bags at a place as an `EpisodeSource`.

    Opening it needs the camera's stamps: every bag is looked through once, and what was found is remembered (`index.py`).
    `rate_hz`: frames per second to read, at most the camera's. `action_topic`: which topic `actions=True` reads, where
    there are several. DatasetNotFoundError without a bag, DataError without a colour camera.
    """

    def __init__(
        self, path: str | Path, rate_hz: float | None = None, action_topic: str | None = None
    ) -> None:
        self.folder = Path(path)
        self.name = re.sub(r"\W", "_", self.folder.resolve().stem)
        self.version = "0.0.0"
        self.bad_records = 0
        self.bad: list[CorruptRecordError] = []
        self._action_topic = action_topic
        places = find_bags(path)
        if not places:
            raise DatasetNotFoundError(f"{path} holds no bag; wanted a rosbag2 folder, .mcap, .db3 or .bag")
        bags: list[IndexedBag] = []
        self._unreadable: list[str] = []
        for place in places:
            try:
                bags.append(IndexedBag(place))
            except DataError as error:
                self._unreadable.append(str(error))
        if not bags:
            raise DataError(self._unreadable[0])
        kinds: dict[str, int] = {}
        for bag in bags:
            if any(topic.name not in kinds for topic in image_topics(bag)):
                kinds = bag.kinds | kinds
        self.image_key = choose_camera(bags, kinds)
        self._cameras: dict[tuple[Path, str], Camera] = {}
        for bag in tqdm(bags, desc="look through bags", unit="bag", disable=None, leave=False):
            self._camera(bag, self.image_key)
        self._lay_grids(bags, rate_hz)

    def _lay_grids(self, bags: Sequence[IndexedBag], rate_hz: float | None) -> None:
        cameras = [self._camera(bag, self.image_key) for bag in bags]
        periods = [usual_period_ns(camera.stamps.times_N) for camera in cameras]
        known = [period for period in periods if period]
        if not known:
            raise DataError(f"{self.folder}: {self.image_key} has less than two sound images in every bag")
        camera_ns = float(np.median(known))
        if rate_hz is not None and not 0 < rate_hz <= 1.1e9 / camera_ns:
            raise DataError(
                f"{self.image_key} gives {1e9 / camera_ns:.3g} Hz; got rate_hz={rate_hz:g}: ask for less"
            )
        period_ns = 1e9 / rate_hz if rate_hz else camera_ns
        self.dt_s = period_ns * 1e-9
        self._recordings: list[_Recording] = []
        first = 0
        for bag, camera in zip(bags, cameras, strict=True):
            segments = grid_segments(
                camera.stamps.times_N, period_ns, camera_ns, rate_hz is None, MAX_EPISODE_FRAMES
            )
            self._recordings.append(_Recording(bag, camera, segments, first))
            first += len(segments)

    def _camera(self, bag: IndexedBag, topic: str) -> Camera:
        key = (bag.path, topic)
        if key not in self._cameras:
            self._cameras[key] = camera = bag.camera(topic)
            if topic not in bag.topics:
                log.warning("%s has no topic %s: nothing of it is read", bag.path, topic)
            if not camera.stamps.has_header:
                log.warning(
                    "%s: the stamps of %s are not set: taking the times of recording", bag.path, topic
                )
        return self._cameras[key]

    @property
    def splits(self) -> dict[str, int]:
        """`train` -> number of episodes."""
        return {"train": sum(len(recording.segments) for recording in self._recordings)}

    @property
    def records(self) -> dict[str, int]:
        """`train` -> number of images: what `bad_records` is a share of, as a bag's records are messages."""
        cameras = [recording.camera for recording in self._recordings]
        return {"train": sum(len(camera.numbers_N) + len(camera.damage) for camera in cameras)}

    @property
    def cameras(self) -> dict[str, str]:
        """Image topic -> message type, over all bags."""
        return {t.name: t.msgtype for recording in self._recordings for t in image_topics(recording.bag)}

    @property
    def state_names(self) -> list[str]:
        """Names of the joints that `state=True` reads, in order; DataError when no bag has joint states."""
        bags = [recording.bag for recording in self._recordings]
        topic = joint_topic(bags)
        return list(read_joints(next(bag for bag in bags if topic in bag.topics), topic).positions)

    def parts(self, split: str) -> list[range]:
        """The episode numbers of each bag that has some."""
        self._check_split(split)
        return [recording.numbers for recording in self._recordings if recording.segments]

    def recordings(self, split: str) -> list[range]:
        """The same: a bag is recorded in one go, and its episodes follow each other."""
        return self.parts(split)

    def _check_split(self, split: str) -> None:
        if split != "train":
            raise DataError(f"{self.folder} has no split {split!r}; wanted 'train', the only one of a bag")

    def camera(self, image_key: str | None = None) -> str:
        """The image topic for a key; default: the one with the most images."""
        if image_key is not None and image_key not in self.cameras:
            raise DataError(
                f"{self.folder} has no camera {image_key!r}; wanted one of: {', '.join(self.cameras)}"
            )
        return image_key or self.image_key

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
        """Episodes in the order of the bags and of time; same arguments and errors as `RldsDataset.episodes`.

        `image_key`: an image topic. `actions`: from a RobotAction, Twist(Stamped) or PoseStamped topic, in the common
        convention; gripper 0 (keep) where the type has none, and NaN for steps of which an action message cannot be read.
        `state`: joint positions, named by `state_names`.
        A damaged message or bag raises CorruptRecordError or, with `skip_bad`, is counted and passed over.
        """

        def decode(message: Any) -> np.ndarray:
            frame = decode_frame(message)
            return resize_frame(frame, *image_hw) if image_hw else frame

        def build(images: list[np.ndarray], source: str, actions: Any, state: Any) -> Episode:
            if len({image.shape for image in images}) > 1:
                raise ImageError("images change their size within the episode; give image_hw")
            return Episode(np.stack(images), self.dt_s * stride, source, "", actions, state)

        return self._start(decode, build, split, actions, state, image_key, skip_bad, numbers, stride)

    def stored_encoding(self, image_key: str | None = None) -> str | None:
        """Encoding of a compressed image topic, "png" or "jpeg"; None for a topic of raw images."""
        key = self.camera(image_key)
        for recording in self._recordings if self.cameras[key] == COMPRESSED_IMAGE else ():
            for message in recording.bag.messages([key]):
                if isinstance(message, Damage):
                    continue
                try:
                    encoded = encoded_image(recording.bag.decode(message))
                except DataError:
                    continue
                return "png" if encoded.startswith(b"\x89PNG") else "jpeg"
        return None

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
        """The same episodes of a compressed topic for `rlds_writer.write_dataset`, with the images' bytes as stored."""

        def build(images: list[bytes], source: str, actions: Any, state: Any) -> dict[str, Any]:
            return {"encoded": images, "actions": actions, "state": state}

        return self._start(encoded_image, build, split, actions, state, image_key, skip_bad, numbers)

    def _start(
        self,
        decode: Callable[[Any], Any],
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
        self._check_split(split)
        key = self.camera(image_key)
        bags = [recording.bag for recording in self._recordings]
        action_topic = choose_actions(bags, self._action_topic) if actions else None
        joints = (joint_topic(bags), self.state_names) if state else None
        self.bad_records, self.bad = 0, []
        plan = _Plan(key, action_topic, actions, joints, numbers, stride)
        return self._read(decode, build, plan, skip_bad)

    def _read(
        self, decode: Callable[[Any], Any], build: Callable[..., _T], plan: _Plan, skip_bad: bool
    ) -> Iterator[_T]:
        last = max(0, self.splits["train"] - 1)
        for reason in self._unreadable if plan.reads(0) else ():
            self._pass_over(reason, skip_bad)
        for recording in self._recordings:
            chosen = [number for number in recording.numbers if plan.reads(number)]
            # a bag without any episode is told of by who reads the next one
            if not chosen and (recording.segments or not plan.reads(min(recording.first, last))):
                continue
            camera = self._camera(recording.bag, plan.image_key)
            reader = RecordingReader(recording.bag, recording.camera, camera, plan.action_topic, plan.joints)
            sources = {number: f"{self.name}/train/{number}" for number in chosen}
            for reason in reader.damage(any(plan.wants_actions(source) for source in sources.values())):
                self._pass_over(f"{recording.bag.path}: {reason}", skip_bad)
            segments = {number: recording.segments[number - recording.first] for number in chosen}
            shown = {number: segment.every(plan.stride) for number, segment in segments.items()}
            for number, images in reader.frames(shown, decode):
                source = sources[number]
                try:
                    if isinstance(images, DataError):
                        raise images
                    own, state = reader.values(segments[number], plan.wants_actions(source))
                    own = None if own is None else combine_actions(own, plan.stride)
                    item = build(images, source, own, None if state is None else state[:: plan.stride])
                except DataError as error:
                    reason = f"{recording.bag.path}: episode {number}: {error}"
                    self._pass_over(reason, skip_bad, len(segments[number]))
                else:
                    yield item

    def _pass_over(self, reason: str, skip_bad: bool, lost: int = 1) -> None:
        """Raise CorruptRecordError, or note that so many messages are lost and go on."""
        error = CorruptRecordError(f"{reason}; record it again, or skip bad records")
        if not skip_bad:
            raise error
        self.bad_records += lost
        self.bad.append(error)
        log.warning("skipped: %s", error)
