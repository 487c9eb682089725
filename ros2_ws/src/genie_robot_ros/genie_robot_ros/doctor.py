"""Checks of `genie-robot ros doctor` on the running nodes: is the simulator there, and does everything fit together."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import rclpy
from genie_robot_interfaces.srv import GetCodebook
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

#: (check, "OK" | "WARN" | "FAIL", what was found[, what to do])
Finding = tuple[str, ...]
#: full name of each simulator -> what it says of its model; None when it does not answer
Codebooks = dict[str, GetCodebook.Response | None]

DISCOVERY_S, QUIET_S = 5.0, 1.0
ANSWER_S = 5.0
CAMERA_S, CAMERA_IMAGES = 3.0, 30
OLD_STAMP_S = 1.0
IMAGE_TYPES = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
CODEBOOK_TYPE = "genie_robot_interfaces/srv/GetCodebook"
OWN_NAME = "genie_doctor"


def check_graph() -> Iterator[Finding]:
    """All findings on the nodes that can be seen from here."""
    context = Context()
    context.init()
    node = rclpy.create_node(OWN_NAME, context=context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        graph = Graph(node, executor)
        graph.wait()
        yield from nodes(graph)
        codebooks = graph.codebooks()
        yield from simulators(graph, codebooks)
        yield from connections(graph)
        yield from cameras(graph, codebooks)
        yield from simulated_time(graph)
    finally:
        executor.shutdown()
        node.destroy_node()
        context.shutdown()


class Graph:
    """The nodes and topics in sight, and questions to them."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
        self.node, self._executor = node, executor

    def wait(self) -> None:
        """Until nothing new was discovered for a second, at most five."""
        deadline = time.monotonic() + DISCOVERY_S
        before, since = None, time.monotonic()
        while time.monotonic() < min(deadline, since + QUIET_S):
            self.spin(0.05)
            now = (self.node.get_node_names_and_namespaces(), self.node.get_topic_names_and_types())
            if now != before:
                before, since = now, time.monotonic()

    def spin(self, seconds: float) -> None:
        """Take what arrives within so long, one thing."""
        self._executor.spin_once(timeout_sec=seconds)

    @property
    def names(self) -> list[str]:
        """Full names of the nodes; a name that two nodes have is there twice. Without hidden ones, and doctors."""
        return sorted(
            f"{space.rstrip('/')}/{name}"
            for name, space in self.node.get_node_names_and_namespaces()
            if not name.startswith(("_", OWN_NAME))
        )

    @property
    def topics(self) -> dict[str, list[str]]:
        """Topic -> its types."""
        return dict(self.node.get_topic_names_and_types())

    def publishers(self, topic: str) -> list[TopicEndpointInfo]:
        """Who publishes there."""
        return self.node.get_publishers_info_by_topic(topic)

    def subscriptions(self, topic: str) -> list[TopicEndpointInfo]:
        """Who listens there, without this process."""
        return [
            one
            for one in self.node.get_subscriptions_info_by_topic(topic)
            if not one.node_name.startswith(OWN_NAME)
        ]

    def ask(self, service_type: type, requests: Mapping[str, Any]) -> dict[str, Any]:
        """Call many services at once -> name -> answer; None of those that do not answer in time."""
        clients = {name: self.node.create_client(service_type, name) for name in requests}
        futures: dict[str, Any] = {}
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline and not all(
            name in futures and futures[name].done() for name in requests
        ):
            for name, client in clients.items():
                if name not in futures and client.service_is_ready():
                    futures[name] = client.call_async(requests[name])
            self.spin(0.05)
        answers = {
            name: futures[name].result() if name in futures and futures[name].done() else None
            for name in requests
        }
        for client in clients.values():
            self.node.destroy_client(client)
        return answers

    def codebooks(self) -> Codebooks:
        """Ask every simulator for its model."""
        services = [name for name, types in self.node.get_service_names_and_types() if CODEBOOK_TYPE in types]
        answers = self.ask(GetCodebook, {name: GetCodebook.Request() for name in services})
        return {name.rsplit("/", 1)[0]: answer for name, answer in answers.items()}


