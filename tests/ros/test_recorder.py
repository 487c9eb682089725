"""The recorder as a real process over real DDS: what it writes is what was sent, also when it is killed or out of space."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import rclpy
from conftest import PACKAGE, PATIENCE_S
from genie_robot_interfaces.msg import RobotAction
from genie_robot_ros import convert, recorder
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from genie_robot.data.bags.file import BagFile, BagWriter
from genie_robot.data.bags.streams import RawMessage
from genie_robot.data.open import open_dataset
from genie_robot.errors import DataError

SPACE = "/recorded"  # the simulators of other tests listen elsewhere
TALK = f"{SPACE}/talk"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
FRAMES = np.random.default_rng(0).integers(0, 256, (12, 24, 32, 3), dtype=np.uint8)
CAMERA_PROCESS = """
import sys, time, rclpy, numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from genie_robot_ros.convert import frame_to_image
from std_msgs.msg import Header
rclpy.init()
publisher = rclpy.create_node("camera", namespace="/recorded").create_publisher(Image, "image_raw", qos_profile_sensor_data)
while not publisher.get_subscription_count():
    time.sleep(0.01)
frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
due = time.monotonic()
for k in range(60):
    header = Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = divmod(10**18 + k * 10**9 // 30, 10**9)
    publisher.publish(frame_to_image(np.roll(frame, k, axis=0), header))
    due += 1 / 30
    time.sleep(max(0.0, due - time.monotonic()))
print("sent", flush=True)
input()
"""


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.02)


def stamped(k: int) -> Header:
    header = Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = divmod(10**18 + k * 10**8, 10**9)
    return header


class Process:
    """`genie-robot ros record` as a user starts it."""

    def __init__(self, out: Path, *arguments: str, code: str = "") -> None:
        self.out, self.log = out, out.with_suffix(".log")
        command = [sys.executable, "-m", "genie_robot.cli"]
        if code:  # the same command after a line of preparation
            code += "; import sys; from genie_robot.cli import main; sys.exit(main())"
            command = [sys.executable, "-c", code]
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*command, "ros", "record", str(out), *arguments], stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def file(self) -> Path:
        return self.out / f"{self.out.name}.mcap"

    def wait_for(self, topic: str, message_class: type, count: int) -> None:
        """Until so many messages are in the file: a starved machine may deliver them late."""
        until(
            lambda: self.file.exists() and len(stored(self.file, topic, message_class)) >= count,
            f"{count} messages of {topic}",
        )

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*arguments: str, code: str = "") -> Process:
        started.append(Process(tmp_path / f"bag{len(started)}", *arguments, code=code))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def node(ros_context: None) -> Iterator[Node]:
    node = rclpy.create_node("talker", namespace=SPACE, start_parameter_services=False)
    yield node
    node.destroy_node()


def stored(bag: Path, topic: str, message_class: type) -> list:
    """The messages themselves: their bytes may differ in what fills gaps between fields."""
    try:
        items = BagFile(bag).messages([topic])
    except DataError:  # nothing is in it yet
        return []
    return [deserialize_message(item.data, message_class) for item in items if isinstance(item, RawMessage)]


def frames_of(bag: Path, skip_bad: bool = False) -> np.ndarray:
    [episode] = open_dataset(bag).episodes("train", image_key="/recorded/image_raw", skip_bad=skip_bad)
    return episode.frames_TYXC


def send(publisher, messages: Sequence, listeners: int = 1) -> None:
    until(lambda: publisher.get_subscription_count() >= listeners, f"a listener on {publisher.topic_name}")
    for message in messages:
        publisher.publish(message)


def test_a_recording_holds_what_was_sent_and_opens_in_stock_tools(
    record: Callable[..., Process], node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENIE_ROBOT_CACHE", str(tmp_path / "cache"))
    one = record("--topics", "/recorded/*")
    camera = node.create_publisher(Image, "image_raw", qos_profile_sensor_data)
    actions = node.create_publisher(RobotAction, "robot_action", 10)
    node.create_publisher(String, "description", LATCHED).publish(String(data="said before anybody listened"))
    until(lambda: camera.get_subscription_count() and actions.get_subscription_count(), "the recorder")
    images = [convert.frame_to_image(frame, stamped(k)) for k, frame in enumerate(FRAMES)]
    commands = []
    for k in range(len(FRAMES)):
        command = RobotAction(header=stamped(k), gripper=1.0)
        command.translation.x = 0.01 * k
        commands.append(command)
    for image, command in zip(images, commands, strict=True):
        camera.publish(image)
        actions.publish(command)
        time.sleep(0.01)  # a best-effort camera without pauses outruns its own queue of five
    late = node.create_publisher(String, "late", 10)
    send(late, [String(data="came later")])
    wanted = {
        "/recorded/image_raw": images,
        "/recorded/robot_action": commands,
        "/recorded/late": [String(data="came later")],
        "/recorded/description": [String(data="said before anybody listened")],
    }
    for topic, messages in wanted.items():
        one.wait_for(topic, type(messages[0]), len(messages))
    assert one.end() == 0, one.log.read_text()
    for topic, messages in wanted.items():
        assert stored(one.out, topic, type(messages[0])) == messages, topic
    said = one.log.read_text()
    assert f"{len(FRAMES)} messages" in said and "lost" not in said and "Traceback" not in said

    [episode] = open_dataset(one.out).episodes("train", actions=True, image_key="/recorded/image_raw")
    np.testing.assert_array_equal(episode.frames_TYXC, FRAMES)
    np.testing.assert_allclose(episode.actions_TA[1:-1, 0], 0.01 * np.arange(1, len(FRAMES) - 1), rtol=1e-6)
    with Reader(one.out) as reader:  # needs metadata.yaml and the index, as rosbag2 does
        assert {c.topic: c.msgcount for c in reader.connections} == {t: len(m) for t, m in wanted.items()}
        durable = {c.topic: c.ext.offered_qos_profiles[0].durability.name for c in reader.connections}
        assert (
            durable["/recorded/description"] == "TRANSIENT_LOCAL"
            and durable["/recorded/image_raw"] == "VOLATILE"
        )
        for connection in reader.connections:
            [info] = node.get_publishers_info_by_topic(connection.topic)
            assert connection.digest == str(info.topic_type_hash)


def test_the_mcap_library_reads_it(tmp_path: Path) -> None:
    reading = pytest.importorskip("mcap_ros2.reader", reason="pip install mcap-ros2-support")
    action = RobotAction(header=stamped(3), gripper=-1.0)
    action.translation.y = 0.25
    with BagWriter(tmp_path / "bag", recorder.message_definition) as bag:
        bag.add_topic("/recorded/robot_action", "genie_robot_interfaces/msg/RobotAction")
        bag.write_raw("/recorded/robot_action", 10**18, serialize_message(action))
    [message] = reading.read_ros2_messages(str(tmp_path / "bag" / "bag.mcap"))
    assert message.channel.topic == "/recorded/robot_action"
    assert (message.ros_msg.translation.y, message.ros_msg.gripper) == (0.25, -1.0)


def test_killed_recorder_leaves_all_that_was_handed_over(
    record: Callable[..., Process], node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENIE_ROBOT_CACHE", str(tmp_path / "cache"))
    one = record("--topics", "/recorded/image_raw")
    camera = node.create_publisher(Image, "image_raw", 20)
    send(camera, [convert.frame_to_image(frame, stamped(k)) for k, frame in enumerate(FRAMES)])
    one.wait_for("/recorded/image_raw", Image, len(FRAMES))
    assert one.end(signal.SIGKILL) == -signal.SIGKILL
    assert not (one.out / "metadata.yaml").exists()
    np.testing.assert_array_equal(frames_of(one.out, skip_bad=True), FRAMES)


def test_a_full_disk_is_one_line_and_keeps_what_was_written(
    record: Callable[..., Process], node: Node
) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000,) * 2)"
    one = record("--topics", "/recorded/image_raw", code=limit)
    camera = node.create_publisher(Image, "image_raw", 20)
    large = np.random.default_rng(1).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    send(camera, [convert.frame_to_image(large, stamped(k)) for k in range(12)])
    assert one.process.wait(PATIENCE_S) == 1
    said = one.log.read_text()
    assert said.count("genie-robot: cannot write to") == 1 and "Traceback" not in said
    kept = stored(one.file, "/recorded/image_raw", Image)
    assert 3 <= len(kept) < 12
    assert kept == [convert.frame_to_image(large, stamped(k)) for k in range(len(kept))]


def test_recording_ends_before_the_disk_is_full(record: Callable[..., Process], node: Node) -> None:
    one = record(
        "--topics",
        "/recorded/*",
        code="from genie_robot_ros import recorder; recorder.MIN_FREE_BYTES = 2**62",
    )
    send(node.create_publisher(String, "talk", 10), [String(data="first")])
    assert one.process.wait(PATIENCE_S) == 1
    assert "MiB are left" in one.log.read_text() and "Traceback" not in one.log.read_text()
    assert stored(one.out, "/recorded/talk", String) == [String(data="first")]
    assert (one.out / "metadata.yaml").is_file()


def test_the_first_command_on_a_topic_that_others_wait_on(record: Callable[..., Process], node: Node) -> None:
    node.create_subscription(String, "orders", print, 10)
    one = record("--topics", "/recorded/*")
    until(lambda: "recording /recorded/orders" in one.log.read_text(), "the recorder")
    publisher = node.create_publisher(String, "orders", 10)
    send(publisher, [String(data="first")], listeners=2)
    silent = node.create_subscription(String, "silent", print, 10)
    until(lambda: "recording /recorded/silent" in one.log.read_text(), "the other topic")
    node.destroy_subscription(silent)
    one.wait_for("/recorded/orders", String, 1)
    assert one.end() == 0
    assert stored(one.out, "/recorded/orders", String) == [String(data="first")]
    assert set(BagFile(one.out).topics) == {"/recorded/orders"}


def test_a_publisher_that_offers_less_joins_later(record: Callable[..., Process], node: Node) -> None:
    one = record("--topics", "/recorded/talk")
    reliable = node.create_publisher(String, "talk", LATCHED)
    send(reliable, [String(data="reliable")])
    until(lambda: "recording /recorded/talk" in one.log.read_text(), "the recorder")
    careless = node.create_publisher(String, "talk", BEST_EFFORT)
    send(careless, [String(data="best effort")])
    one.wait_for("/recorded/talk", String, 2)
    assert one.end() == 0
    assert stored(one.out, "/recorded/talk", String) == [String(data="reliable"), String(data="best effort")]


def test_a_publisher_that_offers_more_than_others_asked(record: Callable[..., Process], node: Node) -> None:
    node.create_subscription(Image, "image_raw", print, BEST_EFFORT)
    one = record("--topics", "/recorded/*")
    until(lambda: "recording /recorded/image_raw" in one.log.read_text(), "the recorder")
    camera = node.create_publisher(Image, "image_raw", 20)

    def reliability() -> set:
        ends = node.get_subscriptions_info_by_topic("/recorded/image_raw")
        return {end.qos_profile.reliability for end in ends if end.node_name == "genie_recorder"}

    until(lambda: reliability() == {ReliabilityPolicy.RELIABLE}, "the reliable subscription")
    send(camera, [convert.frame_to_image(FRAMES[0], stamped(0))], listeners=2)
    one.wait_for("/recorded/image_raw", Image, 1)
    assert one.end() == 0
    assert stored(one.out, "/recorded/image_raw", Image) == [convert.frame_to_image(FRAMES[0], stamped(0))]


def test_limits_and_patterns(record: Callable[..., Process], node: Node) -> None:
    one = record("--topics", "/recorded/keep/*", "--max-gb", "0.001")
    other = node.create_publisher(Image, "image_raw", 20)
    kept = node.create_publisher(Image, "keep/image", 20)
    large = np.zeros((480, 640, 3), np.uint8)
    send(kept, [convert.frame_to_image(large, stamped(k)) for k in range(2)])
    assert one.process.wait(PATIENCE_S) == 0
    assert "ended at 0.001 GB" in one.log.read_text()
    assert set(BagFile(one.out).topics) == {"/recorded/keep/image"}
    assert not other.get_subscription_count()
    assert Process(one.out, "--max-minutes", "1").process.wait(PATIENCE_S) == 2  # the folder exists


def test_the_command_listens_on_this_machine_unless_told_otherwise(
    record: Callable[..., Process], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
    one = record("--topics", TALK)
    send(node.create_publisher(String, "talk", 10), [String(data="first")])
    one.wait_for(TALK, String, 1)
    # in an open network a participant of Fast DDS listens on its domain's multicast port as well
    ports = Path(f"/proc/{one.process.pid}/net/udp").read_text()
    multicast = 7400 + 250 * int(os.environ["ROS_DOMAIN_ID"])
    assert f":{multicast + 10:04X} " in ports and f":{multicast:04X} " not in ports
    assert one.end() == 0
    assert "[network] this machine only" in one.log.read_text()


def test_the_console_script_reaches_as_far_as_every_ros_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
    monkeypatch.setattr(sys, "argv", ["record", "--help"])
    assert recorder.main() == 0
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"


def test_no_camera_image_is_lost_with_the_shipped_profile(
    record: Callable[..., Process], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GENIE_ROBOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(PACKAGE / "config" / "fastdds_large_images.xml"))
    frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    counts = []
    while not counts or (
        counts[-1] < 60 and len(counts) < 3
    ):  # a starved machine may lose some; the defaults lose most
        one = record("--topics", "/recorded/image_raw")
        camera = subprocess.Popen(
            [sys.executable, "-c", CAMERA_PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert camera.stdout is not None and camera.stdout.readline() == b"sent\n"
        assert one.end() == 0, one.log.read_text()
        camera.communicate(b"\n", timeout=PATIENCE_S)
        counts.append(len(stored(one.out, "/recorded/image_raw", Image)))
    assert counts[-1] == 60, counts
    np.testing.assert_array_equal(frames_of(one.out), [np.roll(frame, k, axis=0) for k in range(60)])
