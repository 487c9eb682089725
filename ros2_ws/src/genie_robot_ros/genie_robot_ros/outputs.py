"""The node's publishers: what goes out for one imagined frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction, Surprise
from nav_msgs.msg import Path
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from genie_robot import WorldModel
from genie_robot_ros import convert, markers, sheets
from genie_robot_ros.camera_buffer import Prompt
from genie_robot_ros.path import gripper_path
from genie_robot_ros.realtime import Command
from genie_robot_ros.shadow import Judged
from genie_robot_ros.simulator import PROMPT_CODE, ImaginedFrame

# Enough that a burst of commands does not overwrite frames that a slow subscriber has not taken yet.
FRAME_DEPTH = 50
ALLOW_OVERRIDES = QoSOverridingOptions(
    [QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.HISTORY, QoSPolicyKind.DURABILITY]
)

# Each publisher's default event handlers slow down every turn of rclpy's executor, commands included (a third of the round
# trip with 12 publishers). Who finds no common QoS is told by the subscriber's side, and by `genie-robot ros doctor`.
NO_EVENTS = PublisherEventCallbacks(use_default_callbacks=False)


def header_of(imagined: ImaginedFrame | Judged) -> Header:
    """Stamp (prompt stamp + sequence * dt) and the camera's frame_id."""
    return Header(stamp=convert.ns_to_stamp(imagined.stamp_ns), frame_id=imagined.frame_id)


def info_of(imagined: ImaginedFrame, command_stamp: Time, queue_ms: float = 0.0) -> ImaginedFrameInfo:
    """The facts that go beside a frame."""
    return ImaginedFrameInfo(
        header=header_of(imagined),
        command_stamp=command_stamp,
        status=ImaginedFrameInfo.STATUS_FRAME,
        sequence=imagined.sequence,
        episode=imagined.episode,
        seed=imagined.seed,
        code=imagined.code,
        name=imagined.name,
        model_ms=imagined.model_ms,
        queue_ms=queue_ms,
    )


