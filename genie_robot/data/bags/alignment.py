"""Messages of several rates onto one regular grid of frames, by their stamps. Pure numpy; times are int64 nanoseconds.

The rule for frames: sort by stamp, drop repeated stamps, cut where a gap is longer than `GAP_PERIODS` periods, lay a
regular grid over each piece, and give each slot the frame nearest in time. The rule for actions: `action[t]` is what
happened from slot t (included) to slot t + 1 (not included), so the last row is padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from genie_robot.data.rotation import compose_rotations, rotation_between, slerp

GAP_PERIODS = 3.0
HOLD_NS = 500_000_000  # a velocity command counts for at most this long: robots stop when commands do


@dataclass(frozen=True)
class Segment:
    """An unbroken stretch on a regular grid: `times_T` [ns], and for each slot which message shows it, `frames_T`."""

    times_T: np.ndarray
    frames_T: np.ndarray

    def __len__(self) -> int:
        return len(self.times_T)

    def every(self, stride: int) -> Segment:
        """Every `stride`-th slot."""
        return Segment(self.times_T[::stride], self.frames_T[::stride])


def has_stamps(header_N: np.ndarray) -> bool:
    """Whether header stamps can be used: a driver that does not set them writes zeros, or one stamp over and over.

    One zero is allowed: a simulation's clock begins there.
    """
    if len(header_N) < 2:
        return True
    return bool(np.count_nonzero(header_N <= 0) < 2 and len(np.unique(header_N)) > len(header_N) // 2)


def usual_period_ns(times_N: np.ndarray) -> float:
    """Usual time between two messages [ns], repeated stamps left out; 0 for fewer than two.

    The mean of the steps within half of the median step: the median alone is off by some of the jitter, and the mean of
    all steps by the gaps.
    """
    steps = np.diff(np.unique(times_N))
    if not len(steps):
        return 0.0
    median = float(np.median(steps))
    return float(steps[np.abs(steps - median) <= 0.5 * median].mean())


def grid_segments(
    times_N: np.ndarray, period_ns: float, camera_period_ns: float, stretch: bool, max_frames: int
) -> list[Segment]:
    """Cut a camera's messages at its gaps and lay a grid with `period_ns` over each piece of at most `max_frames`.

    `stretch`: adapt the period by less than half a slot over the piece, so that both ends fall on a frame; for a grid
    at the camera's own rate, which is not known exactly. `frames_T` are places in `times_N`.
    """
    if not len(times_N):
        return []
    sorted_N, places_N = np.unique(times_N, return_index=True)
    if period_ns <= 0:  # one frame has no rate
        return [Segment(sorted_N, places_N)]
    gap_ns = GAP_PERIODS * max(period_ns, camera_period_ns)
    borders = np.flatnonzero(np.diff(sorted_N) > gap_ns) + 1
    segments = []
    for piece in np.split(np.arange(len(sorted_N)), borders):
        first, last = int(sorted_N[piece[0]]), int(sorted_N[piece[-1]])
        steps = (last - first) / period_ns
        # without stretching, the last slot may lie up to half a period behind the last frame: it is still nearest
        count = int(np.floor(steps + 0.5)) + 1
        own_period = (last - first) / (count - 1) if stretch and count > 1 else period_ns
        grid_T = first + np.rint(np.arange(count) * own_period).astype(np.int64)
        frames_T = places_N[piece[nearest(sorted_N[piece], grid_T)]]
        for part in np.array_split(np.arange(count), -(-count // max_frames)):
            segments.append(Segment(grid_T[part], frames_T[part]))
    return segments


def nearest(sorted_N: np.ndarray, times_T: np.ndarray) -> np.ndarray:
    """Place of the entry of `sorted_N` (not empty) nearest to each time, the earlier one of two equally near."""
    if len(sorted_N) == 1:
        return np.zeros(len(times_T), np.int64)
    right = np.searchsorted(sorted_N, times_T).clip(1, len(sorted_N) - 1)
    left = right - 1
    return np.where(times_T - sorted_N[left] <= sorted_N[right] - times_T, left, right)


def sum_deltas(times_N: np.ndarray, deltas_NA: np.ndarray, times_T: np.ndarray) -> np.ndarray:
    """End-effector deltas (N, 7) stamped when each begins -> (T, 7): those within each slot, one after another.

    Translations add, rotation vectors compose in the base frame, the gripper is the last command that is not "keep".
    """
    actions_TA = np.zeros((len(times_T), 7), np.float32)
    order = np.argsort(times_N, kind="stable")
    bounds = np.searchsorted(times_N[order], times_T)
    for slot in range(len(times_T) - 1):
        rows_NA = deltas_NA[order[bounds[slot] : bounds[slot + 1]]]
        if not len(rows_NA):
            continue
        actions_TA[slot, :3] = rows_NA[:, :3].sum(axis=0)
        actions_TA[slot, 3:6] = compose_rotations(rows_NA[:, 3:6])
        said = rows_NA[rows_NA[:, 6] != 0, 6]
        actions_TA[slot, 6] = said[-1] if len(said) else 0.0
    return actions_TA


def integrate_velocity(times_N: np.ndarray, twists_NA: np.ndarray, times_T: np.ndarray) -> np.ndarray:
    """Twists (N, 6) [m/s, rad/s] -> deltas (T, 7), gripper 0: each holds until the next, at most `HOLD_NS`."""
    actions_TA = np.zeros((len(times_T), 7), np.float32)
    order = np.argsort(times_N, kind="stable")
    begin_N = times_N[order]
    end_N = np.minimum(np.append(begin_N[1:], np.iinfo(np.int64).max), begin_N + HOLD_NS)
    for slot in range(len(times_T) - 1):
        overlap_N = np.minimum(end_N, times_T[slot + 1]) - np.maximum(begin_N, times_T[slot])
        active = np.flatnonzero(overlap_N > 0)
        parts_NA = twists_NA[order[active]] * (overlap_N[active, None] * 1e-9)
        actions_TA[slot, :3] = parts_NA[:, :3].sum(axis=0)
        actions_TA[slot, 3:6] = compose_rotations(parts_NA[:, 3:6])
    return actions_TA


def pose_deltas(times_N: np.ndarray, poses_NA: np.ndarray, times_T: np.ndarray) -> np.ndarray:
    """Poses (N, 7) [m, quaternion x y z w] -> deltas (T, 7), gripper 0: interpolated at the slots, then subtracted."""
    actions_TA = np.zeros((len(times_T), 7), np.float32)
    stamps_N, places = np.unique(times_N, return_index=True)
    if len(stamps_N) < 2 or len(times_T) < 2:
        return actions_TA
    poses_NA = poses_NA[places]
    at = np.clip(times_T, stamps_N[0], stamps_N[-1])
    right = np.searchsorted(stamps_N, at).clip(1, len(stamps_N) - 1)
    share_T = (at - stamps_N[right - 1]) / (stamps_N[right] - stamps_N[right - 1])
    before, after = poses_NA[right - 1], poses_NA[right]
    positions_TA = before[:, :3] + share_T[:, None] * (after[:, :3] - before[:, :3])
    quaternions_TQ = slerp(before[:, 3:], after[:, 3:], share_T)
    actions_TA[:-1, :3] = np.diff(positions_TA, axis=0)
    actions_TA[:-1, 3:6] = rotation_between(quaternions_TQ[:-1], quaternions_TQ[1:])
    return actions_TA


def lost_slots(
    times_N: np.ndarray, sound_N: np.ndarray, times_T: np.ndarray, before_ns: int, after_ns: int
) -> np.ndarray:
    """Which steps (T,) bool a message that is not sound may have had a part in; the last, which is padding, never.

    It reaches from the sound message before it, at most `before_ns`, to the sound one behind it, at most `after_ns`.
    """
    lost_T = np.zeros(len(times_T), bool)
    sound = np.sort(times_N[sound_N])
    for time in times_N[~sound_N]:
        begin, end = time - before_ns, time + after_ns
        place = np.searchsorted(sound, time)
        if place:
            begin = max(begin, sound[place - 1])
        if place < len(sound):
            end = max(time + 1, min(end, sound[place]))
        lost_T[:-1] |= (times_T[:-1] < end) & (times_T[1:] > min(begin, time))
    return lost_T


def at_slots(times_N: np.ndarray, values_N: np.ndarray, times_T: np.ndarray) -> np.ndarray:
    """The value nearest in time to each slot (T,)."""
    order = np.argsort(times_N, kind="stable")
    return values_N[order][nearest(times_N[order], times_T)]
