"""The one data type that every reader yields and every writer takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Episode:
    """One robot episode.

    `frames_TYXC` uint8 RGB (T, Y, X, 3); `dt_s` seconds between two frames; `source` says where it came from
    (dataset/split/number). `actions_TA` float32 (T, 7), only when asked for: `actions_TA[t]` leads from frame t to
    frame t+1, so the last row is padding. `state_TS` float32 (T, S), only when asked for.
    """

    frames_TYXC: np.ndarray
    dt_s: float
    source: str
    instruction: str = ""
    actions_TA: np.ndarray | None = None
    state_TS: np.ndarray | None = None

    def __post_init__(self) -> None:
        frames = self.frames_TYXC
        assert frames.dtype == np.uint8, frames.dtype
        assert frames.ndim == 4, frames.shape
        assert frames.shape[3] == 3, frames.shape
        for array in (self.actions_TA, self.state_TS):
            assert array is None or array.shape[0] == len(frames), (array.shape, len(frames))

    @property
    def num_frames(self) -> int:
        """Number of frames T."""
        return len(self.frames_TYXC)