def letterbox(frame_YXC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge or shrink to fit into (height, width), centred, the rest black.

    It undoes the centre crop by which a camera image came to the model's size, so that a policy that wants its
    camera's resolution finds everything where that camera would have shown it.
    """
    rows, columns = frame_YXC.shape[:2]
    if (height, width) == (rows, columns):
        return frame_YXC
    top, left, inner_rows, inner_columns = convert.letterbox_box(rows, columns, height, width)
    method = cv2.INTER_LINEAR if inner_rows > rows else cv2.INTER_AREA
    inner_YXC = cv2.resize(frame_YXC, (inner_columns, inner_rows), interpolation=method)
    canvas_YXC = np.zeros((height, width, 3), np.uint8)
    canvas_YXC[top : top + inner_rows, left : left + inner_columns] = inner_YXC
    return canvas_YXC


class Outputs:
    """All topics the simulator publishes, reliable; silent unless the node is active. Any thread may publish."""

    def __init__(self, node: LifecycleNode, publish_clock: bool) -> None:
        def publisher(message_type: type, topic: str, qos: QoSProfile | int = FRAME_DEPTH):
            return node.create_lifecycle_publisher(
                message_type, topic, qos, qos_overriding_options=ALLOW_OVERRIDES, event_callbacks=NO_EVENTS
            )

        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._image = publisher(Image, "imagined/image_raw")
        # built from the resolved name, as image_transport does, so that a remap of the image moves both
        self._compressed = publisher(CompressedImage, f"{self._image.topic_name}/compressed")
        self._camera_info = publisher(CameraInfo, "imagined/camera_info")
        self._info = publisher(ImaginedFrameInfo, "imagined/info")
        self._contact_sheet = publisher(Image, "imagined/contact_sheet", 1)
        self._horizon = publisher(Image, "imagined/horizon", 1)
        self._path = publisher(Path, "imagined/gripper_path", 1)
        self._inferred = publisher(LatentAction, "inferred_action", 10)
        self._surprise = publisher(Surprise, "surprise", 10)
        self._markers = publisher(MarkerArray, "latent_actions", latched)
        self._clock = publisher(Clock, "/clock", 10) if publish_clock else None
        self.clock_ns = 0  # imagined time that was last published

    @property
    def inferred_action_wanted(self) -> bool:
        """Whether anybody listens to `inferred_action`: inferring costs model time."""
        return self._inferred.get_subscription_count() > 0

    @property
    def contact_sheet_wanted(self) -> bool:
        """Whether anybody listens to `imagined/contact_sheet`: it costs a step of every code."""
        return self._contact_sheet.get_subscription_count() > 0

    @property
    def path_wanted(self) -> bool:
        """Whether anybody listens to `imagined/gripper_path`."""
        return self._path.get_subscription_count() > 0

    @property
    def camera_info_wanted(self) -> bool:
        """Whether anybody listens to `imagined/camera_info`."""
        return self._camera_info.get_subscription_count() > 0

    @property
    def compressed_wanted(self) -> bool:
        """Whether anybody listens to the JPEG images."""
        return self._compressed.get_subscription_count() > 0

    def publish_image(self, imagined: ImaginedFrame, frame_YXC: np.ndarray) -> Image:
        """Publish a frame as it goes out (see `letterbox`), before all that belongs to it: it is what all wait for.

        Only the time goes first, so that whoever acts on the image acts at its time.
        """
        header = header_of(imagined)
        if self._clock is not None:
            self.clock_ns = imagined.stamp_ns
            self._clock.publish(Clock(clock=header.stamp))
        image = convert.frame_to_image(frame_YXC, header)
        self._image.publish(image)
        return image

    def publish_info(self, info: ImaginedFrameInfo) -> None:
        """The facts beside a frame."""
        self._info.publish(info)

    def publish_camera_info(self, info: CameraInfo) -> None:
        """The calibration beside a frame."""
        self._camera_info.publish(info)

    def publish_compressed(self, frame_YXC: np.ndarray, header: Header, jpeg_quality: int) -> None:
        """The frame as JPEG."""
        self._compressed.publish(convert.frame_to_compressed(frame_YXC, header, jpeg_quality))

    def publish_no_frame(self, command: Command, status: int, message: str) -> None:
        """Tell whoever waits for a frame that none will come for this command."""
        self._info.publish(
            ImaginedFrameInfo(
                command_stamp=convert.ns_to_stamp(command.stamp_ns),
                status=status,
                message=message,
                code=command.code if command.vector is None else PROMPT_CODE,
            )
        )

    def publish_inferred(self, prompt: Prompt, code: int, name: str, probabilities_A: np.ndarray) -> None:
        """What the camera was seen to do in its last step; stamped like the later frame."""
        header = Header(stamp=convert.ns_to_stamp(prompt.stamp_ns), frame_id=prompt.frame_id)
        self._inferred.publish(
            LatentAction(header=header, code=code, name=name, probabilities=probabilities_A.tolist())
        )

    def publish_contact_sheet(
        self, present: ImaginedFrame, frames_AYXC: np.ndarray, model: WorldModel
    ) -> None:
        """What each code would do next, seen from the present frame."""
        sheet_YXC = sheets.contact_sheet(frames_AYXC, model.latent_actions)
        self._contact_sheet.publish(convert.frame_to_image(sheet_YXC, header_of(present)))

    def publish_horizon(self, seen: ImaginedFrame, horizon: Sequence[ImaginedFrame]) -> None:
        """The camera's frame and those imagined from it, as a strip."""
        if self._horizon.get_subscription_count():
            frames_TYXC = np.stack([frame.frame_YXC for frame in (seen, *horizon)])
            names = ["camera", *(f"+{frame.sequence} {frame.name or frame.code}" for frame in horizon)]
            strip_YXC = sheets.horizon_strip(frames_TYXC, names)
            self._horizon.publish(convert.frame_to_image(strip_YXC, header_of(seen)))

    def publish_surprise(self, judged: Judged) -> None:
        """How far a foreseen frame was from the camera's."""
        self._surprise.publish(
            Surprise(
                header=header_of(judged),
                distance=judged.distance,
                still_distance=judged.still_distance,
                steps_ahead=judged.steps_ahead,
                code=judged.code,
                name=judged.name,
                action_source=judged.action_source,
            )
        )

    def publish_path(self, positions_m_T3: np.ndarray, stamps_ns_T: Sequence[int], frame_id: str) -> None:
        """Where the imagined gripper has been in this episode."""
        self._path.publish(gripper_path(positions_m_T3, stamps_ns_T, frame_id))

    def publish_markers(
        self,
        model: WorldModel,
        active_code: int | None,
        frame_id: str,
        scale: float,
        counts: Mapping[int, int],
    ) -> None:
        """The arrows of all codes, the active one lit; late subscribers get the last ones."""
        self._markers.publish(
            markers.latent_action_markers(model.latent_actions, active_code, frame_id, scale, counts)
        )
