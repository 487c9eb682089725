"""Policies that are eyes (a state probe: image -> state) and a controller (state -> action).

The probe of the eyes is another one than the judge's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from genie_robot.simulation.blocks import in_blocks
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action
from genie_robot.simulation.policies.belief import SceneBelief
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
    """Image -> robot action, by a state probe, what it has seen so far (`SceneBelief`) and a controller."""

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
        eyes = policies[0].eyes
        read_B2S = in_blocks(lambda images: np.stack(eyes.read(images), axis=1), images_BYXC)
        return np.stack([policy.act_on(*read) for policy, read in zip(policies, read_B2S, strict=True)])

    def reset(self, seed: int) -> None:
        """Start the episode `seed`: the same seed gives the same random stream in every world."""
        self._controller.reset(episode_stream(self.name, self.task, seed))
        self._belief = SceneBelief()

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (Y, X, 3)."""
        return self.act_group([self], np.asarray(image)[None])[0]

    def act_on(self, read_S: np.ndarray, error_S: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for the state that the eyes have read off the image, and the error they expect."""
        return self._controller.act(self._belief.update(read_S, error_S))
