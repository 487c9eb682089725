"""Actions as vectors of the dynamics' width: codes, soft codes, continuous actions, robot actions, and "no action".

Shapes: B batch, T frames, A codes of one codebook, L codebooks, K numbers of a continuous action, R of a robot action,
D width.
"""

from __future__ import annotations

import numpy as np
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


class MixedEmbedding(nn.Module):
    """One set of weights for latent and for robot actions: what an action says is added up, whatever of it is known.

    An action is a row [L * A one-hots of codes | K numbers before the quantizer | R numbers of the robot's action]. NaN
    stands for what is not known: a row of nothing but NaN is "no action", and codes may be known of the coarsest
    codebooks only. Int64 codes (all codebooks in one number) mean a row in which the codes alone are known.
    Robot actions are standardised in here, by the statistics of the data that the dynamics was trained on.
    """

    robot_mean_R: Tensor
    robot_scale_R: Tensor

    def __init__(self, num_codes: int, num_codebooks: int, vector_dim: int, robot_dim: int, dim: int) -> None:
        super().__init__()
        self.num_codes, self.num_codebooks = num_codes, num_codebooks
        self.widths = (num_codes * num_codebooks, vector_dim, robot_dim)
        self.codes = nn.Parameter(0.02 * torch.randn(self.widths[0], dim))
        self.vector = nn.Linear(vector_dim, dim)
        self.robot = nn.Sequential(nn.Linear(robot_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.no_action_D = nn.Parameter(0.02 * torch.randn(dim))
        self.register_buffer("robot_mean_R", torch.zeros(robot_dim))
        self.register_buffer("robot_scale_R", torch.ones(robot_dim))

    @property
    def no_action(self) -> int:
        """The int64 code that means "no action"."""
        return self.num_codes**self.num_codebooks

    def none(self, like: Tensor) -> float:
        """What an action is filled with to mean "no action", for actions of the kind of `like`."""
        return float("nan") if like.is_floating_point() else self.no_action

    def standardise(self, mean_R: np.ndarray, deviation_R: np.ndarray) -> None:
        """Take robot actions to have this mean and deviation (R,); a number that never changes counts as it is."""
        self.robot_mean_R.copy_(torch.from_numpy(mean_R))
        self.robot_scale_R.copy_(torch.from_numpy(np.where(deviation_R > 1e-6, deviation_R, 1.0)))

    def rows(
        self,
        codes_BSL: Tensor | None = None,
        vectors_BSK: Tensor | None = None,
        robot_BSR: Tensor | None = None,
    ) -> Tensor:
        """Rows (..., W) float32 in which only what is given is known; codes (..., l) of the coarsest l codebooks."""
        given = next(part for part in (codes_BSL, vectors_BSK, robot_BSR) if part is not None)
        parts = [
            given.new_full((*given.shape[:-1], width), float("nan"), dtype=torch.float32)
            for width in self.widths
        ]
        if codes_BSL is not None:
            hot = F.one_hot(codes_BSL, self.num_codes).flatten(-2).float()
            parts[0] = torch.cat([hot, parts[0][..., hot.shape[-1] :]], dim=-1)
        parts[1] = parts[1] if vectors_BSK is None else vectors_BSK.float()
        parts[2] = parts[2] if robot_BSR is None else robot_BSR.float()
        return torch.cat(parts, dim=-1)

    def standardised_robot(self, rows_BTW: Tensor) -> Tensor:
        """What rows say of the robot's action, (B,T,R), standardised; NaN where it is not known."""
        return (rows_BTW[..., -self.widths[2] :] - self.robot_mean_R) / self.robot_scale_R

    def forward(self, actions: Tensor) -> Tensor:
        """Codes (B,T) int64 or rows (B,T,W) float -> (B,T,D)."""
        if not actions.is_floating_point():
            rows = self.rows(code_digits(actions, self.num_codes, self.num_codebooks))
            actions = rows.masked_fill((actions == self.no_action)[..., None], float("nan"))
        kind = self.codes.dtype
        codes, vectors, _ = actions.split(self.widths, dim=-1)
        total = codes.nan_to_num().to(kind) @ self.codes
        for part, network in (
            (vectors, self.vector),
            (self.standardised_robot(actions), self.robot),
        ):
            is_known = ~part.isnan().any(-1, keepdim=True)
            total = total + network(part.nan_to_num().to(kind)) * is_known
        nothing = actions.isnan().all(-1, keepdim=True)
        return torch.where(nothing, self.no_action_D.to(total.dtype), total)

    def flops(self) -> int:
        """Of one action."""
        return 2 * sum(weight.numel() for weight in self.parameters() if weight.ndim == 2)


class ActionMap(nn.Module):
    """What a robot's action means at each place of the image: a small network of the action and the place.

    An action that says where the arm is (`data.commands`) says which patches will show it; one vector for the whole
    frame leaves that to be worked out by every token. GigaWorld-1 (arXiv 2607.02642) draws such a map by the camera's
    calibration; this one is learned.
    """

    place_NC: Tensor

    def __init__(self, robot_dim: int, grid: tuple[int, int], dim: int, hidden: int = 192) -> None:
        super().__init__()
        sides = (torch.linspace(-1, 1, side) for side in grid)
        place_NC = torch.stack([axis.flatten() for axis in torch.meshgrid(*sides, indexing="ij")], dim=-1)
        self.register_buffer("place_NC", place_NC, persistent=False)
        self.robot, self.place = nn.Linear(robot_dim, hidden), nn.Linear(2, hidden, bias=False)
        self.middle, self.out = nn.Linear(hidden, dim), nn.Linear(dim, dim)
        with torch.no_grad():
            # Ridges that are a patch or two wide, anywhere in the image and in the space of actions.
            self.robot.weight.normal_()
            self.robot.bias.normal_()
            self.place.weight.normal_(std=3.0)
            self.out.weight.mul_(0.1)

    def forward(self, robot_BTR: Tensor) -> Tensor:
        """Standardised robot actions (B,T,R) -> (B,T,N,D); zeros where an action is not known (NaN)."""
        is_known = ~robot_BTR.isnan().any(-1, keepdim=True)
        action_BTH = self.robot(robot_BTR.nan_to_num().to(self.robot.weight.dtype))
        hidden_BTNH = F.silu(action_BTH[:, :, None] + self.place(self.place_NC.to(action_BTH.dtype)))
        return self.out(F.silu(self.middle(hidden_BTNH))) * is_known[:, :, None]

    def flops(self) -> int:
        """Of one frame."""
        tokens = len(self.place_NC)
        per_token = self.place.weight.numel() + self.middle.weight.numel() + self.out.weight.numel()
        return 2 * (self.robot.weight.numel() + tokens * per_token)
