"""Rotations as quaternions (..., 4) in the order x y z w and as rotation vectors (..., 3) [rad]. Pure numpy, float64."""

from __future__ import annotations

import numpy as np


def quaternion_from_vector(vectors: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., 3) -> unit quaternions (..., 4)."""
    vectors = np.asarray(vectors, np.float64)
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    # sinc is smooth at 0, where axis and angle are not defined
    return np.concatenate([0.5 * vectors * np.sinc(angle / (2 * np.pi)), np.cos(angle / 2)], axis=-1)


def vector_from_quaternion(quaternions: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) -> the shortest rotation vectors (..., 3), angle at most pi."""
    quaternions = np.where(quaternions[..., 3:] < 0, -quaternions, quaternions)
    sine = np.linalg.norm(quaternions[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternions[..., 3:])
    return quaternions[..., :3] * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 2.0)


def multiply(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The rotation `first`, then `second`, both in the fixed base frame."""
    (x2, y2, z2, w2), (x1, y1, z1, w1) = np.moveaxis(second, -1, 0), np.moveaxis(first, -1, 0)
    parts = [
        w2 * x1 + x2 * w1 + y2 * z1 - z2 * y1,
        w2 * y1 - x2 * z1 + y2 * w1 + z2 * x1,
        w2 * z1 + x2 * y1 - y2 * x1 + z2 * w1,
        w2 * w1 - x2 * x1 - y2 * y1 - z2 * z1,
    ]
    return np.stack(parts, axis=-1)


def compose_rotations(vectors_N3: np.ndarray) -> np.ndarray:
    """Rotation vectors (..., N, 3), one after another in the base frame -> the rotation vectors (..., 3) of them all."""
    total = np.array([0.0, 0.0, 0.0, 1.0])
    for quaternion in np.moveaxis(quaternion_from_vector(vectors_N3), -2, 0):
        total = multiply(quaternion, total)
    return vector_from_quaternion(total)


def rotation_between(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Orientations as unit quaternions (..., 4) -> rotation vectors (..., 3) in the base frame from one to the other."""
    return vector_from_quaternion(multiply(after, before * np.array([-1.0, -1.0, -1.0, 1.0])))


def slerp(before: np.ndarray, after: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Orientations (T, 4), normalised here, turned on from `before` to `after` by `share` (T,) in [0, 1] -> (T, 4)."""
    before, after = normalised(before), normalised(after)
    return multiply(quaternion_from_vector(share[:, None] * rotation_between(before, after)), before)


def normalised(quaternions: np.ndarray) -> np.ndarray:
    """Quaternions of length 1; one that is all zero (never set by its publisher) becomes no rotation."""
    length = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return np.where(length > 1e-9, quaternions / np.maximum(length, 1e-9), [0.0, 0.0, 0.0, 1.0])


def vector_from_euler(angles: np.ndarray) -> np.ndarray:
    """Roll, pitch, yaw (..., 3) about the fixed axes x, then y, then z (REP-103) -> rotation vectors (..., 3)."""
    axes = np.eye(3) * np.asarray(angles, np.float64)[..., None, :]
    roll, pitch, yaw = (quaternion_from_vector(axes[..., axis, :]) for axis in range(3))
    return vector_from_quaternion(multiply(yaw, multiply(pitch, roll)))
