"""Nodes that `benchmark_client` measures with: one that waits for each answer, and one that keeps a rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction
from genie_robot_interfaces.srv import Reset
from genie_robot_ros import convert
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header

SIMULATOR = "genie_simulator"
PATIENCE_S = 120.0
PAUSE_S = 0.01
MEASURED = "measured"  # frame_id of the images that count
FIRST_ANSWER_S = 10.0
LAST_ANSWER_S = 20.0  # an answer that takes longer counts as lost
DEPTH = 500  # of our subscriptions: nothing may be lost on this side


class Client(Node):
    """A node with its executor; one thread."""

    def __init__(self, name: str) -> None:
        super().__init__(name, start_parameter_services=False)
        self._spinner = SingleThreadedExecutor()
        self._spinner.add_node(self)

    def spin_until(self, done: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
        """Take messages until `done()`; TimeoutError."""
        deadline = time.monotonic() + patience_s
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {patience_s:g} s for {what}")
            self._spinner.spin_once(timeout_sec=0.1)

    def spin_for(self, seconds: float) -> None:
        """Take messages for a while."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            self._spinner.spin_once(timeout_sec=left_s)

    def ask(self, client: Any, request: Any, patience_s: float = PATIENCE_S) -> Any:
        """Call a service and wait."""
        self.spin_until(client.service_is_ready, client.srv_name)
        future = client.call_async(request)
        self.spin_until(future.done, client.srv_name, patience_s)
        return future.result()

    def try_asking(self, client: Any, request: Any) -> bool:
        """Whether the answer is yes. While two processes discover each other an answer may be lost: then it is no."""
        try:
            return self.ask(client, request, FIRST_ANSWER_S).success
        except TimeoutError:
            return False

    def now_ns(self) -> int:
        """Wall clock, for stamps."""
        return self.get_clock().now().nanoseconds


class Partner:
    """One end of a round trip: the simulator, or an echo server, which sends no infos but says how long it worked."""

    def __init__(self, client: Client, prefix: str, reset: str, is_echo: bool) -> None:
        self._client, self._is_echo = client, is_echo
        self._camera = client.create_publisher(Image, f"{prefix}image_raw", QoSProfile(depth=5))
        self._actions = client.create_publisher(LatentAction, f"{prefix}latent_action", QoSProfile(depth=10))
        self._reset = client.create_client(Reset, reset)
        self._arrived: list[tuple[float, Image]] = []
        self._infos: list[ImaginedFrameInfo] = []
        self._seed = 0
        topic, depth = f"{prefix}imagined/image_raw", QoSProfile(depth=DEPTH)
        self._frames = client.create_subscription(Image, topic, self._on_image, depth)
        if not is_echo:
            client.create_subscription(ImaginedFrameInfo, f"{prefix}imagined/info", self._on_info, depth)

    def wait(self, image: Image) -> None:
        """Until a reset works and every topic is matched."""
        client = self._client
        client.spin_until(self._reset.service_is_ready, self._reset.srv_name)
        client.spin_until(
            lambda: (
                self._camera.get_subscription_count()
                and self._actions.get_subscription_count()
                and client.count_publishers(self._frames.topic_name)
            ),
            f"the topics beside {self._reset.srv_name}",
        )
        request = Reset.Request(seed=0, frames=[image])
        client.spin_until(lambda: client.try_asking(self._reset, request), "a reset of an active simulator")

    def camera_ms(self, image: Image) -> float:
        """Camera image out -> a reset from the camera answered with this image, without the model's time.

        A reset may overtake an image; it is asked again until it was not.
        """
        self._forget()
        image.header.stamp = convert.ns_to_stamp(self._client.now_ns())
        model_ms = []
        began_s = time.perf_counter()
        self._camera.publish(image)
        while True:
            answer, its_model_ms = self._ask(use_latest_frames=True)
            answered_s = time.perf_counter()
            model_ms.append(its_model_ms)
            if answer.image.header.stamp == image.header.stamp:
                return 1e3 * (answered_s - began_s) - sum(each() for each in model_ms)

    def reset_ms(self, image: Image) -> float:
        """Image out in a reset request -> answered with it as the model sees it, without the model's time."""
        self._forget()
        began_s = time.perf_counter()
        _, model_ms = self._ask(frames=[image])
        return 1e3 * (time.perf_counter() - began_s) - model_ms()

    def _ask(self, **prompt: Any) -> tuple[Reset.Response, Callable[[], float]]:
        """A reset's answer, and what gives the model's time in it: from the info of this very reset, known by its seed."""
        self._seed += 1
        seed = self._seed
        answer = self._client.ask(self._reset, Reset.Request(seed=seed, **prompt))
        if self._is_echo:
            return answer, lambda: float(answer.message)
        if not answer.success:
            return answer, lambda: 0.0  # it found no image yet
        return answer, lambda: self._info(lambda info: info.seed == seed and info.sequence == 0).model_ms

    def command_ms(self, code: int) -> float:
        """Command out -> its imagined frame here, without the model's time."""
        self._forget()
        stamp = convert.ns_to_stamp(self._client.now_ns())
        began_s = time.perf_counter()
        self._actions.publish(LatentAction(header=Header(stamp=stamp), code=code))
        if self._is_echo:
            arrived_s, image = self._frame(stamp)
            return 1e3 * (arrived_s - began_s) - float(image.header.frame_id)
        info = self._info(lambda info: info.command_stamp == stamp)
        arrived_s, _ = self._frame(info.header.stamp)
        return 1e3 * (arrived_s - began_s) - info.model_ms

    def _info(self, fits: Callable[[ImaginedFrameInfo], bool]) -> ImaginedFrameInfo:
        """Wait for the info that fits: one of an earlier round may still be on its way on a busy machine."""
        self._client.spin_until(lambda: any(map(fits, self._infos)), "the info of an imagined frame")
        return next(filter(fits, self._infos))

    def _frame(self, stamp: Time) -> tuple[float, Image]:
        """Wait for the image with this stamp; when it came, and itself."""

        def found() -> list[tuple[float, Image]]:
            return [each for each in self._arrived if each[1].header.stamp == stamp]

        self._client.spin_until(found, "an imagined frame")
        return found()[0]

    def _on_image(self, msg: Image) -> None:
        self._arrived.append((time.perf_counter(), msg))

    def _on_info(self, msg: ImaginedFrameInfo) -> None:
        self._infos.append(msg)

    def _forget(self) -> None:
        self._client.spin_for(PAUSE_S)  # what still comes belongs to the round before
        self._arrived.clear()
        self._infos.clear()


