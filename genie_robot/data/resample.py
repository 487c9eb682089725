"""Bring recordings of different control rates to (nearly) one: every k-th frame, and the actions in between combined.

k = round(control rate / wanted rate), so the steps of one dataset all take the same time, as in LAPA (arXiv 2410.11758).
Taking the frame nearest to each multiple of the wanted period instead would make 5 Hz into steps of .4, .2, .4 s at 3 Hz: the
same motion would look twice as fast from one step to the next, and the latent action model would learn that.
"""

from __future__ import annotations

import logging

import numpy as np

from genie_robot.data.rotation import compose_rotations
from genie_robot.errors import ConfigError

log = logging.getLogger(__name__)

TOLERANCE, TOO_SLOW = 1.25, 1.6
"""A rate that misses the wanted one by more than the first factor is worth a warning; below it by the second, a refusal."""


def stride_for(name: str, rate_hz: float, wanted_hz: float) -> int:
    """How many steps of dataset `name` make one at `wanted_hz` (0: as recorded); ConfigError when it is too slow for it."""
    if not wanted_hz:
        return 1
    if rate_hz * TOO_SLOW < wanted_hz:
        raise ConfigError(
            f"model.video.rate_hz: got {wanted_hz:g}, but {name} was recorded at {rate_hz:g} Hz; wanted at most that: "
            f"set model.video.rate_hz={rate_hz:g}, or leave the dataset out"
        )
    stride = max(1, round(rate_hz / wanted_hz))
    got = rate_hz / stride
    if max(got / wanted_hz, wanted_hz / got) > TOLERANCE:
        log.warning(
            "%s comes at %.3g Hz where %g was wanted: its motions will look slower or faster",
            name,
            got,
            wanted_hz,
        )
    return stride


def combine_actions(actions_TA: np.ndarray, stride: int) -> np.ndarray:
    """Actions (T, 7) of one step each -> (ceil(T / stride), 7) of `stride` steps, in the common convention.

    Translations add, rotation vectors compose in the base frame, and the gripper is as it was last commanded (0 keeps). A row
    with an action that is not known (NaN) is NaN. The last row is padding, as it was.
    """
    if stride == 1:
        return actions_TA
    rows = -(-len(actions_TA) // stride)
    padded = np.zeros((rows * stride, actions_TA.shape[1]), np.float32)
    padded[: len(actions_TA)] = actions_TA
    groups = padded.reshape(rows, stride, actions_TA.shape[1])
    combined = groups.sum(axis=1)
    combined[:, 3:6] = compose_rotations(groups[:, :, 3:6])
    gripper = groups[:, :, -1]
    # argmax of nothing is 0: the last, which is 0 then
    last = stride - 1 - np.argmax(gripper[:, ::-1] != 0, axis=1)
    combined[:, -1] = gripper[np.arange(rows), last]
    combined[np.isnan(groups).any(axis=(1, 2))] = np.nan
    return combined
