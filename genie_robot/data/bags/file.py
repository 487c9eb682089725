"""The one file that uses the package `rosbags`: raw messages out of a bag, their content, and writing a bag.

ROS 2 bags (sqlite3, MCAP, compressed or not) and ROS 1 bags. MCAP files are walked by `mcap_scan`, which reads past
damage. A type's definition comes from the bag itself; bags that hold none (ROS 2 before Iron, sqlite3) get those of
ROS 2 Humble and `RobotAction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rosbags.interfaces import (
    Nodetype,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag1 import Reader as Rosbag1Reader
from rosbags.rosbag2 import Reader as Rosbag2Reader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import DECOMPRESSORS
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from genie_robot.data.bags.mcap_scan import Damage, McapChannel, McapMessage, scan_mcap
from genie_robot.data.bags.places import storage_files
from genie_robot.data.bags.streams import ROBOT_ACTION, RawMessage, Topic
from genie_robot.errors import DataError

#: as in ros2_ws/src/genie_robot_interfaces/msg/RobotAction.msg (a test compares them)
ROBOT_ACTION_DEFINITION = """std_msgs/Header header
geometry_msgs/Vector3 translation
geometry_msgs/Vector3 rotation
float32 gripper
"""
_IDL_SEPARATOR = "=" * 80 + "\n"


class BagFile:
    """One bag: a rosbag2 folder, or a .mcap, .db3 or (ROS 1) .bag file. DataError when nothing of it can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._storages: list[Path] = []
        self._lost: list[Damage] = []
        self.topics: dict[str, Topic] = {}
        for storage in storage_files(path):
            try:
                topics = _topics(storage)
            except DataError as error:
                self._lost.append(Damage(0, str(error)))
                continue
            self._storages.append(storage)
            for topic in topics:
                known = self.topics.get(topic.name)
                self.topics[topic.name] = replace(topic, count=topic.count + (known.count if known else 0))
        if not self._storages:
            raise DataError(self._lost[0].reason)
        self._stores: dict[str, Typestore] = {}

    def messages(self, names: Iterable[str]) -> Iterator[RawMessage | Damage]:
        """The messages of these topics, storage by storage, in a fixed order; damaged places in between."""
        wanted = {name for name in names if name in self.topics}
        numbers = dict.fromkeys(wanted, 0)
        yield from self._lost
        for storage in self._storages if wanted else ():
            for item in _read(storage, wanted):
                if isinstance(item, Damage):
                    yield item
                    continue
                name, receive_ns, data = item
                yield RawMessage(name, receive_ns, numbers[name], data)
                numbers[name] += 1

    def decode(self, message: RawMessage) -> Any:
        """The message's content as an object with the fields of its type; DataError when its bytes do not fit."""
        topic = self.topics[message.topic]
        try:
            if topic.msgtype not in self._stores:
                self._stores[topic.msgtype] = _typestore(topic)
            store = self._stores[topic.msgtype]
            if topic.encoding == "ros1":
                return store.deserialize_ros1(message.data, topic.msgtype)
            return store.deserialize_cdr(message.data, topic.msgtype)
        except Exception as error:  # damaged bytes make the library raise many kinds
            raise DataError(
                f"no {topic.msgtype} can be read from {len(message.data)} bytes ({error})"
            ) from error


def _reader(path: Path) -> Any:
    return Rosbag1Reader(path) if path.suffix == ".bag" else Rosbag2Reader(path)


def _topics(storage: Path) -> list[Topic]:
    """Topics of a storage from its index, or, for an MCAP file without one, from all of its messages."""
    try:
        with _reader(storage) as reader:
            return [_topic(connection) for connection in reader.connections]
    except Exception as error:  # a bag whose end is missing makes the library raise many kinds
        if storage.suffix != ".mcap":
            raise DataError(f"{storage} cannot be read as a bag ({error}); wanted a whole bag") from error
    channels: dict[McapChannel, int] = {}
    for item in _scan(storage):
        if isinstance(item, McapChannel):
            channels.setdefault(item, 0)
        elif isinstance(item, McapMessage):
            channels[item.channel] += 1
        elif not channels:
            raise DataError(f"{storage} cannot be read as a bag ({item.reason}); wanted a whole bag")
    return [
        Topic(c.topic, c.msgtype, count, c.encoding, c.definition, c.definition_format)
        for c, count in channels.items()
    ]


def _topic(connection: Any) -> Topic:
    definition_format = connection.msgdef.format.name.lower().replace("none", "")
    encoding = getattr(connection.ext, "serialization_format", "ros1")
    count = connection.msgcount
    return Topic(
        connection.topic, connection.msgtype, count, encoding, connection.msgdef.data, definition_format
    )


def _scan(path: Path) -> Iterator[McapChannel | McapMessage | Damage]:
    with path.open("rb") as file:
        yield from scan_mcap(file, lambda packed, name, size: DECOMPRESSORS[name](packed, size))


