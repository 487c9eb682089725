"""PSNR, moving-pixel PSNR and SSIM against hand values and independent implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from genie_robot.evaluation.video import (
    MAX_PSNR_DB,
    moving_psnr,
    moving_psnr_per_frame,
    psnr,
    psnr_per_frame,
    ssim,
)


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((1, 8, 8, 3))
    assert psnr(truth, truth + 0.1) == pytest.approx(20.0)
    assert psnr(truth, truth) == MAX_PSNR_DB


def test_psnr_is_the_mean_over_frames_not_the_psnr_of_the_mean_error() -> None:
    truth = np.zeros((2, 8, 8, 3))
    generated = truth.copy()
    generated[0] += 0.1
    generated[1] += 0.01
    assert psnr(truth, generated) == pytest.approx((20.0 + 40.0) / 2)


def test_uint8_float_and_torch_agree() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8) for _ in range(2))
    want = psnr(a, b)
    assert psnr(a / 255.0, b / 255.0) == pytest.approx(want)
    assert psnr(torch.from_numpy(a), torch.from_numpy(b).float() / 255) == pytest.approx(want, abs=1e-4)
    # Had uint8 been subtracted without a cast it would wrap around, and the order would not matter less.
    assert psnr(b, a) == pytest.approx(want)


def test_moving_psnr_looks_at_moving_pixels_only() -> None:
    reference = np.zeros((8, 8, 3))
    truth = np.zeros((2, 8, 8, 3))
    truth[0, :2] = 0.5  # a quarter of the first frame moves; nothing moves in the second
    generated = np.full_like(truth, 0.3)
    generated[0, :2] = 0.4
    values = moving_psnr_per_frame(truth, generated, reference)
    assert values[0] == pytest.approx(20.0)
    assert np.isnan(values[1])
    assert moving_psnr(truth, generated, reference) == pytest.approx(20.0)


def test_moving_threshold_is_strict_and_any_channel_counts() -> None:
    reference = np.zeros((4, 4, 3), dtype=np.uint8)
    truth = reference.copy()
    truth[0, 0, 1] = 12
    assert np.isnan(moving_psnr(truth, truth, reference))
    truth[0, 0, 1] = 13
    assert moving_psnr(truth, truth, reference) == MAX_PSNR_DB


def _ssim_by_scipy(x: np.ndarray, y: np.ndarray) -> float:
    """skimage's algorithm: scipy Gaussian filter with its default borders, then a crop of 5 pixels."""

    def blur(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, sigma=(1.5, 1.5, 0), truncate=3.5)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    value = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    return float(value[5:-5, 5:-5].mean())


def test_ssim_matches_the_scipy_reference() -> None:
    rng = np.random.default_rng(1)
    x = gaussian_filter(rng.random((32, 40, 3)), (2, 2, 0))
    y = np.clip(x + 0.05 * rng.standard_normal(x.shape), 0, 1)
    assert ssim(x, y) == pytest.approx(_ssim_by_scipy(x, y), abs=1e-9)
    assert ssim(x, x) == pytest.approx(1.0)
    assert ssim(np.stack([x, x]), np.stack([y, x])) == pytest.approx((1 + _ssim_by_scipy(x, y)) / 2)


def test_wrong_input_says_what_was_wanted() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        psnr(np.zeros((8, 8, 3)), np.zeros((8, 9, 3)))
    with pytest.raises(TypeError, match="uint8"):
        psnr_per_frame(np.zeros((8, 8, 3), dtype=np.int64), np.zeros((8, 8, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="11x11"):
        ssim(np.zeros((8, 8, 3)), np.zeros((8, 8, 3)))
