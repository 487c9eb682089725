"""What a wrong reading of the state costs a probe in training.

Shape legend: B images, S numbers of the state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

UNIT_M = 0.05
"""Errors are counted in units of this, and cost linearly from a twentieth of it."""


class ProbeLoss:
    """What a reading costs: errors in metres, errors of the differences that the success rules use, errors in spread.

    The camera stands a little differently in every episode, which moves all that is read by the same amount: the
    differences (fingertips from object, object from goal) can be read better than the places, and they decide.
    """

    def __init__(self, state_names: Sequence[str], scale_S: np.ndarray) -> None:
        names = list(state_names)
        self._scale_S = torch.from_numpy(np.asarray(scale_S, dtype=np.float32))
        self._places = [names.index(f"{thing}_m") for thing in ("ee_x", "ee_y", "ee_z")]
        self._object = [names.index(f"object_{axis}_m") for axis in "xyz"]
        self._goal = [names.index(f"goal_{axis}_m") for axis in "xy"]
        weights = {
            "gripper_opening": 2.0,
            "ee_yaw_rad": 0.6,
            "object_yaw_rad": 0.3,
        }  # no success rule uses the yaws
        self._weight_S = torch.tensor(
            [weights.get(n, 0.4 if n.startswith("distractor") else 1.0) for n in names]
        )

    def __call__(self, state_BS: Tensor, doubt_BS: Tensor, target_BS: Tensor) -> Tensor:
        """Mean loss of normalised states (B, S), with the doubts' own loss, a Laplace likelihood of the error."""
        error_BS = state_BS - target_BS
        metres_BS = error_BS * self._scale_S / UNIT_M
        ee, thing, goal = (metres_BS[:, columns] for columns in (self._places, self._object, self._goal))
        loss = _cost(torch.cat([ee, 1.5 * thing, goal], dim=1))
        loss = loss + _cost(torch.cat([ee - thing, thing[:, :2] - goal], dim=1))
        loss = loss + 0.25 * _cost(error_BS * self._weight_S)
        size_BS = error_BS.detach().abs()
        return loss + 0.1 * (size_BS * torch.exp(-doubt_BS) + doubt_BS).mean()


def _cost(error: Tensor) -> Tensor:
    return functional.smooth_l1_loss(error, torch.zeros_like(error), beta=0.05)
