"""When an episode counts as a success: one rule for true states and for states that a judge reads from pictures."""

from __future__ import annotations

import numpy as np

SUSTAIN = 2
"""Frames in a row that must fulfil the task: one frame alone may be a misreading, or an object that flies past."""


def success_step(fulfilled_T: np.ndarray) -> int:
    """Step (from 1) at which the task had been fulfilled in SUSTAIN frames in a row; 0 for never.

    fulfilled_T: whether each frame fulfils the task, the frame before the first action included.
    """
    streak = 0
    for step, fulfilled in enumerate(np.asarray(fulfilled_T, dtype=bool)):
        streak = streak + 1 if fulfilled else 0
        if streak >= SUSTAIN:
            return step
    return 0