def _read(storage: Path, wanted: set[str]) -> Iterator[tuple[str, int, bytes] | Damage]:
    """(topic, receive time, bytes) of each message of the topics `wanted`, and the damages met on the way."""
    if storage.suffix == ".mcap":
        for item in _scan(storage):
            if isinstance(item, Damage):
                yield item
            elif isinstance(item, McapMessage) and item.channel.topic in wanted:
                yield item.channel.topic, item.receive_ns, item.data
        return
    try:
        with _reader(storage) as reader:
            connections = [c for c in reader.connections if c.topic in wanted]
            for connection, receive_ns, data in reader.messages(connections) if connections else ():
                yield connection.topic, receive_ns, data
    except Exception as error:  # a damaged database or chunk makes the library raise many kinds
        yield Damage(0, f"the rest of it cannot be read ({error})")


def _typestore(topic: Topic) -> Typestore:
    """Types to decode one topic with: from the bag's own definition, else ROS 2 Humble's."""
    if not topic.definition:
        return _standard_types()
    store = get_typestore(Stores.EMPTY)
    if "idl" in topic.definition_format:
        parts = topic.definition.split(_IDL_SEPARATOR)
        texts = [part.split("\n", 1)[1] if part.startswith("IDL: ") else part for part in parts if part]
        for text in texts:
            store.register(get_types_from_idl(text))
    else:
        store.register(get_types_from_msg(topic.definition, topic.msgtype))
    return store


@cache
def _standard_types() -> Typestore:
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(ROBOT_ACTION_DEFINITION, ROBOT_ACTION))
    return store


@dataclass(frozen=True)
class OfferedQos:
    """What a publisher offers: kept in a bag, so that playing it back offers the same."""

    reliable: bool
    latched: bool  # durability transient local: those who come later get the last message


class BagWriter:
    """Write a rosbag2 folder (MCAP): `with BagWriter(path) as bag: bag.write(topic, ...)`.

    `definition_of` gives the text of the .msg file of a type, for messages that come as bytes (`add_topic`,
    `write_raw`); without it the types are those of ROS 2 Humble and `RobotAction`. After the death of the process
    the file holds all up to the last `flush`, and no index: `BagFile` reads it.
    """

    def __init__(self, path: Path, definition_of: Callable[[str], str] | None = None) -> None:
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._definition_of = definition_of
        self._store = get_typestore(Stores.EMPTY) if definition_of else _standard_types()
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(self, *error: Any) -> None:
        self._writer.__exit__(*error)

    def write(self, topic: str, msgtype: str, stamp_ns: int, **fields: Any) -> None:
        """One message of `msgtype` with these fields, received at `stamp_ns`; `self.types` has the nested types."""
        self.add_topic(topic, msgtype)
        self.write_raw(topic, stamp_ns, self._store.serialize_cdr(self.types[msgtype](**fields), msgtype))

    def learn(self, msgtype: str) -> None:
        """Read the definition of a type; DataError when there is none."""
        if self._definition_of:
            _register(self._store, msgtype, self._definition_of)

    def add_topic(self, topic: str, msgtype: str, offered: Sequence[OfferedQos] = ()) -> None:
        """Make a topic known, at the latest before its first message; DataError without definition of the type."""
        if topic not in self._connections:
            self.learn(msgtype)
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=self._store, offered_qos_profiles=[_qos(one) for one in offered]
            )

    def write_raw(self, topic: str, stamp_ns: int, data: bytes | memoryview) -> None:
        """One message of a topic added before, as it came over the wire (CDR), received at `stamp_ns`."""
        self._writer.write(self._connections[topic], stamp_ns, data)

    def flush(self) -> None:
        """Hand everything written so far to the system: it is then kept even if the process is killed."""
        storage: Any = self._writer.storage
        if storage.chunk.bio.tell():
            storage.close_chunk()
        storage.bio.flush()

    @property
    def types(self) -> Any:
        """Message classes by type name, such as "std_msgs/msg/Header"."""
        return self._store.types


def _register(store: Typestore, msgtype: str, definition_of: Callable[[str], str]) -> None:
    """Add a type and all those nested in it to the store."""
    waiting, found = [msgtype], {}
    while waiting:
        name = waiting.pop()
        if name in store.fielddefs or name in found:
            continue
        try:
            found |= get_types_from_msg(definition_of(name), name)
        except Exception as error:  # the library's parser raises many kinds
            raise DataError(f"{msgtype}: no definition of {name} can be read ({error})") from error
        waiting += [nested for _, field in found[name][1] if (nested := _nested(field))]
    store.register(found)


def _nested(field: Any) -> str | None:
    """Name of the message type that a field holds, one or many of; None for numbers and texts."""
    kind, content = field
    if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        kind, content = content[0]
    return content if kind == Nodetype.NAME else None


def _qos(offered: OfferedQos) -> Qos:
    forever = QosTime(9223372036, 854775807)  # how rosbag2 writes "no limit"
    return Qos(
        QosHistory.KEEP_LAST,
        1 if offered.latched else 10,
        QosReliability.RELIABLE if offered.reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if offered.latched else QosDurability.VOLATILE,
        deadline=forever,
        lifespan=forever,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=forever,
        avoid_ros_namespace_conventions=False,
    )
