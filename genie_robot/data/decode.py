"""PNG and JPEG bytes -> pixels, the same ones for every reader: the exact inverse transform, the stored orientation.

simplejpeg (libjpeg-turbo) and OpenCV give equal pixels, simplejpeg a fifth faster. A size is read from the header and
judged before memory is taken; PNG's own checksums are verified, because OpenCV may take a damaged file for a whole one.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import simplejpeg

from genie_robot.data.resize import resize_frame
from genie_robot.errors import ImageError

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_PNG_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # as TFDS: the stored pixels, EXIF or not
_MOST_PIXELS = 2**26  # of one image: 8192 x 8192
_MOST_BYTES = 2**34  # of the frames of one episode
# Many USB cameras write JPEG with a few stray bytes; every decoder reads on, and so does TensorFlow.
_HARMLESS = "extraneous bytes before marker"


def image_size(encoded: bytes, shape: tuple[int, ...] = ()) -> tuple[int, int]:
    """(height, width) from the header; ImageError for other bytes, a size other than `shape` (-1: any), or a huge one."""
    try:
        if encoded.startswith(_PNG):
            width, height = struct.unpack_from(">II", encoded, 16)
        elif encoded.startswith(_JPEG):
            height, width = (int(side) for side in simplejpeg.decode_jpeg_header(encoded)[:2])
        else:
            raise ImageError(f"got an image that begins with {encoded[:8]!r}; wanted PNG or JPEG")
    except (struct.error, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(
            f"got a PNG or JPEG of {len(encoded)} bytes that does not decode ({error}); wanted a whole image"
        ) from error
    if any(wanted not in (-1, got) for wanted, got in zip(shape[:2], (height, width), strict=False)):
        raise ImageError(
            f"got an image of {(height, width)} pixels; wanted {shape[:2]} as the features of the dataset say"
        )
    if height * width > _MOST_PIXELS:
        raise ImageError(f"got an image of {height} x {width} pixels; wanted at most {_MOST_PIXELS}")
    return height, width


def decode_image(encoded: bytes, shape: tuple[int, ...] = ()) -> np.ndarray:
    """PNG or JPEG bytes -> uint8 RGB (Y, X, 3); ImageError as `image_size`, or when the image is not whole."""
    image_size(encoded, shape)
    return _decode(encoded)


def decode_frames(
    encoded: Sequence[bytes], shape: tuple[int, ...] = (), image_hw: tuple[int, int] | None = None
) -> np.ndarray:
    """T images -> uint8 RGB (T, Y, X, 3), each brought to `image_hw` by `resize_frame` where that is given.

    ImageError as `decode_image`, for images of several sizes without `image_hw`, and for more than 16 GiB.
    """
    sizes = {image_size(image, shape) for image in encoded}
    if image_hw is None and len(sizes) > 1:
        raise ImageError(f"got images of several sizes {sorted(sizes)[:4]}; wanted one, or give image_hw")
    empty_hw = (max(shape[0], 0), max(shape[1], 0)) if len(shape) == 3 else (0, 0)
    height, width = image_hw or next(iter(sizes), empty_hw)
    if (num_bytes := len(encoded) * height * width * 3) > _MOST_BYTES:
        raise ImageError(
            f"got {num_bytes / 2**30:.0f} GiB of frames in one episode; wanted at most {_MOST_BYTES >> 30}: give image_hw"
        )
    frames_TYXC = np.empty((len(encoded), height, width, 3), np.uint8)
    # One scratch frame for all: fresh memory for each costs a fifth of the whole time in page faults and cold caches.
    scratch = None if image_hw is None else np.empty(max((y * x * 3 for y, x in sizes), default=0), np.uint8)
    halve = image_hw is not None and len(sizes) == 1 and _twice_as_large(*next(iter(sizes)), height, width)
    for frame_YXC, image in zip(frames_TYXC, encoded, strict=True):
        if scratch is None:
            _decode(image, frame_YXC)
        else:
            frame_YXC[:] = resize_frame(_decode(image, scratch, halve), height, width)
    return frames_TYXC


def _twice_as_large(rows: int, columns: int, height: int, width: int) -> bool:
    """Whether a frame of even sides, cut to the wanted shape, is at least twice the wanted size."""
    even = rows % 2 == columns % 2 == 0
    return even and min(rows, round(columns * height / width)) >= 2 * height


def _decode(encoded: bytes, buffer: np.ndarray | None = None, halve: bool = False) -> np.ndarray:
    """A PNG or JPEG with a good header -> (Y, X, 3), in `buffer` where that is given: contiguous, at least as large.

    `halve`: a JPEG at half its size, by its own inverse transform (antialiased, a third of the time saved).
    """
    if encoded.startswith(_PNG):
        return _decode_png(encoded, buffer)
    options: dict[str, Any] = {"buffer": buffer}
    if halve:
        height, width = (int(side) // 2 for side in simplejpeg.decode_jpeg_header(encoded)[:2])
        options |= {"min_factor": 2, "min_height": height, "min_width": width}
    try:
        return simplejpeg.decode_jpeg(encoded, "RGB", **options)
    except ValueError as error:
        if _HARMLESS in str(error):
            return simplejpeg.decode_jpeg(encoded, "RGB", **options, strict=False)
        raise ImageError(
            f"got a JPEG of {len(encoded)} bytes that does not decode ({error}); wanted a whole image"
        ) from error


def _decode_png(encoded: bytes, buffer: np.ndarray | None) -> np.ndarray:
    fault, image = _png_fault(encoded), None
    if not fault:
        try:
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), _PNG_FLAGS)
        except cv2.error as error:
            fault = str(error).strip().splitlines()[-1]
    if image is None:
        raise ImageError(
            f"got a PNG of {len(encoded)} bytes that does not decode ({fault or 'OpenCV refuses it'}); wanted a whole image"
        )
    rgb = None if buffer is None else buffer.reshape(-1)[: image.size].reshape(image.shape)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=rgb)


def _png_fault(encoded: bytes) -> str:
    """What is wrong with the chunks of a PNG file, "" when nothing: each has a length, a kind and a CRC-32.

    The order too: OpenCV reads past an IEND that comes before the picture, and takes memory for what it finds there.
    """
    content, position = memoryview(encoded), len(_PNG)
    kinds: list[bytes] = []
    while position + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 12 + length
        if end > len(content):
            break
        if zlib.crc32(content[position + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            return f"checksum of chunk {kind!r} at byte {position}"
        kinds.append(kind)
        if kind == b"IEND":
            whole = kinds[0] == b"IHDR" and kinds.count(b"IHDR") == 1 and b"IDAT" in kinds
            return "" if whole else "no picture between its first and last chunk"
        position = end
    return f"ends after {len(content)} bytes"
