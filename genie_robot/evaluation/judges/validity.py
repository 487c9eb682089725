"""When a film cannot be judged: it is not readable, or things in it move as nothing moves.

An invalid film is reported as invalid, not as a failure (evaluation.md section 5.6). The limits are frozen on validation
films of the training data and never seen on evaluation policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from genie_robot.simulation.mujoco.tasks import EE, OBJECT

MARGIN = 1.25
"""Validation films are few: a sound film may go a little beyond the worst of them."""


@dataclass(frozen=True)
class Limits:
    """Above any of these a film is invalid: MARGIN times the largest value that validation films reached [m].

    uncertainty_m: expected position error, mean over the film. hand_step_m, object_step_m: longest step of fingertips and
    object between two frames, each track smoothed by a median over three frames so that one misread frame is no jump.
    """

    uncertainty_m: float
    hand_step_m: float
    object_step_m: float


def place_errors(errors_BTS: np.ndarray, state_names: Sequence[str]) -> np.ndarray:
    """Expected position error of hand, object and goal (B, T) [m], from the probe's expected errors (B, T, S)."""
    places = [
        k
        for k, name in enumerate(state_names)
        if name.startswith(("ee_", "object_", "goal_")) and name.endswith("_m")
    ]
    return errors_BTS[..., places].mean(axis=-1)


def film_measures(states_BTS: np.ndarray, uncertainty_BT: np.ndarray) -> np.ndarray:
    """The quantities of `Limits` for B films, (B, 3), from read states (B, T, S) and expected errors (B, T) [m]."""
    hand, thing = (_longest_step(states_BTS[..., columns]) for columns in (EE, OBJECT))
    return np.stack([uncertainty_BT.mean(axis=1), hand, thing], axis=1)


def freeze_limits(measures_VK: np.ndarray) -> Limits:
    """Limits from the measures (V, 3) of validation films: MARGIN times the largest of each."""
    values = MARGIN * np.asarray(measures_VK, dtype=np.float64).max(axis=0)
    return Limits(**{field.name: float(value) for field, value in zip(fields(Limits), values, strict=True)})


def is_invalid(states_BTS: np.ndarray, uncertainty_BT: np.ndarray, limits: Limits | None) -> np.ndarray:
    """Which of B films cannot be judged, (B,) bool; none without limits."""
    if limits is None:
        return np.zeros(len(states_BTS), dtype=bool)
    return np.any(film_measures(states_BTS, uncertainty_BT) > np.array(astuple(limits)), axis=1)


def _longest_step(track_BTK: np.ndarray) -> np.ndarray:
    if track_BTK.shape[1] < 4:
        return np.zeros(len(track_BTK))
    smooth = np.median(np.stack([track_BTK[:, :-2], track_BTK[:, 1:-1], track_BTK[:, 2:]]), axis=0)
    return np.linalg.norm(np.diff(smooth, axis=1), axis=-1).max(axis=1)
