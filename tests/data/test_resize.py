from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.resize import resize_frame
from genie_robot.errors import ImageError

SIDE = st.integers(1, 90)


@given(SIDE, SIDE, SIDE, SIDE)
def test_any_size_to_any_size(rows: int, columns: int, height: int, width: int) -> None:
    image = np.full((rows, columns, 3), (10, 120, 240), np.uint8)
    resized = resize_frame(image, height, width)
    assert resized.shape == (height, width, 3)
    assert resized.dtype == np.uint8
    assert (resized == (10, 120, 240)).all()


def test_the_right_size_is_returned_untouched() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    assert resize_frame(image, 24, 32) is image


def test_shrinking_by_a_whole_factor_is_the_mean_of_the_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    blocks = image.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.abs(resize_frame(image, 64, 64) - blocks).max() <= 0.5


def test_a_wide_image_is_cut_at_its_sides_not_squeezed() -> None:
    image = np.zeros((256, 320, 3), np.uint8)
    image[:, :32] = image[:, 288:] = 255  # what lies outside the centred square
    assert resize_frame(image, 64, 64).max() == 0
    image[:, 32:40] = 255
    assert resize_frame(image, 64, 64)[:, :2].min() == 255


def test_a_tall_image_is_cut_above_and_below() -> None:
    image = np.zeros((100, 60, 3), np.uint8)
    image[:20] = image[80:] = 255
    assert resize_frame(image, 30, 30).max() == 0


def test_fine_stripes_do_not_alias() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    image[:, ::2] = 255
    assert np.ptp(resize_frame(image, 60, 60).astype(int)) <= 40  # INTER_LINEAR would give moire of 255


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_images_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ImageError, match="wanted uint8 RGB"):
        resize_frame(image, 4, 4)