def nodes(graph: Graph) -> Iterator[Finding]:
    """How many there are; no two of one name."""
    names = graph.names
    twice = [name for name, count in Counter(names).items() if count > 1]
    for name in twice:
        yield (
            "nodes",
            "FAIL",
            f"{names.count(name)} nodes are called {name}: services of that name are answered by any of them",
            "end one, or rename it: --ros-args -r __node:=other, or -r __ns:=/robot_2",
        )
    if not twice:
        yield "nodes", "OK", f"{len(names)} running{f': {_some(names)}' if names else ''}"


def simulators(graph: Graph, codebooks: Codebooks) -> Iterator[Finding]:
    """Whether a simulator runs, and in which state it is."""
    if not codebooks:
        yield (
            "simulator",
            "WARN",
            "none is seen in this domain",
            "start one: genie-robot ros simulate MODEL; if it runs, look at its ROS_DOMAIN_ID and discovery range",
        )
    states = graph.ask(GetState, {f"{name}/get_state": GetState.Request() for name in codebooks})
    for name, codebook in codebooks.items():
        state = states[f"{name}/get_state"]
        if state is None:
            yield (
                "simulator",
                "WARN",
                f"{name} does not answer within {ANSWER_S:g} s",
                "it loads its model, hangs or was killed: its log says which; look again in a minute, then start it again",
            )
        elif state.current_state.label == "active":
            model = f", model {codebook.model}" if codebook is not None and codebook.success else ""
            yield "simulator", "OK", f"{name} is active{model}"
        elif state.current_state.label == "inactive":
            advice = _transition(name, "activate", Transition.TRANSITION_ACTIVATE)
            yield "simulator", "WARN", f"{name} is inactive", advice
        else:
            yield (
                "simulator",
                "WARN",
                f"{name} is {state.current_state.label}",
                f"its log and /diagnostics say why; {_transition(name, 'configure', Transition.TRANSITION_CONFIGURE)}",
            )


def _transition(name: str, label: str, number: int) -> str:
    return (
        f"{label} it: call {name}/change_state with transition {number} "
        f"(with a system ROS: ros2 lifecycle set {name} {label})"
    )


def connections(graph: Graph) -> Iterator[Finding]:
    """Publishers and subscriptions of one topic that cannot talk to each other."""
    pairs = wrong = 0
    for topic in sorted(graph.topics):
        for publisher in graph.publishers(topic):
            for subscription in graph.subscriptions(topic):
                pairs += 1
                reason = mismatch(publisher, subscription)
                if reason:
                    wrong += 1
                    ends = f"{full_name(publisher)} to {full_name(subscription)} on {topic}"
                    yield "connections", "FAIL", f"nothing gets from {ends}: {reason[0]}", reason[1]
    if not wrong:
        yield "connections", "OK", f"{pairs} pairs of publisher and subscription fit together"


def mismatch(publisher: TopicEndpointInfo, subscription: TopicEndpointInfo) -> tuple[str, str] | None:
    """Why nothing gets from one to the other, and what to do; None when it does."""
    if publisher.topic_type != subscription.topic_type:
        return (
            f"one is {publisher.topic_type}, the other {subscription.topic_type}",
            "give one of them another topic name (remap)",
        )
    if str(publisher.topic_type_hash) != str(subscription.topic_type_hash):
        return f"their {publisher.topic_type} differ", "build both sides from one version of the package"
    level, reason = qos_check_compatible(publisher.qos_profile, subscription.qos_profile)
    if level != QoSCompatibility.ERROR:
        return None
    text = reason.removeprefix("ERROR: ").rstrip("; ").replace(";ERROR:", ",")
    return (
        f"QoS: {text.lower()}",
        "the subscription may not ask for more than the publisher offers: change one (parameter image_reliability or "
        "qos_overrides, RViz: Reliability and Durability Policy)",
    )


