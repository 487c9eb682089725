"""The live camera: its subscription, its frames, its calibration, and whether it still runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from genie_robot import WorldModel
from genie_robot.errors import GenieError
from genie_robot_ros import convert
from genie_robot_ros.camera_buffer import CameraBuffer, Prompt

if TYPE_CHECKING:
    from genie_robot_ros.simulator_node import GenieSimulator

CAMERA_DEPTH = 5


class CameraInput:
    """Subscribes to the camera named by `image_raw` and keeps its latest frames; `on_frame` is told of each.

    Bad images are dropped, counted and said (at most one line a second).
    """

    def __init__(self, node: GenieSimulator, model: WorldModel, on_frame: Callable[[], None]) -> None:
        self._node, self._model, self._problems = node, model, node.camera_problems
        self._max_pixels, self._on_frame = node.value("max_image_pixels"), on_frame
        self._buffer = CameraBuffer(
            model.image_height, model.image_width, model.dt_s, model.max_prompt_frames
        )
        self.frames = 0
        self.info: CameraInfo | None = None
        self._last_s = time.monotonic()
        qos = QoSProfile(
            depth=CAMERA_DEPTH, reliability=ReliabilityPolicy[node.value("image_reliability").upper()]
        )
        # the remap of image_raw must hold for its companions too, so they are built from the resolved name
        topic = node.resolve_topic_name("image_raw")
        subscribe = partial(node.create_subscription, callback_group=node.streams)
        if node.value("image_transport") == "compressed":
            take = partial(self._take, convert.compressed_to_frame)
            images = subscribe(CompressedImage, f"{topic}/compressed", take, qos)
        else:
            images = subscribe(Image, topic, partial(self._take, convert.image_to_frame), qos)
        info_topic = f"{topic.rpartition('/')[0]}/camera_info"
        infos = subscribe(CameraInfo, info_topic, self._take_info, qos_profile_sensor_data)
        self.topic = images.topic_name
        self._subscriptions = (images, infos)

    def close(self) -> None:
        """End the subscriptions."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def prompt(self) -> Prompt | None:
        """The latest frames, one model step apart; None before the first one."""
        return self._buffer.prompt()

    def silent_s(self) -> float:
        """Seconds since the last image, or since the subscription when there was none."""
        return time.monotonic() - self._last_s

    def calibration(self, height: int, width: int, header: Header) -> CameraInfo:
        """The camera's calibration brought to an imagined image of this size; K is zero where there is none."""
        live = self.info
        if live is not None:
            model_size = (self._model.image_height, self._model.image_width)
            try:
                return convert.scaled_camera_info(live, height, width, *model_size, header)
            except GenieError as error:
                self._problems.add("bad_calibrations", f"camera_info dropped: {error}")
        return CameraInfo(header=header, height=height, width=width)

    def _take(self, to_frame: Callable, msg: Image | CompressedImage) -> None:
        try:
            frame_YXC = to_frame(msg, self._max_pixels)
        except GenieError as error:
            self._problems.add("bad_images", f"camera image dropped: {error}")
            self._node.get_logger().warning(f"camera image dropped: {error}", throttle_duration_sec=1.0)
            return
        stamp_ns = convert.stamp_to_ns(msg.header.stamp) or self._node.get_clock().now().nanoseconds
        self._buffer.add(frame_YXC, stamp_ns, msg.header.frame_id)
        self.frames += 1
        self._last_s = time.monotonic()
        self._on_frame()

    def _take_info(self, msg: CameraInfo) -> None:
        self.info = msg
