"""Frame metrics, in numpy: PSNR, PSNR over the moving pixels, SSIM.

All functions take uint8 (0..255) or float (0..1) arrays or torch tensors of shape (..., Y, X, C). A metric is computed
for each frame and then averaged over frames; it is never the metric of the mean error (evaluation.md, section 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_PSNR_DB = 100.0
"""Value given to two identical frames, where PSNR is infinite."""

MOVING_THRESHOLD = 12.0 / 255.0
"""A pixel moves when any channel of the true frame differs from the reference (prompt) frame by more than this."""

_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2


def to_unit_float(frames: Any) -> np.ndarray:
    """Return `frames` (uint8 0..255 or float 0..1; numpy or torch; any shape) as float64 in 0..1."""
    if hasattr(frames, "detach"):
        frames = frames.detach().cpu().float().numpy() if frames.is_floating_point() else frames.cpu().numpy()
    frames = np.asarray(frames)
    if frames.dtype == np.uint8:
        return frames.astype(np.float64) / 255.0
    if not np.issubdtype(frames.dtype, np.floating):
        raise TypeError(f"frames are {frames.dtype}; wanted uint8 (0..255) or float (0..1)")
    return frames.astype(np.float64)


def _pair(truth: Any, generated: Any) -> tuple[np.ndarray, np.ndarray]:
    truth, generated = to_unit_float(truth), to_unit_float(generated)
    if truth.shape != generated.shape or truth.ndim < 3:
        raise ValueError(
            f"frames are {truth.shape} and {generated.shape}; wanted two equal shapes (..., Y, X, C)"
        )
    return truth, generated


def psnr_per_frame(truth: Any, generated: Any) -> np.ndarray:
    """PSNR in dB of each frame, shape (...); MSE over all pixels and channels of the frame; at most MAX_PSNR_DB."""
    truth, generated = _pair(truth, generated)
    mse = ((truth - generated) ** 2).mean(axis=(-3, -2, -1))
    return np.minimum(-10.0 * np.log10(np.maximum(mse, 1e-30)), MAX_PSNR_DB)


def psnr(truth: Any, generated: Any) -> float:
    """Mean over frames of the PSNR of each frame, dB; higher is better."""
    return float(psnr_per_frame(truth, generated).mean())


def moving_mask(truth: Any, reference: Any, threshold: float = MOVING_THRESHOLD) -> np.ndarray:
    """Where the true frame differs from the reference frame: bool, shape (..., Y, X). `reference` broadcasts."""
    return np.asarray((np.abs(to_unit_float(truth) - to_unit_float(reference)) > threshold).any(axis=-1))


def moving_psnr_per_frame(
    truth: Any, generated: Any, reference: Any, threshold: float = MOVING_THRESHOLD
) -> np.ndarray:
    """PSNR in dB of each frame over its moving pixels only, shape (...); NaN for frames in which nothing moves."""
    truth, generated = _pair(truth, generated)
    mask = moving_mask(truth, reference, threshold)
    error = ((truth - generated) ** 2).mean(axis=-1)
    count = mask.sum(axis=(-2, -1))
    mse = (error * mask).sum(axis=(-2, -1)) / np.maximum(count, 1)
    value = np.minimum(-10.0 * np.log10(np.maximum(mse, 1e-30)), MAX_PSNR_DB)
    return np.where(count > 0, value, np.nan)


def moving_psnr(truth: Any, generated: Any, reference: Any, threshold: float = MOVING_THRESHOLD) -> float:
    """Mean over the frames with motion of `moving_psnr_per_frame`, dB; NaN when no frame has any motion."""
    values = moving_psnr_per_frame(truth, generated, reference, threshold)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _blur(image: np.ndarray) -> np.ndarray:
    """Gaussian blur over axes -3 and -2, keeping only the part that needs no padding."""
    offsets = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (-3, -2):
        size = image.shape[axis] - 2 * _SSIM_RADIUS
        shifted = (np.take(image, range(k, k + size), axis=axis) * w for k, w in enumerate(weights))
        image = np.add.reduce(list(shifted))
    return image


def ssim(truth: Any, generated: Any) -> float:
    """Mean over frames of `ssim_per_frame`; higher is better."""
    return float(ssim_per_frame(truth, generated).mean())


def ssim_per_frame(truth: Any, generated: Any) -> np.ndarray:
    """SSIM (Wang 2004) of each frame, shape (...): 11x11 Gaussian, sigma 1.5, per channel, pad-free border.

    Equal to skimage's `gaussian_weights=True, use_sample_covariance=False, data_range=1`.
    Frames must be at least 11 pixels high and wide.
    """
    x, y = _pair(truth, generated)
    if min(x.shape[-3:-1]) < 2 * _SSIM_RADIUS + 1:
        raise ValueError(f"frames are {x.shape[-3]}x{x.shape[-2]}; SSIM wants at least 11x11 pixels")
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x**2
    var_y = _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + _SSIM_C1) * (2 * cov + _SSIM_C2)
    bottom = (mean_x**2 + mean_y**2 + _SSIM_C1) * (var_x + var_y + _SSIM_C2)
    return (top / bottom).mean(axis=(-3, -2, -1))
