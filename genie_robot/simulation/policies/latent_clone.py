"""Policies cloned from video alone: the network gives latent action codes, a decoder says which robot action they mean.

The decoder is Genie's dictionary, or D(z, x), fitted on few labelled steps (`simulation.interfaces.decoder`). Neither is
told the gripper's state, which video does not have as a number.
"""

from __future__ import annotations

import numpy as np

from genie_robot.simulation.interfaces import CodeDictionary, ImageFeatures, LatentSpace, StateDecoder
from genie_robot.simulation.policies.cloned import ACTORS, Actor


class LatentActor(Actor):
    """A code of each level, drawn by its probability -> robot action. looks: whether the decoder sees the image."""

    kind = "latent"

    def __init__(self, num_codes: int, levels: int, dim: int, looks: bool) -> None:
        super().__init__()
        self.settings = {"num_codes": num_codes, "levels": levels, "dim": dim, "looks": looks}
        self.space = LatentSpace(num_codes, levels, dim)
        self.decoder = (
            StateDecoder(self.space, ImageFeatures()) if looks else CodeDictionary(self.space)
        )  # filled by `of` or by the weights of a folder

    @classmethod
    def of(cls, decoder: CodeDictionary | StateDecoder) -> LatentActor:
        """The actor of a fitted decoder."""
        space = decoder.space
        actor = cls(space.num_codes, space.levels, space.dim, isinstance(decoder, StateDecoder))
        actor.decoder = decoder
        return actor

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """What is added to an episode's logits (O,) at a step: the likeliest code becomes one drawn (Gumbel-max)."""
        return rng.gumbel(size=self.space.levels * self.space.num_codes)

    def actions(self, outputs_BO: np.ndarray, images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7) within [-1, 1], of logits (B, levels x codes)."""
        codes_BL = outputs_BO.reshape(len(outputs_BO), self.space.levels, -1).argmax(axis=-1)
        is_open_B = np.ones(len(codes_BL), dtype=bool)
        return self.decoder.robot_action(codes_BL, images_BYXC, is_open_B)


ACTORS[LatentActor.kind] = LatentActor
