"""Where a recording jumps or goes black: windows never cross such a place.

Thresholds were set on 44 real recordings (RT-1, Bridge, DROID with a falling and with wrist cameras; 2,199 steps). In none of
them is a step taken for a cut, and of all 1,892 ordered pairs of recordings joined end to start, 96 % of the joins are found; at
every second frame 90 %, at every third 83 %, the same at 64x64, 96x128 and 160x256. Of those that are missed, 3 in 5 join two
recordings of one dataset, and 3 in 5 have a wrist camera in them (`tests/data/test_segments.py` repeats this at 64x64).
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

CUT_CHANGE = 30.0
"""A step whose mean absolute change (of 255) is above this may be a cut; the fastest outside cameras stay below it."""
CUT_RATIO = 3.0
"""A cut changes at least this many times as much as the steps before and after it; a falling camera does not."""
STILL_CHANGE = 1.0
"""A step, or a window on average, that changes less than this (of 255) counts as still."""
BLACK_LEVEL = 4.0
"""A frame whose brightest channel mean is below this (of 255) is black: padding, or a camera that is off."""


def step_changes(frames_TYXC: np.ndarray) -> np.ndarray:
    """Mean absolute change (of 255) from each frame to the next: float32 (T-1,)."""
    pairs = itertools.pairwise(frames_TYXC)
    return np.array([cv2.absdiff(one, other).mean() for one, other in pairs], np.float32)


def find_segments(frames_TYXC: np.ndarray, changes: np.ndarray) -> list[range]:
    """Longest runs of frames (T, Y, X, 3) with neither a black frame nor a cut in them, in order.

    `changes` (T-1,) is what `step_changes` gives. One-frame runs are kept; frames that are black are in none.
    """
    black = frames_TYXC.mean(axis=(1, 2)).max(axis=1, initial=0) < BLACK_LEVEL
    around = np.concatenate([[0.0], changes, [0.0]]).astype(np.float32)
    neighbours = np.maximum(around[:-2], around[2:])  # of each step; outside of the recording nothing changes
    cut = (changes > CUT_CHANGE) & (changes > CUT_RATIO * neighbours) & (len(changes) > 1)
    segments, first = [], 0
    for frame in range(len(frames_TYXC) + 1):
        at_end = frame == len(frames_TYXC) or black[frame]
        if at_end or (frame > 0 and cut[frame - 1]):
            if frame > first:
                segments.append(range(first, frame))
            first = frame + 1 if at_end else frame
    return segments
