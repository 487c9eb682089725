"""Latent actions as vectors of the dynamics' width: codes, soft codes or continuous actions, and "no action".

Shapes: B batch, T frames, A codes of one codebook, K numbers of a continuous action, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.nn.quantize import code_digits


class CodeEmbedding(nn.Embedding):
    """A row for each code of each codebook (their rows are added up), and a last one for "no action".

    An action is an int64 code, where A ** codebooks means none; or one-hot rows of all codebooks side by side, which
    let a gradient reach whatever made them, and where a row of zeros means none.
    """

    def __init__(self, num_codes: int, num_codebooks: int, dim: int) -> None:
        super().__init__(num_codebooks * num_codes + 1, dim)
        nn.init.normal_(self.weight, std=0.02)
        self.num_codes, self.num_codebooks = num_codes, num_codebooks
        self.no_action = num_codes**num_codebooks

    def none(self, like: Tensor) -> float:
        """What an action is filled with to mean "no action", for actions of the kind of `like`."""
        return 0 if like.is_floating_point() else self.no_action

    def forward(self, input: Tensor) -> Tensor:
        """(B,T) int64 or (B,T,num_codebooks * A) float -> (B,T,D)."""
        if input.is_floating_point():
            is_none = 1 - input[..., : self.num_codes].sum(-1, keepdim=True)
            return torch.cat([input, is_none], dim=-1).to(self.weight.dtype) @ self.weight
        rows = code_digits(input, self.num_codes, self.num_codebooks)
        rows = rows + self.num_codes * torch.arange(self.num_codebooks, device=input.device)
        added = F.embedding(rows, self.weight).sum(-2)
        return torch.where((input == self.no_action)[..., None], self.weight[-1], added)

    def flops(self) -> int:
        """A lookup multiplies nothing."""
        return 0


class VectorEmbedding(nn.Module):
    """A linear map of continuous actions; NaN means "no action"."""

    def __init__(self, action_dim: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(action_dim, dim)
        self.no_action_D = nn.Parameter(0.02 * torch.randn(dim))
        nn.init.normal_(self.project.weight, std=0.02)
        nn.init.zeros_(self.project.bias)

    def none(self, like: Tensor) -> float:
        """What an action is filled with to mean "no action"."""
        return float("nan")

    def forward(self, actions_BTK: Tensor) -> Tensor:
        """(B,T,K) -> (B,T,D)."""
        is_none = actions_BTK.isnan().any(-1, keepdim=True)
        projected = self.project(actions_BTK.nan_to_num().to(self.project.weight.dtype))
        return torch.where(is_none, self.no_action_D.to(projected.dtype), projected)

    def flops(self) -> int:
        """Of one action."""
        return 2 * self.project.weight.numel()
