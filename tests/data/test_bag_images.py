"""Every encoding of sensor_msgs/Image to RGB, and absurd messages."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data.bags.images import _ENCODINGS, decode_frame
from genie_robot.errors import ImageError


class Content:
    """An Image message as the decoder sees it."""

    def __init__(self, data: np.ndarray, hw: tuple[int, int], encoding: str, step: int, big: int = 0) -> None:
        self.data, (self.height, self.width), self.encoding = data.reshape(-1).view(np.uint8), hw, encoding
        self.step, self.is_bigendian = step, big


def smooth(hw: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: hw[0], : hw[1]]
    return np.stack([40 + 4 * x, 200 - 5 * y, 60 + 2 * x + 2 * y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC3"])
def test_eight_bit_encodings_are_exact(encoding: str) -> None:
    frame, padding = smooth((16, 24)), 5
    stored = {
        "rgb8": frame,
        "bgr8": frame[..., ::-1],
        "8UC3": frame[..., ::-1],
        "rgba8": np.dstack([frame, np.full((16, 24), 9, np.uint8)]),
        "bgra8": np.dstack([frame[..., ::-1], np.full((16, 24), 9, np.uint8)]),
        "mono8": frame[..., 0],
    }[encoding].reshape(16, -1)
    rows = np.pad(stored, ((0, 0), (0, padding)))  # rows may be longer than their pixels
    got = decode_frame(Content(rows, (16, 24), encoding, rows.shape[1]))
    wanted = np.repeat(frame[..., :1], 3, axis=2) if encoding == "mono8" else frame
    np.testing.assert_array_equal(got, wanted)
    assert got.flags.owndata or (got.base is not None and not np.shares_memory(got, rows))


@pytest.mark.parametrize("big", [0, 1])
@pytest.mark.parametrize("encoding", ["rgb16", "bgr16", "mono16"])
def test_sixteen_bits_keep_their_upper_half(encoding: str, big: int) -> None:
    frame = smooth((8, 10))
    wide = (frame.astype(np.uint16) << 8 | 77).astype(">u2" if big else "<u2")
    stored = {"rgb16": wide, "bgr16": wide[..., ::-1], "mono16": wide[..., 0]}[encoding]
    stored = np.ascontiguousarray(stored)
    got = decode_frame(Content(stored, (8, 10), encoding, stored[0].nbytes, big))
    np.testing.assert_array_equal(
        got, np.repeat(frame[..., :1], 3, axis=2) if encoding == "mono16" else frame
    )


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_have_their_colours_in_place(pattern: str) -> None:
    colour = np.array([200, 120, 40], np.uint8)
    places = {name: [(k // 2, k % 2) for k, letter in enumerate(pattern) if letter == name] for name in "rgb"}
    mosaic = np.zeros((8, 10), np.uint8)
    for channel, name in enumerate("rgb"):
        for y, x in places[name]:
            mosaic[y::2, x::2] = colour[channel]
    got = decode_frame(Content(mosaic, (8, 10), f"bayer_{pattern}8", 10))
    np.testing.assert_array_equal(got, np.broadcast_to(colour, (8, 10, 3)))
    wide = (mosaic.astype("<u2") << 8) | 3
    np.testing.assert_array_equal(decode_frame(Content(wide, (8, 10), f"bayer_{pattern}16", 20)), got)


@pytest.mark.parametrize(
    ("encoding", "order"), [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")]
)
def test_packed_yuv(encoding: str, order: str) -> None:
    frame = np.broadcast_to(np.array([180, 90, 50], np.uint8), (8, 12, 3))
    y, v, u = (int(c) for c in cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2YCrCb)[0, 0])
    y = round(16 + 219 / 255 * y)  # video range, as cameras send
    u, v = (round(128 + 224 / 255 * (c - 128)) for c in (u, v))
    quad = [u, y, v, y] if order == "uyvy" else [y, u, y, v]
    got = decode_frame(Content(np.tile(np.array(quad, np.uint8), (8, 6)), (8, 12), encoding, 24))
    assert np.abs(got.astype(int) - frame).max() <= 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "32FC1"}, "no colour picture that can be read"),
        ({"step": 3}, "image data has"),
        ({"height": 10**6, "width": 10**6}, "image of 1000000x1000000 pixels"),
        ({"height": 0}, "image of 24x0 pixels"),
        ({"data": np.zeros(7, np.uint8)}, "image data has 7 bytes"),
        ({"encoding": "nv21", "height": 15}, "wanted even sides"),
    ],
)
def test_absurd_images_are_refused(changes: dict[str, Any], message: str) -> None:
    content = Content(smooth((16, 24)), (16, 24), "rgb8", 72)
    for name, value in changes.items():
        setattr(content, name, value)
    with pytest.raises(ImageError, match=message):
        decode_frame(content)


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(_ENCODINGS)),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 80),
    st.integers(0, 600),
    st.integers(0, 1),
)
def test_any_fields_give_a_frame_or_an_image_error(
    encoding: str, height: int, width: int, step: int, length: int, big: int
) -> None:
    try:
        frame = decode_frame(
            Content(np.arange(length).astype(np.uint8), (height, width), encoding, step, big)
        )
    except ImageError:
        return
    assert frame.shape == (height, width, 3) and frame.dtype == np.uint8