def cameras(graph: Graph, codebooks: Codebooks) -> Iterator[Finding]:
    """Whether each simulator gets images, how often, and whether their stamps can be used."""
    for name, codebook in codebooks.items():
        space, own = name.rsplit("/", 1)
        try:
            listens = graph.node.get_subscriber_names_and_types_by_node(own, space or "/")
        except RuntimeError:  # it has just left
            continue
        for topic, types in listens:
            if types[0] not in IMAGE_TYPES:
                continue
            if graph.publishers(topic):
                dt_s = codebook.dt_s if codebook is not None and codebook.success else 0.0
                yield camera_rate(graph, topic, types[0], dt_s)
            else:
                others = [
                    other
                    for other, kinds in sorted(graph.topics.items())
                    if kinds[0] in IMAGE_TYPES and graph.publishers(other) and "/imagined/" not in other
                ]
                yield (
                    "camera",
                    "WARN",
                    f"{name} waits for images on {topic}, where nobody publishes",
                    f"start the camera{f', or take one of: {_some(others)}' if others else ''} "
                    "(genie-robot ros simulate --image-topic)",
                )


def camera_rate(graph: Graph, topic: str, msgtype: str, dt_s: float) -> Finding:
    """Listen to a camera for a while. `dt_s`: step of the model that looks at it; 0: unknown."""
    times_s: list[float] = []
    ages_s: list[float] = []

    def on_image(image: Any) -> None:
        times_s.append(time.monotonic())
        stamp = image.header.stamp
        ages_s.append(graph.node.get_clock().now().nanoseconds * 1e-9 - stamp.sec - stamp.nanosec * 1e-9)

    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    subscription = graph.node.create_subscription(IMAGE_TYPES[msgtype], topic, on_image, qos)
    deadline = time.monotonic() + CAMERA_S
    while time.monotonic() < deadline and len(times_s) < CAMERA_IMAGES:
        graph.spin(0.05)
    graph.node.destroy_subscription(subscription)
    if not times_s:
        return (
            "camera",
            "FAIL",
            f"no image on {topic} within {CAMERA_S:g} s, though {_some([*map(full_name, graph.publishers(topic))])} "
            "publishes there",
            "look at the camera's log; large images need the Fast DDS profile (large images, above)",
        )
    if len(times_s) == 1:
        return (
            "camera",
            "WARN",
            f"one image on {topic} in {CAMERA_S:g} s",
            "is the camera meant to be so slow?",
        )
    rate_hz = (len(times_s) - 1) / (times_s[-1] - times_s[0])
    found = f"{topic} at {rate_hz:.1f} Hz"
    if dt_s and rate_hz < 0.8 / dt_s:
        return "camera", "WARN", f"{found}, the model steps at {1 / dt_s:g} Hz", "let the camera run faster"
    if max(map(abs, ages_s)) > OLD_STAMP_S and not graph.publishers("/clock"):
        return (
            "camera",
            "WARN",
            f"{found}, its stamps are up to {max(map(abs, ages_s)):.3g} s away from this machine's time",
            "the driver must stamp images when they are taken; synchronise the clocks of the machines",
        )
    return "camera", "OK", found


def simulated_time(graph: Graph) -> Iterator[Finding]:
    """Nodes that wait for a /clock which nobody publishes stand still."""
    services = [
        name
        for name, types in graph.node.get_service_names_and_types()
        if "rcl_interfaces/srv/GetParameters" in types
    ]
    request = GetParameters.Request(names=["use_sim_time"])
    answers = graph.ask(GetParameters, dict.fromkeys(services, request))
    simulated = [
        name.rsplit("/", 1)[0]
        for name, answer in answers.items()
        if answer is not None and answer.values and answer.values[0].bool_value
    ]
    if simulated and not graph.publishers("/clock"):
        yield (
            "time",
            "FAIL",
            f"use_sim_time is set in {_some(simulated)}, but nobody publishes /clock: their time stands still",
            "publish it (genie_simulator: publish_clock), or set use_sim_time to false",
        )
    else:
        yield (
            "time",
            "OK",
            f"simulated in {_some(simulated)}" if simulated else "of this machine, in all nodes",
        )


def full_name(end: TopicEndpointInfo) -> str:
    """Full name of the node at this end."""
    return f"{end.node_namespace.rstrip('/')}/{end.node_name}"


def _some(names: Sequence[str], count: int = 6) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def main() -> int:
    """Console script `doctor`: the command `genie-robot ros doctor`, with `--ros-args` as every ROS 2 program."""
    from genie_robot.cli import main as genie_robot

    return genie_robot(["ros", "doctor", *remove_ros_args(sys.argv)[1:]])


if __name__ == "__main__":
    sys.exit(main())
