"""Random crop and colour of whole clips: every frame of a clip gets the same, so that motion stays what it was.

Pictures are never mirrored: left must stay left. What a clip gets depends on (seed, number of the sample) only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genie_robot.data.resize import resize_frame

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601 luma of R, G, B


@dataclass(frozen=True)
class Augmentation:
    """`crop`: largest share of each side that is cut away; `colour`: largest change of brightness, contrast, saturation."""

    crop: float = 0.0
    colour: float = 0.0

    def __bool__(self) -> bool:
        """Whether it does anything."""
        return self.crop > 0 or self.colour > 0

    def apply(self, video_TYXC: np.ndarray, seed: int, sample: int) -> np.ndarray:
        """uint8 RGB (T, Y, X, 3) -> the same type and shape."""
        rng = np.random.Generator(
            np.random.Philox(key=np.array([seed & 0xFFFFFFFFFFFFFFFF, sample], np.uint64))
        )
        share, *place = rng.uniform(0, 1, 3)
        factors = rng.uniform(1 - self.colour, 1 + self.colour, 3)
        if self.crop:
            video_TYXC = _crop(video_TYXC, 1 - share * self.crop, place)
        return _recolour(video_TYXC, *factors) if self.colour else video_TYXC


def _crop(video_TYXC: np.ndarray, share: float, place: list[float]) -> np.ndarray:
    _, height, width, _ = video_TYXC.shape
    rows, columns = max(1, round(height * share)), max(1, round(width * share))
    top, left = round(place[0] * (height - rows)), round(place[1] * (width - columns))
    part = video_TYXC[:, top : top + rows, left : left + columns]
    return np.stack([resize_frame(frame, height, width) for frame in part])


def _recolour(video_TYXC: np.ndarray, brightness: float, contrast: float, saturation: float) -> np.ndarray:
    """Brightness scales; contrast is about the clip's mean, saturation about each pixel's grey."""
    video = video_TYXC.astype(np.float32) * brightness
    grey = video @ _GREY
    video = grey[..., None] + (video - grey[..., None]) * saturation
    mean = float(grey.mean())
    return np.clip(mean + (video - mean) * contrast + 0.5, 0, 255).astype(np.uint8)
