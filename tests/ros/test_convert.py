"""Image messages <-> frames: exact, and strict with whatever a network can deliver."""

from __future__ import annotations

import array
import contextlib

import cv2
import numpy as np
import pytest
from genie_robot_ros import convert
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy._rclpy_pybind11 import RMWError
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from genie_robot.errors import ImageError


def random_frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image_message(frame: np.ndarray, encoding: str, padding: int = 0) -> Image:
    height, width = frame.shape[:2]
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    rows = np.zeros((height, width * channels + padding), np.uint8)
    rows[:, : width * channels] = frame.reshape(height, -1)
    data = array.array("B", rows.tobytes())
    return Image(height=height, width=width, encoding=encoding, step=rows.shape[1], data=data)


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


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "to_encoding"),
    [
        ("rgb8", lambda frame: frame),
        ("bgr8", lambda frame: frame[..., ::-1]),
        ("rgba8", lambda frame: np.dstack([frame, frame[..., 0]])),
        ("bgra8", lambda frame: np.dstack([frame[..., ::-1], frame[..., 0]])),
    ],
)
def test_colour_encodings(encoding: str, to_encoding, padding: int) -> None:
    frame = random_frame(5, 7)
    message = image_message(np.ascontiguousarray(to_encoding(frame)), encoding, padding)
    np.testing.assert_array_equal(convert.image_to_frame(message), frame)


def test_grey_becomes_three_equal_channels() -> None:
    grey = random_frame(4, 6)[..., 0]
    frame = convert.image_to_frame(image_message(grey, "mono8", padding=2))
    np.testing.assert_array_equal(frame, np.repeat(grey[..., None], 3, axis=2))


def test_the_frame_owns_its_memory() -> None:
    message = image_message(random_frame(3, 3), "rgb8")
    frame = convert.image_to_frame(message)
    before = frame.copy()
    message.data[0] ^= 255
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": "16UC1"}, "16UC1"),
        ({"encoding": ""}, "rgb8"),
        ({"width": 0}, "0x4"),
        ({"height": 0}, "6x0"),
        ({"step": 17}, "at least 18"),
        ({"step": 19}, "asks for 76"),
        ({"height": 5}, "asks for 90"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "max_image_pixels"),
        ({"data": array.array("B")}, "0 bytes"),
    ],
)
def test_unsound_images_are_refused_in_one_line(change: dict, said: str) -> None:
    message = image_message(random_frame(4, 6), "rgb8")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ImageError, match=said) as error:
        convert.image_to_frame(message)
    assert "\n" not in str(error.value)


@given(
    st.sampled_from([*convert.CHANNELS, "yuv422", "", "rgb8 "]),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
)
@settings(max_examples=300, deadline=None)
def test_any_fields_give_a_frame_or_an_image_error(encoding, width, height, step, data) -> None:
    message = Image(encoding=encoding, width=width, height=height, step=step, data=array.array("B", data))
    try:
        frame = convert.image_to_frame(message)
    except ImageError:
        return
    assert frame.shape == (height, width, 3)
    assert frame.dtype == np.uint8


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9), st.sampled_from(list(convert.CHANNELS)))
@settings(max_examples=100, deadline=None)
def test_small_sound_images_are_always_taken(height: int, width: int, padding: int, encoding: str) -> None:
    channels = convert.CHANNELS[encoding]
    step = width * channels + padding
    message = Image(encoding=encoding, width=width, height=height, step=step)
    message.data = array.array("B", bytes(step * height))
    assert convert.image_to_frame(message).shape == (height, width, 3)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_wire_bytes_never_crash(data: st.DataObject) -> None:
    wire = bytearray(serialize_message(convert.frame_to_image(random_frame(4, 4), Header(frame_id="camera"))))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    wire = wire[: data.draw(st.integers(5, len(wire)))]
    try:
        message = deserialize_message(bytes(wire), Image)
    except (RMWError, UnicodeDecodeError):
        return
    with contextlib.suppress(ImageError):
        assert convert.image_to_frame(message).shape == (message.height, message.width, 3)


def test_jpeg_and_png_come_back() -> None:
    frame = cv2.resize(random_frame(6, 6), (64, 48), interpolation=cv2.INTER_CUBIC)
    jpeg = convert.frame_to_compressed(frame, Header(), jpeg_quality=95)
    assert "jpeg" in jpeg.format
    close = convert.compressed_to_frame(jpeg).astype(int)
    assert np.abs(close - frame).mean() < 6
    png = cv2.imencode(".png", frame[..., ::-1])[1]
    message = CompressedImage(format="png", data=array.array("B", png.tobytes()))
    np.testing.assert_array_equal(convert.compressed_to_frame(message), frame)


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 40, 200])
def test_truncated_files_are_refused_or_shown_in_part(cut: int) -> None:
    jpeg = convert.frame_to_compressed(random_frame(32, 32), Header())
    message = CompressedImage(format=jpeg.format, data=jpeg.data[:cut])
    with pytest.raises(ImageError):
        convert.compressed_to_frame(message)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"]))
@settings(max_examples=200, deadline=None)
def test_any_compressed_bytes_give_a_frame_or_an_image_error(tail: bytes, head: bytes) -> None:
    message = CompressedImage(data=array.array("B", head + tail))
    with contextlib.suppress(ImageError):
        assert convert.compressed_to_frame(message, max_pixels=10_000).dtype == np.uint8


def test_a_small_file_with_a_huge_picture_is_refused_before_decoding() -> None:
    png = cv2.imencode(".png", np.zeros((3000, 3000, 3), np.uint8))[1]
    message = CompressedImage(format="png", data=array.array("B", png.tobytes()))
    with pytest.raises(ImageError, match="3000x3000"):
        convert.compressed_to_frame(message, max_pixels=1_000_000)