class Load(Client):
    """A camera and a commander at fixed rates, and everything that the simulator says meanwhile."""

    def __init__(self, image: Image) -> None:
        super().__init__("benchmark_load")
        self.image = image
        self.images_sent = self.commands_sent = self.frames_received = 0
        self.infos: dict[int, ImaginedFrameInfo] = {}  # by the stamp of the command
        self.diagnostics: dict[str, str] = {}
        self.largest_queue = 0
        self.given_back_s: list[float] = []  # when a command came back unused because of a reset
        self._last_info_s = time.monotonic()
        self._camera = self.create_publisher(Image, "image_raw", qos_profile_sensor_data)
        self._actions = self.create_publisher(LatentAction, "latent_action", DEPTH)
        self.reset = self.create_client(Reset, f"{SIMULATOR}/reset")
        self.create_subscription(Image, "imagined/image_raw", self._on_frame, DEPTH)
        self.create_subscription(ImaginedFrameInfo, "imagined/info", self._on_info, DEPTH)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEPTH)

    def begin(self) -> None:
        """Matched topics, a camera image that arrived, an episode."""
        self.spin_until(self.reset.service_is_ready, "the simulator")
        self.spin_until(
            lambda: self._camera.get_subscription_count() and self._actions.get_subscription_count(), "topics"
        )
        self.spin_until(lambda: "frames" in self.diagnostics, "diagnostics of the active simulator")
        request = Reset.Request(seed=0, use_latest_frames=True)
        self.spin_until(
            lambda: self._show() or self.try_asking(self.reset, request), "a reset from the camera"
        )
        self.spin_for(1.5)  # the camera count on /diagnostics must be whole: it comes once a second
        self.first_frames = int(self.diagnostics["camera_frames"])
        self.images_sent = 0
        self.image.header.frame_id = MEASURED

    def run(self, seconds: float, camera_hz: float, command_hz: float) -> None:
        """Publish on schedule; a late tick is made up for at once, so the counts are what the rates say."""
        began_s = time.monotonic()
        while (passed_s := time.monotonic() - began_s) < seconds:
            if self.images_sent < passed_s * camera_hz:
                self._show()
            elif self.commands_sent < passed_s * command_hz:
                self._command()
            else:
                due_s = [(self.images_sent) / camera_hz] if camera_hz else []
                due_s += [self.commands_sent / command_hz] if command_hz else []
                self._spinner.spin_once(timeout_sec=max(0.0, min([*due_s, seconds]) - passed_s))

    def camera_frames(self) -> int:
        """How many of our images the simulator has taken since `begin`; waits for a fresh count."""
        self.spin_for(2.5)
        return int(self.diagnostics["camera_frames"]) - self.first_frames

    def answers(self) -> dict[str, int]:
        """What became of the commands; waits for all answers, or until no more come."""
        self.spin_until(
            lambda: (
                len(self.infos) == self.commands_sent or time.monotonic() - self._last_info_s > LAST_ANSWER_S
            ),
            "answers to come or to end",
            PATIENCE_S * 10,
        )
        statuses = [info.status for info in self.infos.values()]
        return {
            "commands": self.commands_sent,
            "frames": statuses.count(ImaginedFrameInfo.STATUS_FRAME),
            "rejected": statuses.count(ImaginedFrameInfo.STATUS_REJECTED),
            "dropped": statuses.count(ImaginedFrameInfo.STATUS_DROPPED),
            "unanswered": self.commands_sent - len(statuses),
        }

    def _show(self) -> None:
        self.image.header.stamp = convert.ns_to_stamp(self.now_ns())
        self._camera.publish(self.image)
        self.images_sent += 1

    def _command(self) -> None:
        msg = LatentAction(code=self.commands_sent % 8)
        msg.header.stamp = convert.ns_to_stamp(self.now_ns())
        self._actions.publish(msg)
        self.commands_sent += 1

    def _on_frame(self, _: Image) -> None:
        self.frames_received += 1

    def _on_info(self, msg: ImaginedFrameInfo) -> None:
        self._last_info_s = time.monotonic()
        stamp_ns = convert.stamp_to_ns(msg.command_stamp)
        if stamp_ns:
            self.infos[stamp_ns] = msg
        if msg.status == ImaginedFrameInfo.STATUS_DROPPED and "reset" in msg.message:
            self.given_back_s.append(time.perf_counter())

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            prefix = "camera_" if status.name.endswith(": camera") else ""
            self.diagnostics |= {prefix + pair.key: pair.value for pair in status.values}
        self.largest_queue = max(self.largest_queue, int(self.diagnostics.get("queue", 0)))


def noise_image(height: int, width: int) -> Image:
    """A picture that no transport could shorten."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return convert.frame_to_image(pixels, Header(frame_id="camera_optical_frame"))
