"""TFDS builder of simulated putting an object on a pedestal: `tfds build datasets/tabletop_pick_place`."""

from __future__ import annotations

from simulated_builder import SimulatedBuilder


class Builder(SimulatedBuilder):
    """Simulated episodes of putting an object on a pedestal, the same as `genie-robot data generate --task pick_place` makes."""

    TASK = "pick_place"
