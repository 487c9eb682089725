"""Image messages <-> frames: exact over the wire. Every encoding is tested in tests/data/test_bag_images.py, damaged
messages in test_convert_fuzz.py."""

from __future__ import annotations

import array
import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from genie_robot_ros import convert
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from genie_robot.errors import ImageError

RED, GREEN = (200, 40, 90), (20, 140, 60)


def random_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image_message(rows: np.ndarray, hw: tuple[int, int], encoding: str, big_endian: int = 0) -> Image:
    """An Image of hw pixels from its rows, padding and all."""
    data = array.array("B", rows.tobytes())
    height, width = hw
    step = len(data) // height
    return Image(height=height, width=width, encoding=encoding, step=step, is_bigendian=big_endian, data=data)


def compressed_message(encoded: bytes) -> CompressedImage:
    return CompressedImage(format="rgb8; jpeg compressed bgr8", data=array.array("B", encoded))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_round_trip_over_the_wire_is_exact(height: int, width: int, stamp_ns: int) -> None:
    frame = random_frame(height, width)
    header = Header(stamp=convert.ns_to_stamp(stamp_ns), frame_id="camera")
    message = convert.frame_to_image(frame, header)
    assert isinstance(message.data, array.array)  # other types are copied byte by byte
    received = deserialize_message(serialize_message(message), Image)
    np.testing.assert_array_equal(convert.image_to_frame(received), frame)
    assert convert.stamp_to_ns(received.header.stamp) == stamp_ns


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("big_endian", [0, 1])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "rgba", "bgra", "mono"])
@pytest.mark.parametrize("bits", [8, 16])
def test_camera_encodings_over_the_wire(channels: str, bits: int, big_endian: int, padding: int) -> None:
    frame = random_frame(5, 7)
    order = ["rgb".find(letter) for letter in channels] if channels != "mono" else [0]
    stored = frame[..., order]  # alpha repeats a colour: it has to be dropped
    if bits == 16:
        stored = (stored.astype(np.uint16) << 8 | 0xAB).astype(">u2" if big_endian else "<u2")
    rows = np.ascontiguousarray(stored).reshape(5, -1).view(np.uint8)
    message = image_message(np.pad(rows, ((0, 0), (0, padding))), (5, 7), f"{channels}{bits}", big_endian)
    received = deserialize_message(serialize_message(message), Image)
    expected = np.repeat(frame[..., :1], 3, axis=2) if channels == "mono" else frame
    np.testing.assert_array_equal(convert.image_to_frame(received), expected)


def test_the_frame_owns_its_memory() -> None:
    message = convert.frame_to_image(random_frame(3, 3), Header())
    frame = convert.image_to_frame(message)
    before = frame.copy()
    message.data[0] ^= 255
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "16UC1"}, "16UC1"),  # a depth picture, REP 118
        ({"encoding": ""}, "rgb8"),
        ({"width": 0}, "0x4"),
        ({"height": 0}, "6x0"),
        ({"step": 17}, "step 17; wanted 4 rows of 6 rgb8 pixels"),
        ({"step": 19}, "step 19; wanted 4 rows of 6 rgb8 pixels"),
        ({"height": 5}, "72 bytes with step 18; wanted 5 rows"),
        ({"encoding": "yuyv", "width": 5}, "even sides"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "wanted 1 to 16777216 pixels"),
        ({"data": array.array("B")}, "0 bytes"),
    ],
)
def test_unsound_images_are_refused_in_one_line(change: dict, said: str) -> None:
    message = convert.frame_to_image(random_frame(4, 6), Header())
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=said) as error:
        convert.image_to_frame(message)
    assert "\n" not in str(error.value)


def test_too_many_pixels_are_refused_at_the_limit_of_the_caller() -> None:
    message = convert.frame_to_image(random_frame(10, 10), Header())
    assert convert.image_to_frame(message, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(ImageError, match="10x10 pixels; wanted 1 to 99 pixels"):
        convert.image_to_frame(message, max_pixels=99)


def test_jpeg_and_png_come_back() -> None:
    frame = cv2.resize(random_frame(6, 6), (64, 48), interpolation=cv2.INTER_CUBIC)
    jpeg = convert.frame_to_compressed(frame, Header(), jpeg_quality=95)
    assert "jpeg" in jpeg.format
    close = convert.compressed_to_frame(jpeg).astype(int)
    assert np.abs(close - frame).mean() < 6
    png = compressed_message(cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    np.testing.assert_array_equal(convert.compressed_to_frame(png), frame)


def two_colours() -> np.ndarray:
    """(16, 24, 3), left half RED, right half GREEN."""
    frame = np.empty((16, 24, 3), np.uint8)
    frame[:, :12], frame[:, 12:] = RED, GREEN
    return frame


def turned_jpeg() -> bytes:
    """With an EXIF block that asks for a quarter turn (orientation 6)."""
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, 6, 0, 0)
    jpeg = simplejpeg.encode_jpeg(two_colours(), quality=95)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def cmyk_jpeg() -> bytes:
    # Adobe's inverted CMYK, the only kind in use: 255 is no ink
    cmyk = np.dstack([two_colours(), np.full((16, 24), 255, np.uint8)])
    return simplejpeg.encode_jpeg(cmyk, quality=95, colorspace="CMYK")


def wide_png(channels: int | slice = slice(None, None, -1)) -> bytes:
    wide = two_colours().astype(np.uint16) << 8 | 0xFF
    return cv2.imencode(".png", wide[..., channels])[1].tobytes()


def alpha_png() -> bytes:
    return cv2.imencode(".png", np.dstack([two_colours()[..., ::-1], np.zeros((16, 24), np.uint8)]))[
        1
    ].tobytes()


@pytest.mark.parametrize(
    ("encoded", "left", "right"),
    [
        (turned_jpeg(), RED, GREEN),  # as stored: a raw image of the same camera is not turned either
        (cmyk_jpeg(), RED, GREEN),
        (wide_png(), RED, GREEN),
        (wide_png(0), (200,) * 3, (20,) * 3),
        (alpha_png(), RED, GREEN),
    ],
    ids=["exif", "cmyk", "png16", "png16grey", "alpha"],
)
def test_unusual_files(encoded: bytes, left: tuple, right: tuple) -> None:
    frame = convert.compressed_to_frame(compressed_message(encoded)).astype(int)
    assert frame.shape == (16, 24, 3)
    assert np.abs(frame[4:12, 3:9] - left).max() <= 4
    assert np.abs(frame[4:12, 15:21] - right).max() <= 4


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 40, 200, -2])
def test_truncated_files_are_refused(cut: int) -> None:
    jpeg = convert.frame_to_compressed(random_frame(32, 32), Header())
    with pytest.raises(ImageError):
        convert.compressed_to_frame(CompressedImage(format=jpeg.format, data=jpeg.data[:cut]))


def test_a_small_file_with_a_huge_picture_is_refused_before_decoding() -> None:
    png = compressed_message(cv2.imencode(".png", np.zeros((3000, 3000, 3), np.uint8))[1].tobytes())
    with pytest.raises(ImageError, match="3000x3000"):
        convert.compressed_to_frame(png, max_pixels=1_000_000)
