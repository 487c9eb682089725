"""What a policy takes for true of a scene: what it reads off single pictures, weighed over time."""

from __future__ import annotations

import numpy as np

from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT

NEAR_M = 0.10
"""A hand farther from a thing than this, along every axis, cannot move it."""
TOUCHED_M, ALONE_M = 0.03, 0.002
"""How far a thing moves in a step (standard deviation): near the hand, and left alone."""
LEAST_ERROR = 1e-4
"""In the unit of each number: eyes that expect no error at all are not believed that far."""


class SceneBelief:
    """One Kalman filter for each number of the state (S,); its measurement noise is the error that the eyes expect of themselves.

    Goals stand still, and a thing moves only when the hand is near it; all else is believed as it is read. Of eyes that do not
    know their error (NaN) everything is, except for the goal, of which the mean is taken.
    """

    def __init__(self) -> None:
        self._mean_S: np.ndarray | None = None
        self._variance_S: np.ndarray = np.empty(0)

    def update(self, read_S: np.ndarray, error_S: np.ndarray) -> np.ndarray:
        """Return the state (S,) to act on, float64, after reading `read_S` give or take `error_S`."""
        read_S = np.asarray(read_S, dtype=np.float64)
        noise_S = np.nan_to_num(np.asarray(error_S, dtype=np.float64), nan=1.0).clip(LEAST_ERROR) ** 2
        if self._mean_S is None:
            self._mean_S, self._variance_S = read_S, noise_S
            return read_S.copy()
        moved_S = np.full(len(read_S), np.inf)
        moved_S[GOAL_XY] = 0.0
        if not np.isnan(error_S).any():
            is_near = np.abs(self._mean_S[OBJECT] - read_S[EE]).max() < NEAR_M
            moved_S[OBJECT] = TOUCHED_M if is_near else ALONE_M
        gain_S = 1.0 - noise_S / (self._variance_S + moved_S**2 + noise_S)
        self._mean_S = self._mean_S + gain_S * (read_S - self._mean_S)
        self._variance_S = gain_S * noise_S
        return self._mean_S.copy()
