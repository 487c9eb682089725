"""A Python policy as a ROS 2 node: camera images in, commands out.

The command for an image carries the image's stamp, so that whoever sent the image knows its answer. The node is the
same on a robot, in front of the simulator `genie_simulator` and in `genie-robot evaluate policies`.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import rclpy
from genie_robot_interfaces.msg import LatentAction, RobotAction
from genie_robot_interfaces.srv import ResetPolicy
from genie_robot_ros import convert
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from genie_robot.errors import ActionError, ConfigError, GenieError

COMMAND_DEPTH = 10
SIGNAL_CHECK_S = 0.2
"""Python runs signal handlers only when the wait for messages returns."""
BASE_FRAME = "base_link"
"""`frame_id` of commands: displacements are along the axes of the robot's base frame (REP-105)."""

PARAMETERS: dict[str, tuple[object, str]] = {
    "image_transport": (
        "raw",
        "raw: subscribe to image_raw; compressed: to image_raw/compressed (JPEG, PNG)",
    ),
    "image_reliability": ("reliable", "reliable, or best_effort for a camera that publishes no better"),
    "seed": (0, "of the episode that begins at start; later ones: service ~/reset"),
    "task": ("", "of the episode that begins at start, such as push; empty: none is named"),
    "instruction": ("", "of the episode that begins at start, in words; empty: none"),
}


class Policy(Protocol):
    """What a policy has to have."""

    def reset(self, seed: int, task: str, instruction: str) -> None:
        """Forget what was seen, an episode begins; the same seed and images must give the same commands."""
        ...

    def act(self, image_YXC: np.ndarray) -> np.ndarray | int:
        """Command for an image, RGB uint8 (Y, X, 3).

        Either a robot action (7,): displacement of the end effector [m] and rotation vector [rad] in this step, along
        the axes of the base frame, then the gripper, +1 close, -1 open, 0 keep. Or a latent code, an integer.
        """
        ...


class PolicyNode(Node):
    """Calls a policy for every image and publishes what it answers.

    Relative names: subscribes `image_raw` (or `image_raw/compressed`), publishes `robot_action` or `latent_action`,
    serves `~/reset`. An image that comes while the policy thinks replaces one that waits: the policy always sees the
    latest. An image that cannot be read is dropped with a warning. A policy that raises, or answers with no command,
    ends the node with its traceback in the log: a robot is better off without commands than with wrong ones.
    """

    def __init__(
        self,
        policy: Policy,
        node_name: str = "policy",
        *,
        commands: Literal["robot_action", "latent_action"] = "robot_action",
        **node_options: Any,
    ) -> None:
        """`node_options`: those of rclpy.node.Node, such as namespace and parameter_overrides."""
        super().__init__(node_name, **node_options)
        self._policy = policy
        for name, (default, what) in PARAMETERS.items():
            self.declare_parameter(name, default, ParameterDescriptor(description=what, read_only=True))
        transport = self._one_of("image_transport", "raw", "compressed")
        reliability = self._one_of("image_reliability", "reliable", "best_effort")
        policy.reset(self._value("seed"), self._value("task"), self._value("instruction"))
        # The service before the topics: who has discovered the topics has then discovered it too.
        self.create_service(ResetPolicy, "~/reset", self._reset)
        kind, self._to_message = {
            "robot_action": (RobotAction, convert.vector_to_robot_action),
            "latent_action": (LatentAction, _latent_action),
        }[commands]
        self._commands = self.create_publisher(kind, commands, COMMAND_DEPTH)
        self._subscribe(transport, QoSProfile(depth=1, reliability=ReliabilityPolicy[reliability.upper()]))

    def _value(self, name: str):
        return self.get_parameter(name).value

    def _subscribe(self, transport: str, qos: QoSProfile) -> None:
        # a remap of image_raw must hold for its compressed twin too, so this is built from the resolved name
        topic = self.resolve_topic_name("image_raw")
        if transport == "compressed":
            topic, kind, to_frame = f"{topic}/compressed", CompressedImage, convert.compressed_to_frame
        else:
            kind, to_frame = Image, convert.image_to_frame
        self.create_subscription(kind, topic, partial(self._act, to_frame), qos)
        self.get_logger().info(f"ready: images from {topic}, commands to {self._commands.topic_name}")

    def _one_of(self, name: str, *words: str) -> str:
        value = self._value(name)
        if value not in words:
            raise ConfigError(f"parameter {name} is {value!r}; wanted one of {', '.join(words)}")
        return value

    def _act(self, to_frame: Callable, msg: Image | CompressedImage) -> None:
        try:
            frame_YXC = to_frame(msg)
        except GenieError as error:
            self.get_logger().warning(f"image dropped: {error}", throttle_duration_sec=1.0)
            return
        try:
            command = self._policy.act(frame_YXC)
            message = self._to_message(command, Header(stamp=msg.header.stamp, frame_id=BASE_FRAME))
        except GenieError:
            raise
        except Exception:
            self.get_logger().error(f"the policy failed:\n{traceback.format_exc()}")
            raise
        self._commands.publish(message)

    def _reset(self, request: ResetPolicy.Request, response: ResetPolicy.Response) -> ResetPolicy.Response:
        try:
            self._policy.reset(request.seed, request.task, request.instruction)
        except Exception as error:
            if not isinstance(error, GenieError):
                self.get_logger().error(f"the policy's reset failed:\n{traceback.format_exc()}")
            response.message = f"{type(error).__name__}: {error}"
        else:
            response.success = True
        return response


def _latent_action(code: int, header: Header) -> LatentAction:
    is_integer = isinstance(code, int | np.integer) and not isinstance(code, bool)
    if not is_integer or not 0 <= code <= np.iinfo(np.int32).max:
        raise ActionError(f"the policy answered {code!r}; wanted a latent code, an integer of 0 or more")
    return LatentAction(header=header, code=int(code))


def run_policy(
    policy: Policy,
    node_name: str = "policy",
    *,
    commands: Literal["robot_action", "latent_action"] = "robot_action",
) -> int:
    """Run a policy as a node until SIGINT or SIGTERM; returns the exit code, 1 if the policy failed.

    Raises what the policy's first `reset` raises.
    """
    stop = threading.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, lambda *_: stop.set())
    # rclpy's own handlers would end the context under a command that is being published
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = PolicyNode(policy, node_name, commands=commands)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        try:
            while not stop.is_set():
                executor.spin_once(timeout_sec=SIGNAL_CHECK_S)
        except Exception as error:
            node.get_logger().fatal(
                f"the policy ended: {type(error).__name__}: {' '.join(str(error).split())}"
            )
            return 1
        finally:
            executor.shutdown()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return 0
