"""The one image decoder: the pixels of OpenCV and TensorFlow (test_tfds_agreement.py), and no others."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.decode import decode_frames, decode_image
from genie_robot.data.resize import resize_frame
from genie_robot.errors import ImageError


def encoded(kind: str, frame: np.ndarray, *options: int) -> bytes:
    return cv2.imencode(kind, frame, list(options))[1].tobytes()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(smooth + rng.integers(-6, 7, (height, width, 3)), 0, 255).astype(np.uint8)


def with_opencv(image: bytes) -> np.ndarray:
    frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    assert frame is not None
    return frame[..., ::-1]


@pytest.mark.parametrize("sampling", ["444", "422", "420", "440", "411", "grey"])
@pytest.mark.parametrize(("quality", "progressive"), [(100, 0), (95, 1), (60, 0)])
@pytest.mark.parametrize(("height", "width"), [(256, 320), (37, 51), (1, 1)])
def test_jpeg_pixels_are_those_of_opencv(
    sampling: str, quality: int, progressive: int, height: int, width: int
) -> None:
    frame = picture(height, width)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    if sampling == "grey":
        frame = frame[..., 0]
    else:
        factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    image = encoded(".jpg", frame, *options)
    np.testing.assert_array_equal(decode_image(image, (height, width, 3)), with_opencv(image))


def test_grey_and_transparent_and_16_bit_images_become_rgb() -> None:
    grey = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    np.testing.assert_array_equal(decode_image(encoded(".png", grey)), np.repeat(grey[..., None], 3, axis=2))
    rgba = np.dstack([grey, grey + 1, grey + 2, grey * 0 + 128])
    np.testing.assert_array_equal(decode_image(encoded(".png", rgba)), np.dstack([grey + 2, grey + 1, grey]))
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encoded(".png", deep))[..., 0], grey)


def test_stray_bytes_of_usb_cameras_are_read_over() -> None:
    image = encoded(".jpg", picture(24, 32))
    stray = image[:-2] + b"abc" + image[-2:]
    np.testing.assert_array_equal(decode_image(stray), decode_image(image))


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.97])
def test_half_an_image_is_none(kind: str, kept: float) -> None:
    image = encoded(kind, picture(64, 80))
    with pytest.raises(ImageError, match="does not decode"):
        decode_image(image[: int(kept * len(image))])


@given(place=st.integers(33, 2**20), bit=st.integers(0, 7))
def test_a_png_with_a_flipped_bit_is_never_taken_for_a_whole_one(place: int, bit: int) -> None:
    image = bytearray(PNG)
    place = 33 + place % (len(image) - 33)
    image[place] ^= 1 << bit
    try:
        frame = decode_image(bytes(image))
    except ImageError:
        return
    np.testing.assert_array_equal(frame, with_opencv(PNG))


PNG = encoded(".png", picture(24, 32))


@pytest.mark.parametrize(
    "order", [("IHDR", "IEND"), ("IHDR", "IEND", "IDAT"), ("IHDR",) * 2 + ("IDAT", "IEND")]
)
def test_a_png_without_its_picture_in_place_is_refused_unread(order: tuple[str, ...]) -> None:
    png = encoded(".png", picture(24, 32))
    chunks = {"IHDR": png[8:33], "IDAT": png[33:-12], "IEND": png[-12:]}
    file = png[:8] + b"".join(chunks[kind] for kind in order)
    # OpenCV reads on behind an early IEND and takes 3.8 GB for this chunk
    with pytest.raises(ImageError, match="no picture between its first and last chunk"):
        decode_image(file + b"\xf0\x00\x00\x00IDAT" + bytes(8))


def test_bytes_behind_the_end_of_a_png_do_not_matter() -> None:
    np.testing.assert_array_equal(decode_image(PNG + b"more"), with_opencv(PNG))


def test_a_png_that_opencv_refuses_is_an_image_error() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 32, 24, 7, 9, 0, 0, 0)  # 7 bits a colour do not exist
    image = PNG[:12] + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]
    with pytest.raises(ImageError, match="does not decode"):
        decode_image(image, (24, 32, 3))


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("image_hw", [None, (16, 16), (60, 90)])
def test_frames_are_the_images_one_by_one(kind: str, image_hw: tuple[int, int] | None) -> None:
    images = [encoded(kind, picture(24, 32, seed)) for seed in range(4)]
    frames_TYXC = decode_frames(images, (24, 32, 3), image_hw)
    singles = [decode_image(image) for image in images]
    wanted = singles if image_hw is None else [resize_frame(single, *image_hw) for single in singles]
    np.testing.assert_array_equal(frames_TYXC, np.stack(wanted))


def test_a_jpeg_of_twice_the_size_is_decoded_at_half_and_looks_the_same() -> None:
    """Against the same resize of the whole picture: less than what JPEG itself changes, and no aliasing of fine stripes."""
    y, x = np.mgrid[:128, :160]
    scene = np.stack([90 + 60 * np.sin(x / 9) + 30 * np.cos(y / 5), 100 + y / 2, 200 - x], axis=-1)
    scene[40:70, 50:90] = (220, 40, 60)
    stripes = np.repeat(255.0 * ((x + y) % 2)[..., None], 3, axis=-1)
    for picture_YXC, least_db in ((scene, 45), (stripes, 40)):
        image = encoded(".jpg", picture_YXC.astype(np.uint8))
        wanted = resize_frame(decode_image(image), 32, 32).astype(float)
        got = decode_frames([image], (128, 160, 3), (32, 32))[0].astype(float)
        assert not np.array_equal(got, wanted), "the whole picture was decoded"
        assert -10 * np.log10(((got - wanted) ** 2).mean() / 255**2) > least_db


def test_images_of_several_sizes_need_a_common_one() -> None:
    images = [
        encoded(".png", picture(24, 32)),
        encoded(".jpg", picture(48, 32)),
        encoded(".png", picture(9, 9)),
    ]
    with pytest.raises(ImageError, match="several sizes"):
        decode_frames(images)
    frames_TYXC = decode_frames(images, (-1, -1, 3), (16, 16))
    np.testing.assert_array_equal(
        frames_TYXC, [resize_frame(decode_image(image), 16, 16) for image in images]
    )


@pytest.mark.parametrize(
    ("shape", "image_hw", "wanted"),
    [((24, 32, 3), None, (24, 32)), ((-1, -1, 3), None, (0, 0)), ((), (8, 9), (8, 9)), ((), None, (0, 0))],
)
def test_no_images_are_no_frames(
    shape: tuple[int, ...], image_hw: tuple[int, int] | None, wanted: tuple[int, int]
) -> None:
    assert decode_frames([], shape, image_hw).shape == (0, *wanted, 3)
