"""TFDS builder of the table-top dataset, for those who work with TFDS: `tfds build datasets/tabletop`.

It makes the same episodes as `genie-robot data generate` (which needs no TensorFlow), with the same
feature tree. Nothing in genie_robot imports this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from simulated_builder import SimulatedBuilder, Tree

from genie_robot.data.rlds_features import fractal_features
from genie_robot.simulation.mujoco.generate import DESCRIPTION, IMAGE_SIZE, generate_episodes
from genie_robot.simulation.mujoco.tasks import STATE_NAMES


class Builder(SimulatedBuilder):
    """Simulated table-top episodes in the layout of fractal20220817_data."""

    EPISODES: ClassVar[dict[str, int]] = {"train": 1600, "val": 100, "test": 100}

    @property
    def tree(self) -> Tree:
        """The dataset's features."""
        return fractal_features((IMAGE_SIZE, IMAGE_SIZE), "png", len(STATE_NAMES))

    @property
    def text(self) -> str:
        """The dataset's description."""
        return DESCRIPTION

    def episodes(self, split: str, count: int) -> Iterator[dict[str, Any]]:
        """Yield the episodes of a split, with encoded frames."""
        return generate_episodes(count, self.SEED, split=split, encoded=True)
