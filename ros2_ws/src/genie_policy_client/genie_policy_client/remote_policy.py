"""A policy node as a Python policy: what `genie-robot evaluate policies --policies ros:/my_policy` talks through.

Works with every node that takes `image_raw` and answers on `robot_action`, written with this package or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import rclpy
from genie_robot_interfaces.msg import RobotAction
from genie_robot_interfaces.srv import ResetPolicy
from genie_robot_ros import convert
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from genie_robot.errors import ActionError, PolicyError, PolicyGoneError, PolicyTimeoutError

CAMERA_FRAME = "camera_optical_frame"
UNKNOWN_NODE = "_NODE_NAME_UNKNOWN_"
"""What rmw calls a node whose topics are known and whose name is not yet."""
RESET_GRACE_S = 1.0
"""A policy's topics may be discovered before its reset service: so long is waited before it is taken to have none."""


class RemotePolicy:
    """The policy node in a namespace: send it an image, wait for its command.

    Publishes `<namespace>/image_raw`, listens on `<namespace>/robot_action`, calls `<policy's node>/reset` if there is
    one. All errors are PolicyError, one line: PolicyGoneError when there is no such policy any more, PolicyTimeoutError for an
    answer that is late. Call from one thread, `close` at the end.
    timeout_s: how long it may take to find the policy, and to get each answer [s].
    """

    def __init__(self, namespace: str, timeout_s: float = 30.0) -> None:
        """Find the policy; PolicyError if there is none in time."""
        self.namespace, self.timeout_s = "/" + namespace.strip("/"), timeout_s
        self._last_stamp_ns = 0
        self._received: list[RobotAction] = []
        # An own context without signal handlers: Ctrl-C stays KeyboardInterrupt, as in all of genie-robot.
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node(
            "policy_evaluation",
            namespace=self.namespace,
            context=self._context,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._images = self._node.create_publisher(Image, "image_raw", 10)
        self._command_topic = self._node.resolve_topic_name("robot_action")
        try:
            self._reset_client = self._find()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the graph; safe to call twice."""
        if self._context.ok():
            self._executor.shutdown()
            self._node.destroy_node()
            self._context.shutdown()

    def reset(self, seed: int, task: str, instruction: str) -> None:
        """Begin an episode."""
        if self._reset_client is None:
            return
        request = ResetPolicy.Request(seed=seed, task=task, instruction=instruction)
        future = self._reset_client.call_async(request)
        self._spin_until(future.done, lambda: f"did not answer {self._reset_client.srv_name}")
        answer = future.result()
        if not answer.success:
            raise PolicyError(f"policy {self.namespace} refused to reset: {_one_line(answer.message)}")

    def act(self, image_YXC: np.ndarray) -> np.ndarray:
        """Publish an image, RGB uint8 (Y, X, 3), and wait for its robot action, float64 (7,) in SI units.

        The answer is the command with the image's stamp, or, from a policy that stamps nothing, the next command.
        """
        stamp_ns = max(self._node.get_clock().now().nanoseconds, self._last_stamp_ns + 1)
        self._last_stamp_ns = stamp_ns
        self._received.clear()
        header = Header(stamp=convert.ns_to_stamp(stamp_ns), frame_id=CAMERA_FRAME)
        self._images.publish(convert.frame_to_image(image_YXC, header))
        answer: list[RobotAction] = []

        def answered() -> bool:
            answer.extend(m for m in self._received if convert.stamp_to_ns(m.header.stamp) in (stamp_ns, 0))
            return bool(answer)

        self._spin_until(answered, self._why_no_command)
        try:
            return convert.robot_action_to_vector(answer[0])
        except ActionError as error:
            raise PolicyError(f"policy {self.namespace} answered with no action: {error}") from error

    def _find(self):
        """Wait for the policy's two topics; returns the client of its reset service, or None if it has none."""
        commands, images = self._command_topic, self._images.topic_name

        def matched() -> bool:
            policies = self._publishers(commands)
            # the names of nodes arrive some time after their topics
            named = all(info.node_name != UNKNOWN_NODE for info in policies + self._publishers(images))
            return named and len(policies) > 0 and self._images.get_subscription_count() > 0

        self._spin_until(matched, self._why_not_found, needs_policy=False)
        owner = self._only_publisher(commands)
        self._only_publisher(images)
        # as reliable as the policy offers: asked for more, nothing would come
        qos = QoSProfile(depth=100, reliability=owner.qos_profile.reliability)
        subscription = self._node.create_subscription(RobotAction, commands, self._received.append, qos)
        self._spin_until(subscription.get_publisher_count, self._why_not_found)
        service = f"{owner.node_namespace.rstrip('/')}/{owner.node_name}/reset"
        client = self._node.create_client(ResetPolicy, service)
        deadline = time.monotonic() + min(RESET_GRACE_S, self.timeout_s)
        while not client.service_is_ready() and time.monotonic() < deadline:
            self._executor.spin_once(timeout_sec=0.05)
        if client.service_is_ready():
            return client
        self._node.get_logger().warning(f"{service} does not exist: this policy is taken to have no memory")
        self._node.destroy_client(client)
        return None

    def _publishers(self, topic: str) -> list[TopicEndpointInfo]:
        return self._node.get_publishers_info_by_topic(topic)

    def _only_publisher(self, topic: str) -> TopicEndpointInfo:
        """Who publishes a topic; PolicyError if there are two: a second camera or policy would mix into the episodes."""
        publishers = self._publishers(topic)
        if len(publishers) != 1:
            nodes = ", ".join(sorted(info.node_name for info in publishers))
            raise PolicyGoneError(
                f"{len(publishers)} nodes publish {topic} ({nodes}); wanted one policy and no other camera in a "
                "namespace; stop the others"
            )
        return publishers[0]

    def _why_not_found(self) -> str:
        if self._node.count_publishers("latent_action"):
            return "publishes latent_action; policies are compared on robot actions, publish robot_action"
        found = {
            f"no subscriber of {self._images.topic_name}": self._images.get_subscription_count(),
            f"no publisher of {self._command_topic}": self._node.count_publishers(self._command_topic),
        }
        missing = " and ".join(text for text, count in found.items() if not count)
        if not missing:
            return "was seen, but its topics do not match; see the warnings about incompatible QoS above"
        return f"was not found: {missing}; start it in this namespace and ROS_DOMAIN_ID"

    def _why_no_command(self) -> str:
        if self._received:
            return (
                f"answered, but not with the image's stamp ({len(self._received)} commands); copy the image's "
                "header.stamp into the command, or leave it zero"
            )
        return f"sent no command on {self._command_topic} for an image"

    def _spin_until(
        self, done: Callable[[], object], why_not: Callable[[], str], needs_policy: bool = True
    ) -> None:
        """Take messages until `done()`; PolicyError after the time limit, or at once when the policy's node is gone."""
        deadline = time.monotonic() + self.timeout_s
        while not done():
            if needs_policy and self._node.count_publishers(self._command_topic) == 0:
                raise PolicyGoneError(
                    f"policy {self.namespace} is gone: its node ended; see its log, start it and run this again"
                )
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                error = PolicyTimeoutError if needs_policy else PolicyGoneError
                raise error(f"policy {self.namespace} {why_not()} (waited {self.timeout_s:g} s)")
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))


def _one_line(text: str) -> str:
    return " ".join(text.split())
