"""What an evaluation wants of a policy, and how many of them act at once."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np


class Eyes(Protocol):
    """What reads a scene off pictures, such as `StateProbe`."""

    def read(self, images: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Images uint8 (B, Y, X, 3) -> states (B, S) and the absolute errors expected of them, NaN if unknown; float32."""
        ...


class Policy(Protocol):
    """What an evaluation wants of a policy."""

    def reset(self, seed: int) -> None:
        """Start the episode `seed`: the same seed and images give the same actions in every world."""
        ...

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (Y, X, 3)."""
        ...


@runtime_checkable
class GroupPolicy(Protocol):
    """A policy of which those with an equal `group` act in one go, as when they share one network."""

    @property
    def group(self) -> Hashable:
        """Policies of one class with an equal group may be given to `act_group` together."""
        ...

    @staticmethod
    def act_group(policies: Sequence[GroupPolicy], images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions (B, 7) of B policies; what each does must not depend on the others."""
        ...


def act_all(policies: Sequence[Policy], images_BYXC: np.ndarray) -> np.ndarray:
    """Robot actions, float32 (B, 7), of B policies for images (B, Y, X, 3); a group acts in one go."""
    actions_B7 = np.zeros((len(policies), 7), dtype=np.float32)
    groups: dict[Hashable, list[int]] = {}
    for index, policy in enumerate(policies):
        if isinstance(policy, GroupPolicy):
            groups.setdefault((type(policy), policy.group), []).append(index)
        else:
            actions_B7[index] = policy.act(images_BYXC[index])
    for members in groups.values():
        group = [policies[index] for index in members]
        assert isinstance(group[0], GroupPolicy)
        actions_B7[members] = group[0].act_group(group, images_BYXC[members])  # pyright: ignore[reportArgumentType]
    return actions_B7


def episode_stream(name: str, task: str, seed: int) -> np.random.Generator:
    """The random stream of an episode: by policy, task and seed only, hence the same in every world."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(task.encode())])
