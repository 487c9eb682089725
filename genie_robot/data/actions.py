"""Stored action features -> the common convention, as in ros2_ws/.../RobotAction.msg.

A row is the step from frame t to frame t + 1: displacement (dx, dy, dz) [m] and rotation vector (rx, ry, rz) [rad] of the
end effector about its own point, both along the axes of the robot's base frame, and the gripper: +1 close, -1 open,
0 keep. A closedness c in [0, 1] becomes 2 c - 1. The last row is padding.

Where each dataset keeps its motion and what the numbers mean is an `ActionLayout` of the registry. A dataset without
end-effector motion in a known unit has none: joint positions, controller commands, motions in the hand's frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from genie_robot.data.registry import FACTS, ActionLayout, feature_path
from genie_robot.data.rotation import (
    multiply,
    normalised,
    quaternion_from_vector,
    rotation_between,
    vector_from_euler,
    vector_from_quaternion,
)
from genie_robot.errors import DataError

ACTION_SIZE = 7
_FARTHEST_REACH_M = 10.0  # no arm reaches so far, and in millimetres no hand comes so near to the base


def common_actions(name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Stored features of one episode, by path, each (T, width) or (T,) -> actions (T, 7) float32 (see above).

    `values` holds at least what `registry.action_paths` asks for. Of a dataset that the registry does not know, the
    columns are taken as they are. DataError when the numbers are not finite, or no layout fits.
    """
    columns = {
        path: np.asarray(value, np.float64).reshape(len(value), -1) if np.size(value) else _empty(value)
        for path, value in values.items()
    }
    for path, rows in columns.items():
        if not np.isfinite(rows).all():
            raise DataError(f"{name}: {path} holds NaN or infinity; wanted finite numbers")
    if name not in FACTS:
        actions_TA = np.concatenate(list(columns.values()), axis=1)
        if actions_TA.shape[1] != ACTION_SIZE:
            raise DataError(
                f"{name}: {', '.join(columns)} hold {actions_TA.shape[1]} numbers a step; wanted {ACTION_SIZE}"
            )
        return actions_TA.astype(np.float32)
    for layout in FACTS[name].actions:
        if all(path in columns for path in layout.paths):
            return convert(layout, columns).astype(np.float32)
    raise DataError(
        f"{name} has no end-effector motion in {sorted(columns)} ({FACTS[name].no_action or 'features are missing'})"
    )


def _empty(value: np.ndarray) -> np.ndarray:
    width = int(np.prod(np.shape(value)[1:], dtype=np.int64))
    return np.zeros((len(value), width))


def _take(columns: Mapping[str, np.ndarray], place: str) -> np.ndarray:
    """Columns of a place of an `ActionLayout`, (T, n)."""
    rows = columns[feature_path(place)]
    inside = place.partition("[")[2].rstrip("]")
    if not inside:
        return rows
    first, _, end = inside.partition(":")
    return rows[:, int(first) : int(end) if end else int(first) + 1]


