"""One batch on the training device, whatever the loader read. Shapes: B clips, T frames, S = T - 1 steps, N tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Clips as pictures, or as tokens and latent actions of the token cache; labels where the data has some."""

    video_BTYXC: Tensor | None = None  # float in [0, 1]
    labels_BSA: Tensor | None = None  # robot actions of labelled steps, NaN elsewhere
    gaps_B: Tensor | None = None  # frames left out after the first one; None: none anywhere
    tokens_BTN: Tensor | None = None
    actions: Tensor | None = None  # latent: (B,S) codes or (B,S,K) vectors

    def __len__(self) -> int:
        """Number of clips."""
        return next(len(value) for value in self._tensors() if value is not None)

    def _tensors(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]

    def split(self, size: int) -> Iterator[Batch]:
        """Micro-batches of at most `size` clips."""
        for start in range(0, len(self), size):
            yield Batch(*(None if t is None else t[start : start + size] for t in self._tensors()))


def clip_generators(seed: int, step: int, first: int, clips: int) -> list[torch.Generator]:
    """One generator a clip, from (seed, step, place in the global batch).

    So the masks of a clip depend neither on the process nor on the micro-batch that it is in, and a resumed run
    needs no random state.
    """
    return [torch.Generator().manual_seed(_seed_of(seed, step, first + clip)) for clip in range(clips)]


def _seed_of(*numbers: int) -> int:
    digest = hashlib.blake2b(",".join(map(str, numbers)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
