"""TFDS builder of simulated picking up an object: `tfds build datasets/tabletop_pick_lift`."""

from __future__ import annotations

from simulated_builder import SimulatedBuilder


class Builder(SimulatedBuilder):
    """Simulated episodes of picking up an object, the same as `genie-robot data generate --task pick_lift` makes."""

    TASK = "pick_lift"
