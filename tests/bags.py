"""Bags for tests, written with rosbags: cameras of known frames, actions, poses, joint states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.data.rotation import quaternion_from_vector

pytest.importorskip("rosbags", reason="needs the extra 'formats': pip install -e '.[formats]'")
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from genie_robot.data.bags.file import ROBOT_ACTION_DEFINITION, BagWriter

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
ROBOT_ACTION = "genie_robot_interfaces/msg/RobotAction"
STORE = get_typestore(Stores.ROS2_JAZZY)
STORE.register(get_types_from_msg(ROBOT_ACTION_DEFINITION, ROBOT_ACTION))
HW = (24, 32)
START_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000

Message = tuple[str, str, int, Any]  # topic, type, receive time [ns], content


def header(stamp_ns: int) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](stamp_ns // SECOND, stamp_ns % SECOND)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def frame_of(number: int, hw: tuple[int, int] = HW) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*hw, 3), dtype=np.uint8)


def raw(
    topic: str, stamp_ns: int, frame: np.ndarray, receive_ns: int | None = None, **changes: Any
) -> Message:
    fields = {
        "header": header(stamp_ns),
        "height": frame.shape[0],
        "width": frame.shape[1],
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": frame.shape[1] * 3,
        "data": frame.reshape(-1),
        **changes,
    }
    return topic, IMAGE, stamp_ns if receive_ns is None else receive_ns, STORE.types[IMAGE](**fields)


def jpeg_of(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", np.ascontiguousarray(frame[..., ::-1]))[1].tobytes()


def compressed(
    topic: str, stamp_ns: int, encoded: bytes, form: str = "rgb8; jpeg compressed bgr8"
) -> Message:
    message = STORE.types[COMPRESSED](
        header=header(stamp_ns), format=form, data=np.frombuffer(encoded, np.uint8)
    )
    return topic, COMPRESSED, stamp_ns, message


def write_bag(
    path: Path,
    messages: list[Message],
    plugin: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    writer = Writer(path, version=9, storage_plugin=plugin)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, msgtype, receive_ns, content in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=STORE)
            data = content if isinstance(content, bytes) else STORE.serialize_cdr(content, msgtype)
            writer.write(connections[topic], receive_ns, data)
    return path


def camera_messages(
    count: int, topic: str = "/camera/image_raw", period_ns: int = SECOND // 10
) -> list[Message]:
    return [raw(topic, START_NS + k * period_ns, frame_of(k)) for k in range(count)]


def wanted_frames(numbers: Any) -> np.ndarray:
    return np.stack([frame_of(number) for number in numbers])


def vector(values: Any) -> Any:
    return STORE.types["geometry_msgs/msg/Vector3"](*map(float, values))


def robot_action(stamp_ns: int, values: Any) -> Message:
    content = STORE.types[ROBOT_ACTION](
        header(stamp_ns), vector(values[:3]), vector(values[3:6]), float(values[6])
    )
    return "/robot_action", ROBOT_ACTION, stamp_ns, content


def twist(stamp_ns: int, linear: Any, angular: Any) -> Message:
    content = STORE.types["geometry_msgs/msg/Twist"](vector(linear), vector(angular))
    return "/cmd", "geometry_msgs/msg/Twist", stamp_ns, content


def pose(stamp_ns: int, position: Any, rotation: Any) -> Message:
    point = STORE.types["geometry_msgs/msg/Point"](*map(float, position))
    orientation = STORE.types["geometry_msgs/msg/Quaternion"](
        *quaternion_from_vector(np.array(rotation)).tolist()
    )
    content = STORE.types["geometry_msgs/msg/PoseStamped"](
        header(stamp_ns), STORE.types["geometry_msgs/msg/Pose"](point, orientation)
    )
    return "/pose", "geometry_msgs/msg/PoseStamped", stamp_ns, content


def joints(stamp_ns: int, **positions: float) -> Message:
    names, values = list(positions), np.array(list(positions.values()), np.float64)
    content = STORE.types["sensor_msgs/msg/JointState"](
        header(stamp_ns), names, values, np.zeros(0), np.zeros(0)
    )
    return "/joint_states", "sensor_msgs/msg/JointState", stamp_ns, content


def film(count: int = 6, hw: tuple[int, int] = (32, 48)) -> np.ndarray:
    """Smooth moving pictures, as a camera sees them: a video encoder may blur noise."""
    y, x = np.mgrid[: hw[0], : hw[1]]
    colours = [np.stack([60 + 3 * x, 90 + 2 * y + 5 * k, 200 - 2 * x], axis=-1) for k in range(count)]
    frames = [np.ascontiguousarray(colour.clip(0, 255).astype(np.uint8)) for colour in colours]
    for k, frame in enumerate(frames):
        cv2.circle(frame, (8 + 4 * k, hw[0] // 2), 6, (30, 30, 30), -1)
    return np.stack(frames)


def write_camera_bag(path: Path, frames: np.ndarray, jpeg: bool, start: int = 1000, lost: int = -1) -> Path:
    """A bag at 10 Hz with one camera, robot actions (number `lost` is no number) and two joints."""
    with BagWriter(path) as bag:
        types = bag.types
        for k, frame in enumerate(frames):
            stamp_ns = start * 10**9 + k * 10**8
            time = types["builtin_interfaces/msg/Time"](stamp_ns // 10**9, stamp_ns % 10**9)
            header = types["std_msgs/msg/Header"](time, "camera")
            if jpeg:
                data = np.frombuffer(cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes(), np.uint8)
                bag.write(
                    "/cam",
                    "sensor_msgs/msg/CompressedImage",
                    stamp_ns,
                    header=header,
                    format="jpeg",
                    data=data,
                )
            else:
                fields = {"height": frame.shape[0], "width": frame.shape[1], "step": 3 * frame.shape[1]}
                more = {"encoding": "rgb8", "is_bigendian": 0, "data": frame.reshape(-1)}
                bag.write("/cam", "sensor_msgs/msg/Image", stamp_ns, header=header, **fields, **more)
            step, still = (types["geometry_msgs/msg/Vector3"](0.01 * k * on, 0.0, 0.0) for on in (1, 0))
            action = {"translation": step, "rotation": still, "gripper": np.nan if k == lost else 1.0}
            bag.write("/act", "genie_robot_interfaces/msg/RobotAction", stamp_ns, header=header, **action)
            joints = {"name": ["a", "b"], "position": np.array([k, -k], float)}
            empty = {"velocity": np.zeros(0), "effort": np.zeros(0)}
            bag.write(
                "/joint_states", "sensor_msgs/msg/JointState", stamp_ns, header=header, **joints, **empty
            )
    return path
