"""The node's publishers: what goes out for one imagined frame."""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from genie_robot import WorldModel
from genie_robot_ros import convert, markers
from genie_robot_ros.simulator import ImaginedFrame, Prompt

# Enough that a burst of commands does not overwrite frames that a slow subscriber has not taken yet.
FRAME_DEPTH = 50
ALLOW_OVERRIDES = QoSOverridingOptions(
    [QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.HISTORY, QoSPolicyKind.DURABILITY]
)


def header_of(imagined: ImaginedFrame) -> Header:
    """Stamp (prompt stamp + sequence * dt) and the camera's frame_id."""
    return Header(stamp=convert.ns_to_stamp(imagined.stamp_ns), frame_id=imagined.frame_id)


class Outputs:
    """All topics the simulator publishes, reliable; silent unless the node is active."""

    def __init__(self, node: LifecycleNode) -> None:
        def publisher(message_type: type, topic: str, qos: QoSProfile | int = FRAME_DEPTH):
            return node.create_lifecycle_publisher(
                message_type, topic, qos, qos_overriding_options=ALLOW_OVERRIDES
            )

        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._image = publisher(Image, "imagined/image_raw")
        # built from the resolved name, as image_transport does, so that a remap of the image moves both
        self._compressed = publisher(CompressedImage, f"{self._image.topic_name}/compressed")
        self._camera_info = publisher(CameraInfo, "imagined/camera_info")
        self._info = publisher(ImaginedFrameInfo, "imagined/info")
        self._inferred = publisher(LatentAction, "inferred_action", 10)
        self._markers = publisher(MarkerArray, "latent_actions", latched)

    @property
    def inferred_action_wanted(self) -> bool:
        """Whether anybody listens to `inferred_action`: inferring costs model time."""
        return self._inferred.get_subscription_count() > 0

    def publish_frame(
        self, imagined: ImaginedFrame, command_stamp: Time, queue_ms: float, jpeg_quality: int
    ) -> Image:
        """Publish a frame and what belongs to it; the image goes first, it is what clients wait for."""
        header = header_of(imagined)
        image = convert.frame_to_image(imagined.frame_YXC, header)
        self._image.publish(image)
        self._info.publish(
            ImaginedFrameInfo(
                header=header,
                command_stamp=command_stamp,
                status=ImaginedFrameInfo.STATUS_FRAME,
                sequence=imagined.sequence,
                episode=imagined.episode,
                code=imagined.code,
                name=imagined.name,
                model_ms=imagined.model_ms,
                queue_ms=queue_ms,
            )
        )
        if self._camera_info.get_subscription_count():
            self._camera_info.publish(convert.camera_info(imagined.frame_YXC, header))
        if self._compressed.get_subscription_count():
            self._compressed.publish(convert.frame_to_compressed(imagined.frame_YXC, header, jpeg_quality))
        return image

    def publish_rejection(self, code: int, command_stamp: Time, message: str) -> None:
        """Tell whoever waits for a frame that none will come for this command."""
        self._info.publish(
            ImaginedFrameInfo(
                command_stamp=command_stamp,
                status=ImaginedFrameInfo.STATUS_REJECTED,
                message=message,
                code=code,
            )
        )

    def publish_inferred(self, prompt: Prompt, code: int, name: str, probabilities_A: np.ndarray) -> None:
        """What the camera was seen to do in its last step; stamped like the later frame."""
        header = Header(stamp=convert.ns_to_stamp(prompt.stamp_ns), frame_id=prompt.frame_id)
        self._inferred.publish(
            LatentAction(header=header, code=code, name=name, probabilities=probabilities_A.tolist())
        )

    def publish_markers(
        self, model: WorldModel, active_code: int | None, frame_id: str, scale: float
    ) -> None:
        """The arrows of all codes, the active one lit; late subscribers get the last ones."""
        self._markers.publish(
            markers.latent_action_markers(model.latent_actions, active_code, frame_id, scale)
        )
