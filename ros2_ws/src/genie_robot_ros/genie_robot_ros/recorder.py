"""Record topics into a rosbag2 folder (MCAP), without rosbag2: messages go from the wire to the file as they are.

Topics that appear later are picked up. Each subscription asks for what all publishers of its topic offer (before there
is one: for what its other subscriptions ask), and is made again when that changes. The middleware's queue is the buffer:
a slow disk delays nobody.
Console script `record`, and `genie-robot ros record`.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import remove_ros_args
from tqdm import tqdm

from genie_robot.data.bags.file import BagWriter, OfferedQos
from genie_robot.data.export import check_new
from genie_robot.errors import DataError, DiskFullError
from genie_robot_ros.share import message_definition

#: left out unless asked for by name: other tools' own, and what the simulator works out only while somebody listens
NOT_BY_DEFAULT = ("/rosout", "/parameter_events", "*/compressed", "*/inferred_action", "*/contact_sheet")
LARGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/PointCloud2")
#: messages the middleware may hold while the disk is slow: three seconds of a camera, any burst of small ones
LARGE_DEPTH, SMALL_DEPTH = 100, 1000
DISCOVER_S = 0.25
FLUSH_S = 1.0
#: recording ends while there is room for the index, and for the other programs of this machine
MIN_FREE_BYTES = 64 * 2**20
DRAIN_S = 2.0


@dataclass
class RecordedTopic:
    """One topic: its subscription, how many messages were written, and how many never came."""

    msgtype: str
    subscription: Subscription
    qos: QoSProfile
    publishers: frozenset[tuple[int, ...]] = frozenset()
    messages: int = 0
    lost: int = 0
    gap: int = (
        0  # missing numbers since the last look at the graph: lost only if the publisher is still the same
    )
    last_number: int | None = None


@dataclass
class RecordingReport:
    """What a recording holds: topic -> messages, topic -> lost ones if any, bytes, seconds, and why it ended."""

    out: Path
    messages: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    total_bytes: int = 0
    seconds: float = 0.0
    ended_by: str = ""

    def text(self) -> str:
        """For a person: a line for each topic, and the sum."""
        width = max(map(len, self.messages), default=0)
        lines = [
            f"{topic:<{width}}{count:>9} messages{f', {self.lost[topic]} lost on the way' if topic in self.lost else ''}"
            for topic, count in sorted(self.messages.items())
        ]
        total = (
            f"{sum(self.messages.values())} messages, {self.total_bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        )
        lines.append(f"{self.out}: {total} ({self.ended_by})")
        if self.lost:
            lines.append(
                "messages were lost between publisher and recorder: `genie-robot ros doctor` says what helps"
            )
        return "\n".join(lines)


class Recorder(Node):
    """Writes what it hears into `bag`, until `failure` (it cannot write) or `disk_is_low` says that it should end."""

    def __init__(
        self, bag: BagWriter, out: Path, topics: Collection[str] = (), **node_arguments: Any
    ) -> None:
        super().__init__("genie_recorder", start_parameter_services=False, **node_arguments)
        self._bag, self._out, self._patterns = bag, out, topics
        self.recorded: dict[str, RecordedTopic] = {}
        self._passed_over: set[str] = set()
        self.total_bytes = 0
        self.failure: OSError | None = None
        self.disk_is_low = False
        self.create_timer(FLUSH_S, self._keep)
        self.create_timer(DISCOVER_S, self.discover)
        self.discover()

    def discover(self) -> None:
        """Subscribe to wanted topics that are new, or whose publishers changed.

        A topic that others wait on without a publisher is new too: the first command that comes is then not missed.
        """
        for topic, types in self.get_topic_names_and_types():
            if not self._wanted(topic) or topic in self._passed_over:
                continue
            publishers = self.get_publishers_info_by_topic(topic)
            if topic not in self.recorded:
                self._start(topic, types[0], publishers or self._listeners(topic))
            if topic in self.recorded and publishers:
                self._follow(topic, publishers)

    def _listeners(self, topic: str) -> list[TopicEndpointInfo]:
        """Subscriptions of other nodes."""
        own = self.get_name(), self.get_namespace()
        everyone = self.get_subscriptions_info_by_topic(topic)
        return [one for one in everyone if (one.node_name, one.node_namespace) != own]

    def _wanted(self, topic: str) -> bool:
        if self._patterns:
            return any(fnmatchcase(topic, pattern) for pattern in self._patterns)
        hidden = any(part.startswith("_") for part in topic.split("/"))
        return not hidden and not any(fnmatchcase(topic, pattern) for pattern in NOT_BY_DEFAULT)

    def _start(self, topic: str, msgtype: str, ends: Sequence[TopicEndpointInfo]) -> None:
        if not ends:
            return
        try:
            message_class = _message_class(msgtype)
            self._bag.learn(msgtype)
        except (DataError, ImportError, AttributeError) as error:
            self._passed_over.add(topic)
            self.get_logger().warning(
                f"{topic} is not recorded: {error}; build or source the package of its type"
            )
            return
        qos = common_qos(msgtype, ends)
        self.recorded[topic] = RecordedTopic(msgtype, self._subscribe(topic, message_class, qos), qos)
        self.get_logger().info(f"recording {topic} [{msgtype}]")

    def _follow(self, topic: str, publishers: Sequence[TopicEndpointInfo]) -> None:
        """Ask for what the publishers now offer; settle which messages are lost."""
        known = self.recorded[topic]
        qos = common_qos(known.msgtype, publishers)
        if known.qos.durability == DurabilityPolicy.VOLATILE:  # else the last message would come once more
            qos.durability = DurabilityPolicy.VOLATILE
        if qos != known.qos:
            self.destroy_subscription(known.subscription)
            known.subscription = self._subscribe(topic, known.subscription.msg_type, qos)
            known.qos = qos
        now = frozenset(tuple(publisher.endpoint_gid) for publisher in publishers)
        if now == known.publishers and len(now) == 1:
            known.lost += known.gap
        elif now != known.publishers:
            known.publishers, known.last_number = now, None
        known.gap = 0

    def lost(self) -> dict[str, int]:
        """Topic -> messages that never came.

        Gaps since the last look at the graph count where one publisher was there all along: two have numbers of their own.
        """
        self.discover()
        return {
            topic: known.lost + (known.gap if len(known.publishers) == 1 else 0)
            for topic, known in self.recorded.items()
        }

    def _subscribe(self, topic: str, message_class: type, qos: QoSProfile) -> Subscription:
        def on_message(data: bytes, info: dict[str, Any]) -> None:
            self._write(topic, data, info)

        return self.create_subscription(message_class, topic, on_message, qos, raw=True)

    def _write(self, topic: str, data: bytes, info: dict[str, Any]) -> None:
        if self.failure is not None:
            return
        known = self.recorded[topic]
        number = info["publication_sequence_number"]
        if number is not None:  # not every middleware counts
            if known.last_number is not None and number > known.last_number + 1:
                known.gap += number - known.last_number - 1
            known.last_number = number
        try:
            if not known.messages:
                offered = [_offered(one) for one in self.get_publishers_info_by_topic(topic)]
                self._bag.add_topic(topic, known.msgtype, offered)
            self._bag.write_raw(topic, info.get("received_timestamp") or time.time_ns(), data)
        except OSError as error:
            self.failure = error
            return
        known.messages += 1
        self.total_bytes += len(data)

    def _keep(self) -> None:
        """Hand what was written to the system, and end before the disk is full."""
        if self.failure is not None:
            return
        try:
            self._bag.flush()
            self.disk_is_low = shutil.disk_usage(self._out).free < MIN_FREE_BYTES
        except OSError as error:
            self.failure = error


def common_qos(msgtype: str, publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """The most that every one of the publishers offers: reliable or latched only if all of them are."""
    offered = [_offered(publisher) for publisher in publishers]
    return QoSProfile(
        depth=LARGE_DEPTH if msgtype in LARGE_TYPES else SMALL_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE
        if all(one.reliable for one in offered)
        else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if all(one.latched for one in offered)
        else DurabilityPolicy.VOLATILE,
    )


def _offered(publisher: TopicEndpointInfo) -> OfferedQos:
    qos = publisher.qos_profile
    return OfferedQos(
        qos.reliability == ReliabilityPolicy.RELIABLE, qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
    )


def _message_class(msgtype: str) -> type:
    package, folder, name = msgtype.split("/")
    return getattr(import_module(f"{package}.{folder}"), name)


def record(
    out: Path | str,
    topics: Collection[str] = (),
    max_s: float = float("inf"),
    max_bytes: float = float("inf"),
) -> RecordingReport:
    """Record into the new folder `out` until SIGINT, SIGTERM or a limit.

    `topics`: full names or patterns with *; none: all but `NOT_BY_DEFAULT`. ConfigError when `out` exists. DiskFullError
    when the space ends: what was recorded is kept. `--ros-args` of the command line apply.
    """
    target = check_new(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    report = RecordingReport(target)
    start_s = time.monotonic()
    with _signals() as stop, _bag(target) as bag, _node(bag, target, topics) as (recorder, executor):
        with tqdm(unit="B", unit_scale=True, desc=f"record {target.name}", disable=None) as bar:
            while not (stop.is_set() or report.ended_by or recorder.disk_is_low or recorder.failure):
                executor.spin_once(timeout_sec=0.1)
                bar.update(recorder.total_bytes - bar.n)
                if time.monotonic() - start_s >= max_s:
                    report.ended_by = f"ended after {max_s / 60:g} minutes"
                elif recorder.total_bytes >= max_bytes:
                    report.ended_by = f"ended at {max_bytes / 1e9:g} GB"
        _drain(recorder, executor)
        report.ended_by = report.ended_by or "stopped"
        report.seconds = time.monotonic() - start_s
        report.total_bytes = recorder.total_bytes
        report.messages = {topic: known.messages for topic, known in recorder.recorded.items()}
        report.lost = {topic: lost for topic, lost in recorder.lost().items() if lost}
        if recorder.failure is not None:
            raise recorder.failure
    if recorder.disk_is_low:
        raise DiskFullError(
            f"less than {MIN_FREE_BYTES >> 20} MiB are left for {target}: recording ended, "
            f"{sum(report.messages.values())} messages are kept in a whole bag; free some space"
        )
    return report


@contextmanager
def _signals():
    """An event that SIGINT and SIGTERM set; rclpy's own handlers would end the context under the last messages."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bag(target: Path):
    try:
        with BagWriter(target, message_definition) as bag:
            yield bag
    except OSError as error:
        raise DiskFullError(
            f"cannot write to {target} ({error.strerror}): recording ended, what was written before is kept without an "
            "index, `genie-robot data` and `mcap recover` read it; free some space"
        ) from error


@contextmanager
def _node(bag: BagWriter, target: Path, topics: Collection[str]):
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    recorder = Recorder(bag, target, topics)
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)
    try:
        yield recorder, executor
    finally:
        executor.shutdown()
        recorder.destroy_node()
        rclpy.try_shutdown()


def _drain(recorder: Recorder, executor: SingleThreadedExecutor) -> None:
    """Take what had arrived when the end was called."""
    deadline, before = time.monotonic() + DRAIN_S, -1
    while recorder.total_bytes != before and time.monotonic() < deadline:
        before = recorder.total_bytes
        for _ in range(len(recorder.recorded) + 1):
            executor.spin_once(timeout_sec=0.0)


def main() -> int:
    """Console script `record`: the command `genie-robot ros record`, but with `--ros-args`, and ROS 2's own reach, as every
    ROS 2 program.
    """
    from genie_robot.cli import main as genie_robot

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")  # else the command keeps to this machine
    return genie_robot(["ros", "record", *remove_ros_args(sys.argv)[1:]])


if __name__ == "__main__":
    sys.exit(main())
