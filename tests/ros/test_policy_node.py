"""A policy as a node and a node as a policy: what goes over the wire, and every way a policy can fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
import rclpy
from genie_policy_client import PolicyNode, RemotePolicy
from genie_robot_interfaces.msg import LatentAction, RobotAction
from genie_robot_ros import convert
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from genie_robot.errors import ActionError, ConfigError, PolicyError
from genie_robot.simulation.action_interface import action_from_si, action_to_si
from tests.ros.conftest import PATIENCE_S

pytestmark = pytest.mark.usefixtures("ros_context")

FRAME = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
ACTION = np.array([0.036, -0.0123456789, 1e-9, 0.1, -0.2, 0.3, -1.0])
SHORT_S = 2.0  # a time limit that is meant to run out


class Recorder:
    """A policy that keeps what it was given and answers `answer`."""

    def __init__(self, answer: object = ACTION) -> None:
        self.answer = answer
        self.resets: list[tuple[int, str, str]] = []
        self.images: list[np.ndarray] = []

    def reset(self, seed: int, task: str, instruction: str) -> None:
        if task == "fly":
            raise ConfigError("task is 'fly', wanted push")
        self.resets.append((seed, task, instruction))

    def act(self, image_YXC: np.ndarray):
        self.images.append(image_YXC)
        return self.answer


@contextmanager
def spinning(node: Node) -> Iterator[Node]:
    """Run a node's callbacks in a thread of their own."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield node
    finally:
        stop.set()
        thread.join()
        executor.shutdown()
        node.destroy_node()


def policy_node(policy: object, **parameters: object) -> PolicyNode:
    """The policy as node /p/policy."""
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    return PolicyNode(policy, namespace="p", parameter_overrides=overrides)


@contextmanager
def remote(policy: Node) -> Iterator[RemotePolicy]:
    """The policy node as a policy, once each has discovered the other."""
    commands = next(p for p in policy.publishers if p.topic_name == "/p/robot_action")
    images = next(s for s in policy.subscriptions if s.topic_name == "/p/image_raw")
    with closing(RemotePolicy("/p", PATIENCE_S)) as link:
        wait_until(lambda: commands.get_subscription_count() and images.get_publisher_count())
        yield link


def foreign(
    answer: Callable[[Image], list],
    kind: type = RobotAction,
    topic: str = "robot_action",
    qos: QoSProfile | int = 10,
) -> Node:
    """A policy node that knows nothing of genie_policy_client, and has no reset service."""
    node = Node("somebody", namespace="p")
    publisher = node.create_publisher(kind, topic, qos)

    def on_image(msg: Image) -> None:
        for command in answer(msg):
            publisher.publish(command)

    node.create_subscription(Image, "image_raw", on_image, qos_profile_sensor_data)
    return node


def robot_action(x: float, stamp_ns: int = 0) -> RobotAction:
    vector = np.array([x, 0, 0, 0, 0, 0, 0])
    return convert.vector_to_robot_action(vector, Header(stamp=convert.ns_to_stamp(stamp_ns)))


def test_image_action_and_episode_arrive_as_they_were_sent() -> None:
    policy = Recorder()
    with spinning(policy_node(policy, seed=3, task="lift")) as node, remote(node) as link:
        assert policy.resets == [(3, "lift", "")]
        link.reset(1_000_000, "push", "push the cup to the disc")
        assert policy.resets[1:] == [(1_000_000, "push", "push the cup to the disc")]
        assert np.array_equal(link.act(FRAME), ACTION)
        assert len(policy.images) == 1 and np.array_equal(policy.images[0], FRAME)


def test_actions_of_the_tabletop_are_exact_over_the_wire() -> None:
    policy = Recorder()
    with spinning(policy_node(policy)) as node, remote(node) as link:
        link.reset(0, "push", "")

        @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.floats(-1, 1, width=32), min_size=7, max_size=7))
        def check(numbers: list[float]) -> None:
            action = np.float32(numbers)
            policy.answer = action_to_si(action, 0.04)
            assert np.array_equal(action_from_si(link.act(FRAME), 0.04), action)

        check()


