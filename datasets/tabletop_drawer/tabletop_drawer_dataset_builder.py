"""TFDS builder of simulated opening a drawer: `tfds build datasets/tabletop_drawer`."""

from __future__ import annotations

from simulated_builder import SimulatedBuilder


class Builder(SimulatedBuilder):
    """Simulated episodes of opening a drawer, the same as `genie-robot data generate --task drawer` makes."""

    TASK = "drawer"
