"""PSNR and SSIM against the numbers that scikit-image 0.26 gives on the same pictures."""

from __future__ import annotations

import numpy as np
import pytest

from genie_robot.evaluation.video import psnr_per_frame, ssim, ssim_per_frame


def waves(number: int, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    channels = [
        np.sin(0.11 * (number + 1) * x + 0.07 * c * y + number) * np.cos(0.05 * y * (c + 1)) for c in range(3)
    ]
    return (127.5 + 127.5 * np.stack(channels, axis=-1)).round().astype(np.uint8)


def test_skimage_numbers() -> None:
    """structural_similarity(..., gaussian_weights=True, use_sample_covariance=False, sigma=1.5, data_range=1)."""
    picture = waves(0)
    noise = np.random.default_rng(0).integers(-20, 21, picture.shape)
    noisy = np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)
    others = np.stack([noisy, np.roll(picture, 1, axis=1), waves(1)])
    truth = np.stack([picture] * 3)
    assert ssim_per_frame(truth, others) == pytest.approx(
        [0.74470874945706, 0.9874038574069507, 0.11363412168957371], abs=1e-9
    )
    assert psnr_per_frame(truth, others) == pytest.approx(
        [26.743581193854688, 28.70728304522948, 9.120999912895146], abs=1e-9
    )


def test_ssim_is_one_for_equal_frames_and_a_mean_over_frames() -> None:
    a, b = waves(0), waves(1)
    values = ssim_per_frame(np.stack([[a, b]]), np.stack([[a, a]]))
    assert values.shape == (1, 2) and values[0, 0] == pytest.approx(1.0)
    assert ssim(np.stack([a, b]), np.stack([a, a])) == pytest.approx(values.mean())
