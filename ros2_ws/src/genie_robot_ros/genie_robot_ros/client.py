"""A client of the simulator: plays the camera, resets, sends latent actions, collects imagined frames.

Used by `round_trip`; also an example of how to drive the node from Python. Waits for matched endpoints and for
answers, never for a fixed time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from genie_robot_interfaces.msg import CodebookEntry, ImaginedFrameInfo, LatentAction
from genie_robot_interfaces.srv import GetCodebook, Reset
from lifecycle_msgs.srv import GetState
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from genie_robot_ros import convert

FRAME_DEPTH = 500
ASK_AGAIN_S = 0.5


class ClientError(RuntimeError):
    """The node did not answer, or refused."""


@dataclass
class Command:
    """One latent action sent, and what came back for it (times in ms)."""

    code: int
    stamp_ns: int
    sent_s: float
    round_trip_ms: float | None = None
    model_ms: float = 0.0
    queue_ms: float = 0.0
    rejected: str | None = None

    @property
    def overhead_ms(self) -> float | None:
        """Everything but the model and the wait for earlier commands: messages, executors, threads."""
        return None if self.round_trip_ms is None else self.round_trip_ms - self.model_ms - self.queue_ms


@dataclass
class Received:
    """All that arrived since the last clear, in order of arrival."""

    images: list[tuple[float, int, Image]] = field(default_factory=list)  # (arrival, stamp_ns, message)
    infos: list[ImaginedFrameInfo] = field(default_factory=list)


class SimulatorClient(Node):
    """Talks to a `genie_simulator`; call from one thread. `node_arguments`, such as `context`, are rclpy's."""

    def __init__(
        self, node_name: str = "round_trip", simulator: str = "genie_simulator", **node_arguments: Any
    ) -> None:
        super().__init__(node_name, start_parameter_services=False, **node_arguments)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)
        self._last_stamp_ns = 0
        self.received = Received()
        self.camera = self.create_publisher(Image, "image_raw", 10)
        self.actions = self.create_publisher(LatentAction, "latent_action", FRAME_DEPTH)
        frames = QoSProfile(depth=FRAME_DEPTH)
        self.create_subscription(Image, "imagined/image_raw", self._on_image, frames)
        self.create_subscription(ImaginedFrameInfo, "imagined/info", self.received_info, frames)
        self._reset = self.create_client(Reset, f"{simulator}/reset")
        self._state = self.create_client(GetState, f"{simulator}/get_state")
        self._codebook = self.create_client(GetCodebook, f"{simulator}/get_codebook")

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self.destroy_node()

    def spin_until(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Take messages until `done()`; ClientError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not done():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise ClientError(f"waited {timeout_s:g} s for {what}; {self._where()}")
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))

    def _where(self) -> str:
        """What decides whether two ROS processes see each other."""
        reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
        return (
            f"is the simulator active, with the same ROS_DOMAIN_ID ({self.context.get_domain_id()} here) and "
            f"ROS_AUTOMATIC_DISCOVERY_RANGE ({reach} here)?"
        )

    def wait_for_simulator(self, timeout_s: float) -> GetCodebook.Response:
        """Until the node is active and every topic is matched; returns the codebook."""
        deadline = time.monotonic() + timeout_s
        self.spin_until(self._codebook.service_is_ready, timeout_s, "the service get_codebook")
        while (state := self._ask(self._state, GetState.Request(), deadline).current_state).label != "active":
            if time.monotonic() > deadline:
                raise ClientError(f"the simulator is {state.label}, not active; its /diagnostics say why")
            time.sleep(0.1)
        codebook = self._ask(self._codebook, GetCodebook.Request(), deadline)
        self.spin_until(
            lambda: (
                self.camera.get_subscription_count() > 0
                and self.actions.get_subscription_count() > 0
                and self.count_publishers("imagined/image_raw") > 0
                and self.count_publishers("imagined/info") > 0
            ),
            timeout_s,
            "the simulator's topics",
        )
        return codebook

    def _ask(self, client: Client, request: Any, deadline_s: float) -> Any:
        """Ask again and again: what a node answers before it has discovered this client is lost."""
        while True:
            try:
                return self._call(client, request, ASK_AGAIN_S)
            except ClientError:
                if time.monotonic() > deadline_s:
                    raise

    def show_camera(
        self, frames: Sequence[np.ndarray], dt_s: float, frame_id: str = "camera_optical_frame"
    ) -> int:
        """Publish frames (RGB uint8, oldest first) as a camera would have, `dt_s` apart, the last one now."""
        last_ns = self.get_clock().now().nanoseconds
        for index, frame_YXC in enumerate(frames):
            stamp_ns = last_ns - round((len(frames) - 1 - index) * dt_s * 1e9)
            header = Header(stamp=convert.ns_to_stamp(stamp_ns), frame_id=frame_id)
            self.camera.publish(convert.frame_to_image(frame_YXC, header))
        return last_ns

    def reset(
        self, seed: int = -1, frames: Sequence[np.ndarray] = (), timeout_s: float = 30.0
    ) -> tuple[np.ndarray, int]:
        """Reset from the given frames, or from the camera if there are none -> (prompt frame as seen, its stamp)."""
        request = Reset.Request(seed=seed, use_latest_frames=not frames)
        stamp = self.get_clock().now().to_msg()
        for frame_YXC in frames:
            request.frames.append(convert.frame_to_image(frame_YXC, Header(stamp=stamp, frame_id="camera")))
        answer = self._call(self._reset, request, timeout_s)
        if not answer.success:
            raise ClientError(f"reset refused: {answer.message}")
        return convert.image_to_frame(answer.image), convert.stamp_to_ns(answer.image.header.stamp)

    def reset_from_camera(
        self, frames: Sequence[np.ndarray], dt_s: float, seed: int = -1
    ) -> tuple[np.ndarray, int]:
        """Show frames on the camera topic until the node has the last of them, then reset from it."""
        for _ in range(20):
            shown_ns = self.show_camera(frames, dt_s)
            deadline = time.monotonic() + 0.5
            while (
                time.monotonic() < deadline
            ):  # the camera topic is best effort: ask until the frame got there
                try:
                    frame_YXC, stamp_ns = self.reset(seed)
                except ClientError as error:
                    if "no camera image" not in str(error):
                        raise
                    continue
                if stamp_ns == shown_ns:
                    return frame_YXC, stamp_ns
        raise ClientError("the simulator never took the camera image")

    def send(self, code: int) -> Command:
        """Publish one latent action; its header stamp is unique and comes back in ImaginedFrameInfo."""
        stamp_ns = max(self.get_clock().now().nanoseconds, self._last_stamp_ns + 1)
        self._last_stamp_ns = stamp_ns
        msg = LatentAction(code=code)
        msg.header.stamp = convert.ns_to_stamp(stamp_ns)
        command = Command(code, stamp_ns, time.perf_counter())
        self.actions.publish(msg)
        return command

    def received_info(self, msg: ImaginedFrameInfo) -> None:
        """Subscription callback."""
        self.received.infos.append(msg)

    def _on_image(self, msg: Image) -> None:
        self.received.images.append((time.perf_counter(), convert.stamp_to_ns(msg.header.stamp), msg))

    def _call(self, client, request, timeout_s: float = 30.0):
        self.spin_until(client.service_is_ready, timeout_s, f"the service {client.srv_name}")
        future = client.call_async(request)
        self.spin_until(future.done, timeout_s, f"the answer of {client.srv_name}")
        return future.result()


def names_by_code(entries: Sequence[CodebookEntry]) -> dict[int, str]:
    """Code -> measured name, or `code <n>` where there is none."""
    return {entry.code: entry.name or f"code {entry.code}" for entry in entries}
