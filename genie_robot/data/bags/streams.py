"""What a bag's topics hold over time: a camera's stamps, action commands, joint positions.

Each function makes one pass over one topic of one bag and returns arrays; `alignment.py` puts them onto a grid.
Times: header stamps where they are set (`has_stamps`), receive times else; two topics are compared by receive times
unless both have header stamps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from genie_robot.data.bags.alignment import (
    HOLD_NS,
    has_stamps,
    integrate_velocity,
    lost_slots,
    pose_deltas,
    sum_deltas,
)
from genie_robot.data.bags.images import COMPRESSED_IMAGE, IMAGE, camera_kind, check_image
from genie_robot.data.bags.mcap_scan import Damage
from genie_robot.errors import DataError

log = logging.getLogger(__name__)

ROBOT_ACTION = "genie_robot_interfaces/msg/RobotAction"
_TWIST, _TWIST_STAMPED = "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
_POSE_STAMPED, JOINT_STATE = "geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/JointState"
_WRIST_WORDS = ("wrist", "hand", "gripper", "eye_in")


@dataclass(frozen=True)
class Topic:
    """A topic of a bag: message type, how many messages, encoding ("cdr" or "ros1") and definition of the type."""

    name: str
    msgtype: str
    count: int
    encoding: str
    definition: str
    definition_format: str


@dataclass(frozen=True)
class RawMessage:
    """A message as stored: its topic, receive time [ns], number among the topic's messages in this bag, bytes."""

    topic: str
    receive_ns: int
    number: int
    data: bytes


class Bag(Protocol):
    """A bag (`file.BagFile`, `index.IndexedBag`), as these functions use it."""

    path: Path
    topics: dict[str, Topic]

    def messages(self, names: Iterable[str]) -> Iterator[RawMessage | Damage]:
        """The messages of these topics in a fixed order; damaged places in between."""
        ...

    def decode(self, message: RawMessage) -> Any:
        """The message's content; DataError when its bytes do not fit."""
        ...


@dataclass(frozen=True)
class Stamps:
    """Times of N messages [ns] by their headers (zeros where the type has none) and as they were received."""

    header_N: np.ndarray
    receive_N: np.ndarray

    @property
    def has_header(self) -> bool:
        """Whether the header stamps can be used."""
        return has_stamps(self.header_N)

    @property
    def times_N(self) -> np.ndarray:
        """The better of the two."""
        return self.header_N if self.has_header else self.receive_N


@dataclass(frozen=True)
class Camera:
    """The sound messages of one image topic: stamps, their numbers among the topic's messages, what was damaged."""

    topic: str
    stamps: Stamps
    numbers_N: np.ndarray
    damage: tuple[str, ...]


@dataclass(frozen=True)
class ActionKind:
    """A type of action message: its numbers, the rule that brings them onto a grid, and the reach of one [ns].

    `before_ns`, `after_ns`: how long before and after its stamp a message has a part in the motion, at most.
    """

    numbers: Callable[[Any], list[float]]
    align: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    before_ns: int
    after_ns: int


@dataclass(frozen=True)
class Commands:
    """Action messages of one topic: stamps, values (N, A), which of them could be read, and what was wrong with the rest."""

    kind: ActionKind
    stamps: Stamps
    values_NA: np.ndarray
    sound_N: np.ndarray
    damage: tuple[str, ...]

    def on_grid(self, times_N: np.ndarray, times_T: np.ndarray) -> np.ndarray:
        """Actions (T, 7) at the slots; NaN where a message that could not be read had a part in the motion."""
        actions_TA = self.kind.align(times_N[self.sound_N], self.values_NA[self.sound_N], times_T)
        reach = self.kind.before_ns, self.kind.after_ns
        actions_TA[lost_slots(times_N, self.sound_N, times_T, *reach)] = np.nan
        return actions_TA


def image_topics(bag: Bag) -> list[Topic]:
    """Topics with raw or compressed images that hold at least one."""
    return [t for t in bag.topics.values() if t.msgtype in (IMAGE, COMPRESSED_IMAGE) and t.count]


