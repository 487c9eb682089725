from __future__ import annotations

import ast
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

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


def mean_by_area(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Each output pixel is the mean of the input it covers, parts of pixels by their share: nothing can alias."""
    length = image.shape[axis]
    edges = np.linspace(0, length, size + 1)
    rows = np.moveaxis(image.astype(np.float64), axis, 0)
    sums = np.concatenate([np.zeros((1, *rows.shape[1:])), np.cumsum(rows, axis=0)])
    whole = np.minimum(edges.astype(int), length - 1)
    part = (edges - whole).reshape(-1, *[1] * (rows.ndim - 1))
    at_edges = sums[whole] + part * rows[whole]
    return np.moveaxis(np.diff(at_edges, axis=0) * size / length, 0, axis)


@settings(deadline=None, max_examples=60)
@given(st.integers(4, 40), st.integers(4, 40), st.floats(1, 6), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_shrinking_is_the_mean_by_area_of_the_centred_crop(
    height: int, width: int, factor: float, spare: int, seed: int
) -> None:
    rows, columns = round(height * factor), round(width * factor) + spare  # noise: every frequency there is
    image = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    crop_rows = min(rows, max(1, round(columns * height / width)))
    crop_columns = min(columns, max(1, round(rows * width / height)))
    if crop_rows < height or crop_columns < width:
        return  # grows
    top, left = (rows - crop_rows) // 2, (columns - crop_columns) // 2
    crop = image[top : top + crop_rows, left : left + crop_columns]
    wanted = mean_by_area(mean_by_area(crop, height, 0), width, 1)
    assert np.abs(resize_frame(image, height, width) - wanted).max() <= 1.01


@settings(deadline=None, max_examples=30)
@given(st.integers(12, 40), st.floats(3, 6), st.integers(0, 2**32 - 1))
def test_it_is_near_an_antialiased_resize_and_plain_linear_is_not(
    side: int, factor: float, seed: int
) -> None:
    size = round(side * factor)
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    smooth = (
        functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)[0]
        .permute(1, 2, 0)
        .numpy()
    )

    def distance(got: np.ndarray) -> float:
        return float(np.sqrt(np.square(got - smooth).mean()))

    ours = distance(resize_frame(image, side, side))
    assert ours < 0.5 * distance(cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR))


#: Calls that change the size of a picture and are not `resize_frame`: for the eye, for a judging network, synthetic textures.
OTHER_RESIZES = {
    "genie_robot/data/resize.py": 1,
    "genie_robot/evaluation/frechet.py": 1,
    "genie_robot/evaluation/policy_report/films.py": 1,
    "genie_robot/evaluation/roughen.py": 1,
    "genie_robot/training/logs.py": 1,
    "ros2_ws/src/genie_robot_ros/genie_robot_ros/outputs.py": 1,
    "ros2_ws/src/genie_robot_ros/genie_robot_ros/round_trip.py": 1,
    "ros2_ws/src/genie_robot_ros/genie_robot_ros/sheets.py": 1,
}


def test_no_camera_frame_is_resized_elsewhere() -> None:
    root = Path(__file__).resolve().parents[2]
    found: dict[str, int] = {}
    for path in [*(root / "genie_robot").rglob("*.py"), *(root / "ros2_ws" / "src").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in {
                    "resize",
                    "interpolate",
                    "thumbnail",
                    "pyrDown",
                    "warpAffine",
                    "reformat",
                }:
                    name = path.relative_to(root).as_posix()
                    found[name] = found.get(name, 0) + 1
    assert found == OTHER_RESIZES
    nearest = [(root / name).read_text() for name in OTHER_RESIZES if "logs" in name or "round_trip" in name]
    assert all("INTER_NEAREST" in text for text in nearest)
