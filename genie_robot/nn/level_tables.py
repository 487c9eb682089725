"""Embedding and logits of FSQ tokens that share levels.

FSQ (Mentzer 2023, arXiv 2309.15505) writes a token as a few digits, and tokens that have most digits in common look
alike. Here each token has a row of its own plus a row for each of its digits, so that what is learned of one token
holds for its like, and rare tokens are not learned from nothing.

Shapes: V tokens, D width, Q digits, L levels of all digits together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LevelEmbedding(nn.Embedding):
    """Rows of V tokens and of the mask, which is token V. `levels`: how many values each digit has, the fastest first."""

    def __init__(self, levels: Sequence[int], dim: int) -> None:
        super().__init__(math.prod(levels) + 1, dim)
        self.levels = tuple(levels)
        self.levels_LD = nn.Parameter(torch.empty(sum(levels), dim))
        nn.init.normal_(self.weight, std=0.02)
        nn.init.normal_(self.levels_LD, std=0.02)

    def forward(self, input: Tensor) -> Tensor:
        """Tokens int64 (...) -> (...,D)."""
        rows, stride, offset = super().forward(input), 1, 0
        for count in self.levels:  # the mask's digits are all 0, which its own row can make up for
            digit = torch.div(input, stride, rounding_mode="floor") % count
            rows = rows + F.embedding(offset + digit, self.levels_LD)
            stride, offset = stride * count, offset + count
        return rows


class LevelHead(nn.Linear):
    """Logits (...,V) of vectors (...,D): those of each token's own row plus those of its digits."""

    def __init__(self, levels: Sequence[int], dim: int) -> None:
        super().__init__(dim, math.prod(levels), bias=False)
        self.levels = tuple(levels)
        self.levels_LD = nn.Parameter(torch.empty(sum(levels), dim))
        nn.init.kaiming_uniform_(self.levels_LD, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """Vectors (...,D) -> (...,V)."""
        rows_by_level = self.levels_LD.split(self.levels)
        shared_VD = rows_by_level[0]
        for rows_ND in rows_by_level[1:]:  # a slower digit: all faster ones again for each of its values
            shared_VD = (rows_ND[:, None] + shared_VD).flatten(0, 1)
        return F.linear(input, self.weight + shared_VD)