def test_a_command_carries_the_stamp_of_its_image_and_the_base_frame() -> None:
    commands: list[LatentAction] = []
    node = PolicyNode(Recorder(np.int64(5)), namespace="p", commands="latent_action")
    node.create_subscription(LatentAction, "latent_action", commands.append, 10)
    camera = node.create_publisher(Image, "image_raw", 10)
    with spinning(node):
        camera.publish(convert.frame_to_image(FRAME, Header(stamp=convert.ns_to_stamp(12_345))))
        wait_until(lambda: commands)
    assert commands[0].code == 5 and convert.stamp_to_ns(commands[0].header.stamp) == 12_345
    assert commands[0].header.frame_id == "base_link"


def test_compressed_images_and_a_best_effort_camera() -> None:
    policy = Recorder()
    node = policy_node(policy, image_transport="compressed", image_reliability="best_effort")
    camera = node.create_publisher(CompressedImage, "image_raw/compressed", qos_profile_sensor_data)
    garbage = CompressedImage(format="jpeg", data=b"\xff\xd8 no picture")
    with spinning(node):
        camera.publish(garbage)
        camera.publish(convert.frame_to_compressed(FRAME, Header(), jpeg_quality=95))
        wait_until(lambda: policy.images)
    assert len(policy.images) == 1 and policy.images[0].shape == FRAME.shape


@pytest.mark.parametrize("wrong", [{"image_transport": "zip"}, {"image_reliability": "perfect"}])
def test_wrong_parameters_are_refused_in_one_line(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))} .* wanted one of"):
        policy_node(Recorder(), **wrong)


def test_a_refused_reset_says_why_and_the_policy_lives_on() -> None:
    with spinning(policy_node(Recorder())) as node, remote(node) as link:
        with pytest.raises(
            PolicyError, match="policy /p refused to reset: ConfigError: task is 'fly', wanted push"
        ):
            link.reset(0, "fly", "")
        link.reset(0, "push", "")
        assert np.array_equal(link.act(FRAME), ACTION)


@pytest.mark.parametrize(
    ("commands", "answer", "error"),
    [
        ("robot_action", np.full(7, np.nan), ActionError),
        ("robot_action", np.zeros(6), ActionError),
        ("robot_action", None, ActionError),
        ("robot_action", 7, ActionError),
        ("robot_action", "left", ValueError),
        ("latent_action", ACTION, ActionError),
        ("latent_action", 3.0, ActionError),
        ("latent_action", True, ActionError),
        ("latent_action", 2**31, ActionError),
    ],
)
def test_a_policy_that_answers_no_command_ends_its_node(commands: str, answer: object, error: type) -> None:
    node = PolicyNode(Recorder(answer), namespace="p", commands=commands)
    sent: list = []
    node.create_subscription(
        {"robot_action": RobotAction}.get(commands, LatentAction), commands, sent.append, 10
    )
    node.create_publisher(Image, "image_raw", 10).publish(convert.frame_to_image(FRAME, Header()))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with pytest.raises(error):
        executor.spin_until_future_complete(rclpy.Future(), PATIENCE_S)
    assert sent == []
    executor.shutdown()
    node.destroy_node()


@pytest.mark.parametrize("qos", [10, qos_profile_sensor_data])
def test_a_foreign_node_without_stamps_and_memory_is_a_policy(qos: QoSProfile | int) -> None:
    with spinning(foreign(lambda msg: [robot_action(0.01)], qos=qos)) as node, remote(node) as link:
        link.reset(0, "push", "")
        assert link.act(FRAME)[0] == 0.01


