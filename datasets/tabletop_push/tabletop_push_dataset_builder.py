"""TFDS builder of simulated pushing an object to a disc: `tfds build datasets/tabletop_push`."""

from __future__ import annotations

from simulated_builder import SimulatedBuilder


class Builder(SimulatedBuilder):
    """Simulated episodes of pushing an object to a disc, the same as `genie-robot data generate --task push` makes."""

    TASK = "push"
