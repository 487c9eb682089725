"""TFDS builder of simulated random play in the scenes of five tasks: `tfds build datasets/tabletop_play`."""

from __future__ import annotations

from simulated_builder import SimulatedBuilder


class Builder(SimulatedBuilder):
    """Simulated episodes of random play in the scenes of five tasks, the same as `genie-robot data generate --task play` makes."""

    TASK = "play"
