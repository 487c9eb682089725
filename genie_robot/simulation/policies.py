"""Test policies of graded skill that see pixels only, so that one object runs in MuJoCo and in imagination.

A policy is eyes (a state probe: image -> state) and a keyboard behaviour (state -> key). The probe of the eyes is
another one than the judge's. All randomness of an episode comes from one stream that depends on policy, task and seed
only: the same stream in both worlds.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import KEYS, Expert, key_action
from genie_robot.simulation.mujoco.tasks import GOAL_XY

Eyes = Callable[[np.ndarray], np.ndarray]

POLICY_NAMES: tuple[str, ...] = (
    "expert-1.0",
    "expert-0.8",
    "expert-0.6",
    "expert-0.4",
    "expert-0.2",
    "random-keys",
    "no-op",
)
"""Policies of the default evaluation, from the best to the worst by intent; what they reach is measured."""


class Policy(Protocol):
    """What an evaluation wants of a policy."""

    def reset(self, seed: int) -> None:
        """Start the episode `seed`: the same seed and images give the same actions in every world."""
        ...

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (64, 64, 3)."""
        ...


class Controller(Protocol):
    """A behaviour on the state vector (9,)."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Robot action (7,) for a state (9,)."""
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
    """Image -> robot action, by a state probe and a keyboard controller.

    The goal does not move in an episode, so the policy averages what it has seen of it.
    """

    def __init__(self, name: str, task: str, controller: Controller, eyes: Eyes) -> None:
        self.name, self.task = name, task
        self.eyes = eyes
        self._controller = controller

    def reset(self, seed: int) -> None:
        """Start the episode `seed`: the same seed gives the same random stream in every world."""
        key = [seed, zlib.crc32(self.name.encode()), zlib.crc32(self.task.encode())]
        self._controller.reset(np.random.default_rng(key))
        self._goal_sum, self._seen = np.zeros(2), 0

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (64, 64, 3)."""
        return self.act_on(self.eyes(np.asarray(image)[None])[0])

    def act_on(self, seen_state: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for what the eyes have read from the image: (9,)."""
        state = np.array(seen_state, dtype=np.float64)
        self._goal_sum += state[GOAL_XY]
        self._seen += 1
        state[GOAL_XY] = self._goal_sum / self._seen
        return self._controller.act(state)


def make_policy(name: str, task: str, eyes: Eyes) -> PixelPolicy:
    """Make the policy `name` ("expert-<skill>", "random-keys", "no-op") for a task; ConfigError for another name."""
    if name == "random-keys":
        return PixelPolicy(name, task, RandomKeys(), eyes)
    if name == "no-op":
        return PixelPolicy(name, task, NoOp(), eyes)
    kind, _, skill = name.partition("-")
    try:
        value = float(skill)
    except ValueError:
        value = float("nan")
    if kind != "expert" or not 0.0 <= value <= 1.0:
        raise ConfigError(
            f"policy is {name!r}, wanted expert-<skill 0..1>, random-keys or no-op; such as expert-0.8"
        )
    return PixelPolicy(name, task, Expert(task, skill=value), eyes)


def act_all(policies: Sequence[Policy], images: np.ndarray) -> np.ndarray:
    """Robot actions (B, 7) of B policies for images (B, 64, 64, 3); pixel policies share their eyes, which run once."""
    pixel = [policy for policy in policies if isinstance(policy, PixelPolicy)]
    if len(pixel) < len(policies):
        return np.stack([policy.act(image) for policy, image in zip(policies, images, strict=True)])
    assert all(policy.eyes is pixel[0].eyes for policy in pixel), "these policies have different eyes"
    seen = pixel[0].eyes(images)
    return np.stack([policy.act_on(state) for policy, state in zip(pixel, seen, strict=True)])
