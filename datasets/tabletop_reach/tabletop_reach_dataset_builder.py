"""TFDS builder of simulated reaching for one of two objects: `tfds build datasets/tabletop_reach`."""

from __future__ import annotations

from simulated_builder import SimulatedBuilder


class Builder(SimulatedBuilder):
    """Simulated episodes of reaching for one of two objects, the same as `genie-robot data generate --task reach` makes."""

    TASK = "reach"
