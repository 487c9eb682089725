"""Frames, actions and poses onto a regular grid: properties that hold for any stamps; rotations against SciPy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from genie_robot.data import rotation
from genie_robot.data.bags import alignment
from genie_robot.data.bags.alignment import (
    GAP_PERIODS,
    grid_segments,
    has_stamps,
    integrate_velocity,
    pose_deltas,
)
from genie_robot.data.rotation import quaternion_from_vector

stamps = st.lists(st.integers(0, 40), min_size=1, max_size=60)


@settings(max_examples=200)
@given(stamps, st.floats(0.6, 8.0), st.booleans(), st.integers(1, 20))
def test_grid_property(ticks: list[int], period: float, stretch: bool, most: int) -> None:
    """Whatever the stamps: slots ascend evenly, each shows the nearest message, none lies across a gap."""
    times_N = np.cumsum(np.array(ticks, np.int64)) * 100_000_000
    period_ns = period * 1e8
    segments = grid_segments(times_N, period_ns, 1e8, stretch, most)
    gap_ns = GAP_PERIODS * max(period_ns, 1e8)
    shown = [int(times_N[i]) for segment in segments for i in segment.frames_T]
    assert shown == sorted(shown) and all(1 <= len(segment) <= most for segment in segments)
    for segment in segments:
        away = np.abs(times_N[segment.frames_T] - segment.times_T)
        assert (away == np.abs(times_N[:, None] - segment.times_T).min(axis=0)).all()
        assert away.max() <= gap_ns / 2 + 1
        steps = np.diff(segment.times_T)
        assert (np.abs(steps - period_ns) <= (period_ns / 2 + 2 if stretch else 1)).all()
    if stretch and most >= 1:
        assert shown[0] == times_N.min() and shown[-1] == times_N.max()


@given(st.lists(st.integers(0, 3), max_size=20))
def test_stamps_are_used_only_when_set(header_N: list[int]) -> None:
    array = np.array(header_N, np.int64)
    if has_stamps(array) and len(array) > 1:
        assert (array == 0).sum() < 2 and len(set(header_N)) > len(header_N) / 2


@given(st.floats(0.05, 3.0), st.floats(-2, 2), st.integers(2, 12), st.integers(1, 5))
def test_velocity_and_pose_agree(seconds: float, speed: float, slots: int, finer: int) -> None:
    """Driving at a constant velocity and reading the poses on the way give the same deltas."""
    times_T = np.linspace(0, seconds * 1e9, slots).astype(np.int64)
    fine_N = np.linspace(0, seconds * 1e9, finer * slots + 1).astype(np.int64)
    velocity = np.array([speed, -speed, 0.5, 0, 0, speed])
    commands_N = np.arange(0, int(seconds * 1e9) + 1, alignment.HOLD_NS // 50)
    by_twist = integrate_velocity(commands_N, np.tile(velocity, (len(commands_N), 1)), times_T)
    track = fine_N[:, None] * 1e-9 * velocity
    poses = np.concatenate([track[:, :3], quaternion_from_vector(track[:, 3:])], axis=1)
    np.testing.assert_allclose(by_twist, pose_deltas(fine_N, poses, times_T), atol=1e-5)


angles = st.floats(-3.0, 3.0).map(lambda angle: round(angle, 6))
vectors = st.tuples(angles, angles, angles).map(np.array)


@given(vectors, vectors, vectors)
def test_rotations_agree_with_scipy(first: np.ndarray, second: np.ndarray, third: np.ndarray) -> None:
    ours = rotation.compose_rotations(np.stack([first, second, third]))
    theirs = Rotation.from_rotvec(third) * Rotation.from_rotvec(second) * Rotation.from_rotvec(first)
    assert (Rotation.from_rotvec(ours) * theirs.inv()).magnitude() < 1e-6
    euler = Rotation.from_rotvec(rotation.vector_from_euler(first))
    assert (euler * Rotation.from_euler("xyz", first).inv()).magnitude() < 1e-6
    quaternions = quaternion_from_vector(np.stack([first, second]))
    same = np.sum(
        quaternions * Rotation.from_rotvec([first, second]).as_quat(), axis=1
    )  # or the negative, the same turn
    np.testing.assert_allclose(np.abs(same), 1, atol=1e-9)
    between = rotation.rotation_between(quaternions[0], quaternions[1])
    turned = Rotation.from_rotvec(between) * Rotation.from_rotvec(first)
    assert (turned * Rotation.from_rotvec(second).inv()).magnitude() < 1e-6


@given(vectors, vectors, st.floats(0, 1))
def test_slerp_turns_evenly(first: np.ndarray, second: np.ndarray, share: float) -> None:
    quaternions = quaternion_from_vector(np.stack([first, second]))
    [between] = rotation.slerp(
        quaternions[:1], -2 * quaternions[1:], np.array([share])
    )  # length and sign do not matter
    whole = (Rotation.from_rotvec(second) * Rotation.from_rotvec(first).inv()).magnitude()
    part = (Rotation.from_quat(between) * Rotation.from_rotvec(first).inv()).magnitude()
    np.testing.assert_allclose(part, share * whole, atol=1e-6)
