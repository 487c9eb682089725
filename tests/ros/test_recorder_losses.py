"""The recorder counts what never came, and only that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import rclpy
from genie_robot_ros import recorder
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import String
from test_recorder import SPACE, TALK, until

from genie_robot.data.bags.file import BagWriter


class Listening:
    """A recorder in this process, which takes messages when told to; it looks at the graph at once, not by its timer."""

    def __init__(self, node: recorder.Recorder) -> None:
        self.node = node
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def take(self, count: int) -> None:
        """Until so many messages came."""

        def done() -> bool:
            for _ in range(50):
                self._executor.spin_once(timeout_sec=0.0)
            return self.node.recorded[TALK].messages >= count

        until(done, f"{count} messages")

    def look(self, publishers: int) -> None:
        """Until the graph has so many publishers."""

        def done() -> bool:
            self.node.discover()
            known = self.node.recorded.get(TALK)
            return known is not None and len(known.publishers) == publishers

        until(done, f"{publishers} publishers")

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()


@pytest.fixture
def node(ros_context: None) -> Iterator[Node]:
    node = rclpy.create_node("talker", namespace=SPACE, start_parameter_services=False)
    yield node
    node.destroy_node()


@pytest.fixture
def listening(ros_context: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    monkeypatch.setattr(recorder, "DISCOVER_S", 10.0**6)
    with BagWriter(tmp_path / "bag", recorder.message_definition) as bag:
        one = Listening(recorder.Recorder(bag, tmp_path, [TALK]))
        yield one
        one.close()


def test_what_never_came_is_counted(listening: Listening, node: Node) -> None:
    camera = node.create_publisher(Image, "talk", 1000)
    listening.look(publishers=1)
    until(lambda: camera.get_subscription_count() > 0, "the recorder")
    camera.publish(Image())
    listening.take(1)

    def burst() -> None:  # more than may wait: the oldest fall out
        before = listening.node.recorded[TALK].messages
        for _ in range(recorder.LARGE_DEPTH + 50):
            camera.publish(Image())
        listening.take(before + recorder.LARGE_DEPTH)

    burst()
    assert listening.node.lost() == {TALK: 50}
    burst()
    node.destroy_publisher(camera)  # gone before the recorder looks again
    assert listening.node.lost() == {TALK: 100}


@pytest.mark.parametrize(("late", "leave"), [(False, False), (False, True), (True, False)])
def test_two_publishers_with_numbers_of_their_own_lost_nothing(
    late: bool, leave: bool, listening: Listening, node: Node
) -> None:
    """Also when the second one comes just before the end (`late`), or both are gone by then (`leave`)."""
    first = node.create_publisher(String, "talk", 1000)
    listening.look(publishers=1)
    until(lambda: first.get_subscription_count() > 0, "the recorder")
    for _ in range(50):
        first.publish(String(data="first"))
    listening.take(50)
    second = node.create_publisher(String, "talk", 1000)
    until(lambda: second.get_subscription_count() > 0, "the recorder")
    if not late:
        listening.look(publishers=2)
    for k in range(20):
        for publisher in (first, second):
            publisher.publish(String(data=f"message {k}"))
            listening.take(listening.node.recorded[TALK].messages + 1)
    if leave:
        node.destroy_publisher(first)
        node.destroy_publisher(second)
    assert listening.node.lost() == {TALK: 0}
