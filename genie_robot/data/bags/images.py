"""sensor_msgs/Image and CompressedImage, as a bag holds them -> uint8 RGB frames. Pure functions; no ROS needed.

A damaged message can deserialise into absurd fields, so size, step, length and encoding are checked before a pixel is
used. Encodings are those of sensor_msgs/image_encodings.hpp: 8- and 16-bit RGB(A), BGR(A), mono and Bayer, packed YUV
4:2:2 and NV21. A 16-bit channel keeps its upper eight bits. Depth pictures are refused: they are no colour camera.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from genie_robot.data.decode import decode_image, image_size
from genie_robot.errors import ImageError

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
MAX_PIXELS = 4096 * 4096

#: encoding -> (channels, bits of a channel, OpenCV conversion to RGB; None where it is RGB already)
_ENCODINGS: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (3, 8, None),
    "bgr8": (3, 8, cv2.COLOR_BGR2RGB),
    "8UC3": (3, 8, cv2.COLOR_BGR2RGB),
    "rgba8": (4, 8, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, 8, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 8, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 8, cv2.COLOR_GRAY2RGB),
    "rgb16": (3, 16, None),
    "bgr16": (3, 16, cv2.COLOR_BGR2RGB),
    "rgba16": (4, 16, cv2.COLOR_RGBA2RGB),
    "bgra16": (4, 16, cv2.COLOR_BGRA2RGB),
    "mono16": (1, 16, cv2.COLOR_GRAY2RGB),
    "yuv422": (2, 8, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 8, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 8, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 8, cv2.COLOR_YUV2RGB_YUY2),
    "nv21": (1, 8, cv2.COLOR_YUV2RGB_NV21),
}
for _pattern in ("RGGB", "BGGR", "GBRG", "GRBG"):
    _code = getattr(cv2, f"COLOR_Bayer{_pattern}2RGB")
    _ENCODINGS[f"bayer_{_pattern.lower()}8"] = (1, 8, _code)
    _ENCODINGS[f"bayer_{_pattern.lower()}16"] = (1, 16, _code)


def camera_kind(message: Any) -> int:
    """2 for a colour picture in an Image or CompressedImage message, 1 for a grey one, 0 for depth and the like."""
    if hasattr(message, "format"):
        name, usable = message.format.lower(), "compresseddepth" not in message.format.lower()
    else:
        name, usable = message.encoding.lower(), message.encoding in _ENCODINGS
    if not usable or name.startswith(("16uc1", "32fc1")):
        return 0
    return 1 if name.startswith(("mono", "8uc1")) else 2


def check_image(message: Any) -> None:
    """Find a message that cannot hold a whole picture without decoding it; ImageError says what is wrong with it."""
    if hasattr(message, "format"):
        encoded_image(message)
        return
    _layout(message)


def encoded_image(message: Any) -> bytes:
    """The JPEG or PNG of a CompressedImage message as it is; ImageError when it is not whole."""
    encoded = bytes(message.data)
    _check_compressed(encoded, message.format)
    return encoded


def decode_frame(message: Any, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Image or CompressedImage message -> uint8 RGB (Y, X, 3), own memory; ImageError when it is not sound.

    Or larger than `max_pixels`, which is found before memory is taken: a small file can hold a huge picture.
    """
    if hasattr(message, "format"):
        encoded = encoded_image(message)
        rows, columns = image_size(encoded)
        _check_size(rows, columns, max_pixels)
        return decode_image(encoded)
    rows, columns, channels, bits, conversion = _layout(message, max_pixels)
    dtype = np.dtype(np.uint8 if bits == 8 else (">u2" if message.is_bigendian else "<u2"))
    table = np.frombuffer(message.data, np.uint8).reshape(rows, message.step)
    pixels = np.ascontiguousarray(table[:, : columns * channels * bits // 8]).view(dtype)
    if bits == 16:
        pixels = (pixels >> 8).astype(np.uint8)
    image = pixels.reshape(rows, columns, channels)
    if conversion is None:
        return image.copy()
    return cv2.cvtColor(image, conversion)


def _layout(message: Any, max_pixels: int = MAX_PIXELS) -> tuple[int, int, int, int, int | None]:
    """(rows of the buffer, columns, channels, bits, conversion) of a sound Image message; else ImageError."""
    if message.encoding not in _ENCODINGS:
        raise ImageError(
            f"image encoding {message.encoding[:40]!r} is no colour picture that can be read; "
            f"wanted one of {', '.join(_ENCODINGS)}"
        )
    channels, bits, conversion = _ENCODINGS[message.encoding]
    rows, columns = message.height, message.width
    _check_size(rows, columns, max_pixels)
    even = columns % 2 == 0 or channels != 2
    if message.encoding == "nv21":  # below the picture lies its chroma, half as many rows
        even, rows = rows % 2 == 0 and columns % 2 == 0, rows + rows // 2
    if not even:
        raise ImageError(f"{message.encoding} image of {columns}x{message.height} pixels; wanted even sides")
    if message.step < columns * channels * bits // 8 or len(message.data) != message.step * rows:
        raise ImageError(
            f"image data has {len(message.data)} bytes with step {message.step}; wanted {rows} rows of "
            f"{columns} {message.encoding} pixels"
        )
    return rows, columns, channels, bits, conversion


def _check_size(rows: int, columns: int, max_pixels: int) -> None:
    if not (rows >= 1 and columns >= 1 and rows * columns <= max_pixels):
        raise ImageError(f"image of {columns}x{rows} pixels; wanted 1 to {max_pixels} pixels")


def _check_compressed(encoded: bytes, name: str) -> None:
    """ImageError unless the bytes begin and end as a whole JPEG or PNG; a decoder fills a cut-off JPEG with grey."""
    if "compresseddepth" in name.lower():
        raise ImageError(f"image format {name[:40]!r} is a depth picture; wanted a colour camera")
    whole_jpeg = encoded.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in encoded[-64:]
    whole_png = encoded.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in encoded[-64:]
    if not (whole_jpeg or whole_png):
        raise ImageError(
            f"compressed image (format {name[:40]!r}, {len(encoded)} bytes, begins {encoded[:4]!r}) is no whole "
            "JPEG or PNG"
        )