def camera_kinds(bag: Bag) -> dict[str, int]:
    """`images.camera_kind` of each image topic, by its first message that can be read; without those that have none."""
    kinds: dict[str, int] = {}
    unknown = {topic.name for topic in image_topics(bag)}
    for message in bag.messages(unknown) if unknown else ():
        if isinstance(message, Damage) or message.topic not in unknown:
            continue
        try:
            kinds[message.topic] = camera_kind(bag.decode(message))
        except DataError:
            continue  # the next message of this topic may be whole
        unknown.discard(message.topic)
        if not unknown:
            break
    return kinds


def choose_camera(bags: Sequence[Bag], kinds: Mapping[str, int]) -> str:
    """The topic to read when none is named: the most frequent colour camera that is not on the gripper, else a grey one.

    `kinds`: of the image topics, as `camera_kinds`. DataError where there is no camera. Several are named in the log.
    """
    counts: dict[str, int] = {}
    for bag in bags:
        for topic in image_topics(bag):
            counts[topic.name] = counts.get(topic.name, 0) + topic.count

    def rank(name: str) -> tuple[int, bool, int, bool]:
        on_gripper = any(word in name.lower() for word in _WRIST_WORDS)
        return kinds.get(name, 0), not on_gripper, counts[name], not name.endswith("/compressed")

    if not any(kinds.values()):
        found = ", ".join(f"{t.name} ({t.msgtype})" for bag in bags[:1] for t in bag.topics.values())
        raise DataError(f"{bags[0].path} has no camera; found {found or 'no topics'}")
    best = max(counts, key=rank)
    if len(counts) > 1:
        others = ", ".join(f"{name} ({count} images)" for name, count in counts.items() if name != best)
        log.info(
            "reading camera %s (%d images); there is also %s: choose by image_key", best, counts[best], others
        )
    return best


def read_camera(bag: Bag, topic: str) -> Camera:
    """Stamps of the sound images of a topic; every message is looked at, none is decoded."""
    header, receive, numbers, damage = [], [], [], []
    for message in bag.messages([topic]):
        if isinstance(message, Damage):
            damage.append(f"at byte {message.offset}: {message.reason}")
            continue
        try:
            content = bag.decode(message)
            check_image(content)
        except DataError as error:
            damage.append(f"message {message.number} of {topic}: {error}")
            continue
        header.append(stamp_ns(content))
        receive.append(message.receive_ns)
        numbers.append(message.number)
    stamps = Stamps(np.array(header, np.int64), np.array(receive, np.int64))
    return Camera(topic, stamps, np.array(numbers, np.int64), tuple(damage))


def stamp_ns(content: Any) -> int:
    """Header stamp of a message [ns]; 0 for a type without header."""
    header = getattr(content, "header", None)
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec if header is not None else 0


def _vector(value: Any) -> list[float]:
    return [value.x, value.y, value.z]


def _delta(content: Any) -> list[float]:
    return [*_vector(content.translation), *_vector(content.rotation), content.gripper]


def _twist(content: Any) -> list[float]:
    return [*_vector(content.linear), *_vector(content.angular)]


def _pose(content: Any) -> list[float]:
    orientation = content.pose.orientation
    return [*_vector(content.pose.position), *_vector(orientation), orientation.w]


#: action types in order of preference
_ACTIONS: Mapping[str, ActionKind] = {
    ROBOT_ACTION: ActionKind(_delta, sum_deltas, 0, 1),
    _TWIST_STAMPED: ActionKind(lambda content: _twist(content.twist), integrate_velocity, 0, HOLD_NS),
    _TWIST: ActionKind(_twist, integrate_velocity, 0, HOLD_NS),
    _POSE_STAMPED: ActionKind(_pose, pose_deltas, HOLD_NS, HOLD_NS),
}