def convert(layout: ActionLayout, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Stored features by path, each (T, width) float64, -> actions (T, 7) as `layout` says they are."""
    move = _take(columns, layout.move)
    turn = _take(columns, layout.rotation) if layout.rotation else None
    if layout.kind == "delta":
        motion = _displacement(move, layout)
        rotation = np.zeros_like(motion) if turn is None else _rotation_vector(turn, layout)
    else:
        motion, rotation = _between_poses(move, turn, layout)
    return np.concatenate([motion, rotation, _gripper(layout, columns, len(move))], axis=1)


def _displacement(move: np.ndarray, layout: ActionLayout) -> np.ndarray:
    """(T, 2) or (T, 3) in units of the dataset -> (T, 3) [m]; motion in a plane has no third number."""
    return np.pad(move * layout.metres, ((0, 0), (0, 3 - move.shape[1])))


def _rotation_vector(turn: np.ndarray, layout: ActionLayout) -> np.ndarray:
    """A rotation as it is stored -> rotation vectors (T, 3) [rad]."""
    kind = layout.rotation_as
    if kind in ("xyzw", "wxyz"):
        quaternions = turn if kind == "xyzw" else np.roll(turn, -1, axis=1)
        return vector_from_quaternion(normalised(quaternions))
    if kind in ("matrix_rows", "matrix_columns"):
        return np.array([cv2.Rodrigues(m)[0][:, 0] for m in _matrices(turn, kind)[:, :3, :3]]).reshape(-1, 3)
    angles = turn * layout.radians
    if kind == "vector":
        return angles
    if kind == "rpy":
        return vector_from_euler(angles)
    if kind == "yaw":
        return np.pad(angles, ((0, 0), (2, 0)))
    assert kind == "zxy", kind
    about_z, about_x, about_y = (
        quaternion_from_vector(angles[:, [column]] * np.eye(3)[axis]) for column, axis in enumerate((2, 0, 1))
    )
    return vector_from_quaternion(multiply(about_y, multiply(about_x, about_z)))


def _matrices(numbers: np.ndarray, kind: str) -> np.ndarray:
    """(T, 16) -> poses (T, 4, 4); a pose that was never set (no rotation in it) becomes the identity."""
    matrices = numbers.reshape(-1, 4, 4)
    if kind == "matrix_columns":
        matrices = matrices.transpose(0, 2, 1)
    is_set = np.abs(np.linalg.det(matrices[:, :3, :3]) - 1) < 0.1
    return np.where(is_set[:, None, None], matrices, np.eye(4))


def _between_poses(
    move: np.ndarray, turn: np.ndarray | None, layout: ActionLayout
) -> tuple[np.ndarray, np.ndarray]:
    """Poses -> displacement and rotation vector of each step, (T, 3) each; zero where there is no second pose."""
    is_set = np.ones(len(move), bool)
    if layout.rotation_as.startswith("matrix") and turn is not None:
        poses = _matrices(move, layout.rotation_as)
        is_set, move = (poses != np.eye(4)).any(axis=(1, 2)), poses[:, :3, 3]
    metres = layout.metres or _metres_by_size(move)
    steps = np.diff(move * metres, axis=0)
    turns = np.zeros_like(steps)
    if turn is not None:
        orientations = quaternion_from_vector(_rotation_vector(turn, layout))
        turns = rotation_between(orientations[:-1], orientations[1:])
    both = (is_set[1:] & is_set[:-1])[:, None]
    # a target of step t is reached at frame t + 1, a measured pose is the one of frame t
    pad = ((1, 0), (0, 0)) if layout.kind == "target" else ((0, 1), (0, 0))
    if not len(move):
        return np.zeros((0, 3)), np.zeros((0, 3))
    return np.pad(steps * both, pad), np.pad(turns * both, pad)


def _metres_by_size(positions: np.ndarray) -> float:
    """0.001 when positions in a robot's base frame can only be millimetres, else 1."""
    distances = np.linalg.norm(positions, axis=1)
    return 0.001 if len(distances) and np.median(distances) > _FARTHEST_REACH_M else 1.0


def _gripper(layout: ActionLayout, columns: Mapping[str, np.ndarray], num_steps: int) -> np.ndarray:
    """Gripper column (T, 1): +1 close, -1 open, 0 keep (or not known)."""
    if not layout.gripper:
        return np.zeros((num_steps, 1))
    value, kind = _take(columns, layout.gripper), layout.gripper_as
    if kind == "step":
        return value
    if kind in ("closed", "open"):
        closed = np.clip(value if kind == "closed" else 1 - value, 0, 1)
        return 2 * closed - 1
    assert kind in ("close_positive", "open_positive"), kind
    return np.where((value > 0) == (kind == "close_positive"), 1.0, -1.0)


@dataclass(frozen=True)
class ActionStatistics:
    """Mean, standard deviation and 1 % and 99 % quantiles, each (7,) float64, over `count` steps of a dataset."""

    mean: np.ndarray
    deviation: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    count: int

    @classmethod
    def of(cls, actions_NA: np.ndarray) -> ActionStatistics:
        """Over N steps (N, A), the padding rows left out; DataError when there is none."""
        if not len(actions_NA):
            raise DataError("there is no action to take statistics of; wanted at least one step")
        wide = np.asarray(actions_NA, np.float64)
        q01, q99 = np.quantile(wide, [0.01, 0.99], axis=0)
        return cls(wide.mean(axis=0), wide.std(axis=0), q01, q99, len(wide))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` is its inverse."""
        arrays = {key: getattr(self, key).tolist() for key in ("mean", "deviation", "q01", "q99")}
        return {**arrays, "count": self.count}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ActionStatistics:
        """From `as_dict`; DataError when something is missing or of the wrong length."""
        try:
            arrays = [np.array(content[key], np.float64) for key in ("mean", "deviation", "q01", "q99")]
            count = int(content["count"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"action statistics cannot be read ({error!r}); wanted mean, deviation, q01, q99, count"
            ) from error
        if len({array.shape for array in arrays}) != 1 or arrays[0].ndim != 1:
            raise DataError(
                f"action statistics have the shapes {[a.shape for a in arrays]}; wanted one length"
            )
        mean, deviation, q01, q99 = arrays
        return cls(mean, deviation, q01, q99, count)
