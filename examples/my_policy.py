"""A policy of your own, judged in imagination and in MuJoCo from the same scenes:

    cd examples
    genie-robot evaluate policies --policies my_policy:MyPolicy,random-keys,no-op --seeds 4 --out outputs/my_policy

It sees pictures only, as it would on the robot. This one finds the yellow fingers and the object by their colours, goes
down three steps and then steers one over the other: it often reaches and cannot push. Any class or
function will do that is called as `factory(suite=..., task=...)` and returns something with `reset(seed)` and
`act(image)`; for others, see docs/evaluate_your_policy.md.
"""

from __future__ import annotations

import numpy as np

STEP_PIXELS = 5.0
"""A full-size action moves the hand by about so many pixels."""
OVER_PIXELS = 4.0
"""A hand that is over the object is seen about so many pixels above it."""


class MyPolicy:
    """Steers the fingers over the object."""

    def __init__(self, suite: str, task: str) -> None:
        """One is made for every episode; load big weights at module level, once."""
        self.task = task

    def reset(self, seed: int) -> None:
        """An episode begins. What is random must come from `seed`, so that every world sees the same policy."""
        self.rng = np.random.default_rng(seed)
        self.steps = 0

    def act(self, image: np.ndarray) -> np.ndarray:
        """Image uint8 (64, 64, 3) -> displacement (toward the camera, right, up), turns, gripper (+1 closes); all -1..1."""
        red, green, blue = image.astype(int).transpose(2, 0, 1)
        fingers = (red > 130) & (green > 0.6 * red) & (blue < 0.3 * red)
        colourful = image.max(axis=2).astype(int) > 2.5 * image.min(axis=2)
        thing = colourful & (green < 0.3 * red + 0.3 * blue) | colourful & (green > 1.5 * red)
        action = np.zeros(7, dtype=np.float32)
        if fingers.any() and thing.any():
            down, right = np.argwhere(thing).mean(axis=0) - np.argwhere(fingers).mean(axis=0)
            action[:2] = (down - OVER_PIXELS) / STEP_PIXELS, right / STEP_PIXELS
        action[:2] += self.rng.normal(0, 0.05, 2)
        action[2] = -1.0 if self.steps < 3 else 0.0
        self.steps += 1
        return np.clip(action, -1, 1)