def choose_actions(bags: Sequence[Bag], given: str | None) -> str:
    """The action topic to read: `given`, or the only one of the best type; DataError lists what is there."""
    found = {t.name: t.msgtype for bag in bags for t in bag.topics.values() if t.msgtype in _ACTIONS}
    listed = ", ".join(f"{name} ({msgtype})" for name, msgtype in found.items()) or "none"
    if given is not None:
        if given not in found:
            raise DataError(f"there are no actions on {given!r}; wanted one of: {listed}")
        return given
    for msgtype in _ACTIONS:
        names = [name for name in found if found[name] == msgtype]
        if len(names) == 1:
            return names[0]
        if names:
            raise DataError(f"there are {len(names)} action topics ({listed}); wanted one: name it")
    raise DataError(
        f"{bags[0].path} has no action topic; wanted {', '.join(_ACTIONS)}: read it without actions"
    )


def read_commands(bag: Bag, topic: str) -> Commands:
    """All action messages of a topic; one that cannot be read or holds no finite number is in `damage`, its values NaN."""
    kind = _ACTIONS[bag.topics[topic].msgtype]
    header: list[int | None] = []
    receive, rows, damage = [], [], []
    for message in bag.messages([topic]):
        if isinstance(message, Damage):
            continue  # the camera's pass has met and counted it
        stamp, row = None, [np.nan]
        try:
            content = bag.decode(message)
            stamp, row = stamp_ns(content), kind.numbers(content)
            if not np.isfinite(row).all():
                raise DataError(f"{row}; wanted finite numbers")
        except DataError as error:
            damage.append(f"message {message.number} of {topic}: {error}")
            row = [np.nan]
        header.append(stamp)
        receive.append(message.receive_ns)
        rows.append(row)
    sound_N = np.array([len(row) > 1 for row in rows], bool)
    values_NA = np.full((len(rows), max((len(row) for row in rows), default=1)), np.nan)
    for place in np.flatnonzero(sound_N):
        values_NA[place] = rows[place]
    stamps = Stamps(_filled(header, receive), np.array(receive, np.int64))
    return Commands(kind, stamps, values_NA, sound_N, tuple(damage))


def _filled(header: Sequence[int | None], receive: Sequence[int]) -> np.ndarray:
    """Header stamps (N,), those that could not be read by the usual delay of the others; zeros where there are none."""
    delays = [got - stamp for stamp, got in zip(header, receive, strict=True) if stamp]
    delay = int(np.median(delays)) if delays else 0
    guessed = [got - delay if delays else 0 for got in receive]
    stamps = [guess if stamp is None else stamp for stamp, guess in zip(header, guessed, strict=True)]
    return np.array(stamps, np.int64)


def joint_topic(bags: Sequence[Bag]) -> str:
    """The JointState topic with the most messages; DataError when there is none."""
    counts: dict[str, int] = {}
    for bag in bags:
        for topic in bag.topics.values():
            if topic.msgtype == JOINT_STATE:
                counts[topic.name] = counts.get(topic.name, 0) + topic.count
    if not any(counts.values()):
        raise DataError(f"{bags[0].path} has no {JOINT_STATE} topic; read it without the state")
    return max(counts, key=lambda name: counts[name])


@dataclass(frozen=True)
class Joints:
    """Joint name -> stamps and positions (N,) of one topic, and what could not be read of it."""

    positions: Mapping[str, tuple[Stamps, np.ndarray]]
    damage: tuple[str, ...]


def read_joints(bag: Bag, topic: str) -> Joints:
    """All joint positions of a topic; messages may each name only some of the joints. What cannot be read is left out."""
    rows: dict[str, list[tuple[int, int, float]]] = {}
    damage = []
    for message in bag.messages([topic]):
        if isinstance(message, Damage):
            continue
        try:
            content = bag.decode(message)
        except DataError as error:
            damage.append(f"message {message.number} of {topic}: {error}")
            continue
        for name, position in zip(content.name, content.position, strict=False):
            if np.isfinite(position):
                rows.setdefault(name, []).append((stamp_ns(content), message.receive_ns, float(position)))
    joints = {}
    for name, entries in rows.items():
        header, receive, position = zip(*entries, strict=True)
        stamps = Stamps(np.array(header, np.int64), np.array(receive, np.int64))
        joints[name] = (stamps, np.array(position))
    return Joints(joints, tuple(damage))
