"""ROS image messages <-> numpy frames. Pure functions: no node, no executor, no state.

Deserialising a damaged buffer can yield a message with absurd fields, so everything is checked here:
encoding, step, data length and size. Errors are `genie_robot.errors.ImageError`, one line each.
"""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from genie_robot.errors import ImageError

CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
DEFAULT_MAX_PIXELS = 4096 * 4096
NANOSECONDS = 1_000_000_000

_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}


def stamp_to_ns(stamp: Time) -> int:
    """ROS time -> nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds (>= 0) -> ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def image_to_frame(msg: Image, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Image message -> RGB frame, uint8 (Y, X, 3), own memory; ImageError if the message is not sound."""
    channels = CHANNELS.get(msg.encoding)
    if channels is None:
        raise ImageError(
            f"image encoding {msg.encoding[:40]!r} is not supported; publish one of {', '.join(CHANNELS)}"
        )
    _check_size(msg.width, msg.height, max_pixels)
    if msg.step < msg.width * channels:
        raise ImageError(
            f"image step is {msg.step} bytes, a row of {msg.width} {msg.encoding} pixels needs at least "
            f"{msg.width * channels}; fix the publisher"
        )
    if len(msg.data) != msg.step * msg.height:
        raise ImageError(
            f"image data has {len(msg.data)} bytes, step {msg.step} x height {msg.height} asks for "
            f"{msg.step * msg.height}; fix the publisher"
        )
    rows = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)
    frame = rows[:, : msg.width * channels].reshape(msg.height, msg.width, channels)
    if msg.encoding == "rgb8":
        return frame.copy()
    return cv2.cvtColor(np.ascontiguousarray(frame), _TO_RGB[msg.encoding])


def frame_to_image(frame_YXC: np.ndarray, header: Header) -> Image:
    """RGB frame, uint8 (Y, X, 3) -> Image message (rgb8)."""
    _check_frame(frame_YXC)
    height, width = frame_YXC.shape[:2]
    # array.array is the fast way in (1 us at 64x64); bytes and ndarrays are copied element by element
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(frame_YXC).data)
    return Image(
        header=header, height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width, data=data
    )


def compressed_to_frame(msg: CompressedImage, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """JPEG or PNG CompressedImage -> RGB frame, uint8 (Y, X, 3); ImageError if it cannot be decoded."""
    data = bytes(msg.data)
    width, height = _compressed_size(data, msg.format)
    _check_size(width, height, max_pixels)  # before decoding: a small file can hold a huge picture
    try:
        frame_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"compressed image cannot be decoded: {error.err}; fix the publisher") from None
    if frame_bgr is None:
        raise ImageError(
            f"compressed image of {len(data)} bytes (format {msg.format[:40]!r}) cannot be decoded; "
            "publish JPEG or PNG"
        )
    return cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)


def frame_to_compressed(frame_YXC: np.ndarray, header: Header, jpeg_quality: int = 90) -> CompressedImage:
    """RGB frame, uint8 (Y, X, 3) -> JPEG CompressedImage, with the format string image_transport writes."""
    _check_frame(frame_YXC)
    flags = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(frame_YXC, cv2.COLOR_RGB2BGR), flags)[1]
    data = array.array("B")
    data.frombytes(encoded.data)
    return CompressedImage(header=header, format="rgb8; jpeg compressed bgr8", data=data)


def camera_info(frame_YXC: np.ndarray, header: Header) -> CameraInfo:
    """CameraInfo of an imagined frame; K stays zero, which sensor_msgs defines as "not calibrated"."""
    return CameraInfo(header=header, height=frame_YXC.shape[0], width=frame_YXC.shape[1])


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1 or width * height > max_pixels:
        raise ImageError(
            f"image size {width}x{height} is not between 1 and {max_pixels} pixels; "
            "publish a smaller image or raise the parameter max_image_pixels"
        )


def _check_frame(frame_YXC: np.ndarray) -> None:
    assert frame_YXC.dtype == np.uint8, frame_YXC.dtype
    assert frame_YXC.ndim == 3 and frame_YXC.shape[2] == 3, frame_YXC.shape


def _compressed_size(data: bytes, format_name: str) -> tuple[int, int]:
    """(width, height) from the file's own header, without decoding."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    if data[:2] == b"\xff\xd8":
        size = _jpeg_size(data)
        if size is not None:
            return size
        raise ImageError(
            f"JPEG image of {len(data)} bytes has no frame header (truncated?); fix the publisher"
        )
    raise ImageError(
        f"compressed image of {len(data)} bytes (format {format_name[:40]!r}) is neither JPEG nor PNG; "
        "publish one of these"
    )


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        # start-of-frame markers, without DHT (C4), JPG (C8) and DAC (CC)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    return None