def test_of_several_commands_the_one_with_the_stamp_of_the_image_counts() -> None:
    def answer(msg: Image) -> list[RobotAction]:
        stamp_ns = convert.stamp_to_ns(msg.header.stamp)
        return [robot_action(0.9, stamp_ns - 1), robot_action(0.02, stamp_ns)]

    with spinning(foreign(answer)) as node, remote(node) as link:
        assert link.act(FRAME)[0] == 0.02


def test_a_late_command_is_an_error_and_no_answer_to_the_next_image() -> None:
    waiting: list[int] = []

    def answer(msg: Image) -> list[RobotAction]:
        waiting.append(convert.stamp_to_ns(msg.header.stamp))
        return [robot_action(k / 100, stamp_ns) for k, stamp_ns in enumerate(waiting)] if waiting[1:] else []

    with spinning(foreign(answer)) as node, remote(node) as link:
        link.timeout_s = SHORT_S
        with pytest.raises(PolicyError, match=r"/p sent no command on /p/robot_action .* \(waited 2 s\)"):
            link.act(FRAME)
        link.timeout_s = PATIENCE_S
        assert link.act(FRAME)[0] == 0.01


@pytest.mark.parametrize(
    ("answer", "timeout_s", "message"),
    [
        (lambda _: [robot_action(0.01, 77)], SHORT_S, "not with the image's stamp \\(1 commands\\); copy"),
        (lambda _: [RobotAction(gripper=float("nan"))], PATIENCE_S, "answered with no action: .*nan"),
    ],
)
def test_wrong_stamps_and_nan_are_errors_in_one_line(
    answer: Callable, timeout_s: float, message: str
) -> None:
    with spinning(foreign(answer)) as node, remote(node) as link:
        link.timeout_s = timeout_s
        with pytest.raises(PolicyError, match=message) as told:
            link.act(FRAME)
    assert "\n" not in str(told.value)


def test_a_namespace_without_a_policy_is_an_error_that_says_what_is_missing() -> None:
    with pytest.raises(
        PolicyError, match="no subscriber of /p/image_raw and no publisher of /p/robot_action"
    ):
        RemotePolicy("p", SHORT_S)


def test_a_policy_of_latent_actions_is_told_to_publish_robot_actions() -> None:
    node = foreign(lambda _: [], LatentAction, "latent_action")
    with spinning(node), pytest.raises(PolicyError, match="policies are compared on robot actions"):
        RemotePolicy("/p", SHORT_S)


@pytest.mark.parametrize(
    ("kind", "topic", "before"), [(RobotAction, "robot_action", 2), (Image, "image_raw", 1)]
)
def test_a_second_policy_or_camera_in_the_namespace_is_refused(kind: type, topic: str, before: int) -> None:
    node = foreign(lambda _: [])
    other = Node("other", namespace="p")
    other.create_publisher(kind, topic, 10)
    with spinning(node), spinning(other):
        wait_until(lambda: node.count_publishers(topic) == before)
        with pytest.raises(PolicyError, match=rf"nodes publish /p/{topic} \(.*other.*\); wanted one policy"):
            RemotePolicy("/p", PATIENCE_S)


def test_a_policy_that_goes_away_is_noticed_before_the_time_limit() -> None:
    node = foreign(lambda _: [])
    with spinning(node), remote(node) as link:
        # as an ending process does it
        publisher = next(p for p in node.publishers if p.topic_name == "/p/robot_action")
        threading.Timer(0.2, lambda: node.destroy_publisher(publisher)).start()
        with pytest.raises(PolicyError, match="policy /p is gone: its node ended"):
            link.act(FRAME)


def wait_until(done: Callable[[], object]) -> None:
    """Until `done()` is true, at most PATIENCE_S."""
    waiting = threading.Event()
    for _ in range(round(PATIENCE_S / 0.01)):
        if done():
            return
        waiting.wait(0.01)
    pytest.fail(f"waited {PATIENCE_S:g} s")
