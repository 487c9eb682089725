"""Policies that are eyes (a state probe: image -> state) and a controller (state -> action).

The probe of the eyes is another one than the judge's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from genie_robot.simulation.blocks import in_blocks
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action
from genie_robot.simulation.mujoco.tasks import GOAL_XY
from genie_robot.simulation.policies.protocol import Eyes, episode_stream


class Controller(Protocol):
    """A behaviour on the state vector (S,)."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Robot action (7,) for a state (S,)."""
        ...


class RandomKeys:
    """Presses one of the eight keys at random at every step, whatever it sees."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        self._rng = rng

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return a random key's robot action, float32 (7,)."""
        return key_action(KEYS[int(self._rng.integers(len(KEYS)))])


class NoOp:
    """Never does anything."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; there is nothing to draw."""

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action of zeros, float32 (7,)."""
        return np.zeros(7, dtype=np.float32)


class PixelPolicy:
    """Image -> robot action, by a state probe and a controller.

    The goal does not move in an episode, so the policy averages what it has seen of it.
    """

    def __init__(self, name: str, task: str, controller: Controller, eyes: Eyes) -> None:
        self.name, self.task = name, task
        self.eyes = eyes
        self._controller = controller

    @property
    def group(self) -> Hashable:
        """Policies that share their eyes look at their images in one go."""
        return id(self.eyes)

    @staticmethod
    def act_group(policies: Sequence[PixelPolicy], images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions (B, 7) of B policies with the same eyes."""
        seen_BS = in_blocks(policies[0].eyes, images_BYXC)
        return np.stack([policy.act_on(state) for policy, state in zip(policies, seen_BS, strict=True)])

    def reset(self, seed: int) -> None:
        """Start the episode `seed`: the same seed gives the same random stream in every world."""
        self._controller.reset(episode_stream(self.name, self.task, seed))
        self._goal_sum, self._seen = np.zeros(2), 0

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (Y, X, 3)."""
        return self.act_on(in_blocks(self.eyes, np.asarray(image)[None])[0])

    def act_on(self, seen_state: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for what the eyes have read from the image: (S,)."""
        state = np.array(seen_state, dtype=np.float64)
        self._goal_sum += state[GOAL_XY]
        self._seen += 1
        state[GOAL_XY] = self._goal_sum / self._seen
        return self._controller.act(state)
