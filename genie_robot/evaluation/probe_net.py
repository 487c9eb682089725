"""The nets of the state probe: one 64x64 camera image in, the numbers of the state vector out.

Shape legend: B batch, C channels, Y X pixels, S numbers of the state, K points, L cells, V values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = 64


class _NormBlock(nn.Module):
    """3x3 convolution, group norm, SiLU; a residual sum when the shape stays."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outside)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = functional.silu(self.norm(self.conv(x)))
        return x + y if self.residual else y


class GridNet(nn.Module):
    """The net of format 1 (`weights/tabletop-probe`): a flattened 8x8 grid and two linear layers, no uncertainty."""

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            _NormBlock(12, 24),
            _NormBlock(24, 48, stride=2),
            _NormBlock(48, 48),
            _NormBlock(48, 64, stride=2),
            _NormBlock(64, 64),
            nn.Conv2d(64, 24, 1),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(24 * 64, 72), nn.SiLU(), nn.Linear(72, num_states))

    def forward(self, images_BCYX: Tensor) -> tuple[Tensor, None]:
        """(B, 3, 64, 64) in 0..1 -> normalised state (B, S), and no uncertainty."""
        return self.head(self.trunk(images_BCYX - 0.5)), None


class _Block(nn.Module):
    """3x3 convolution, batch norm (free at inference), ReLU; a residual sum when the shape stays."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm(self.conv(x)))
        return x + y if self.residual else y


class PointNet(nn.Module):
    """Images -> state by learned key points: K attention maps over 16x16 cells, each read out as a place and values.

    A place is the mean of the cells' coordinates under the map (soft-argmax; Levine et al. 2016, section 5.2), which
    gives a fraction of a cell: a linear layer on a flattened grid has to learn that anew for every cell. About 0.35 M
    parameters.
    """

    CELLS = IMAGE_SIZE // 4

    def __init__(self, num_states: int, width: int = 64, points: int = 16, values: int = 8) -> None:
        super().__init__()
        self.points = points
        self.fine = nn.Sequential(nn.PixelUnshuffle(4), _Block(48, width), _Block(width, width))
        self.coarse = nn.Sequential(_Block(width, 2 * width, stride=2), _Block(2 * width, 2 * width))
        self.up = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.Upsample(scale_factor=2.0))
        self.join = _Block(width, width)
        self.maps = nn.Conv2d(width, points + values, 1)
        read = points * (values + 4)
        self.head = nn.Sequential(nn.Linear(read, 128), nn.SiLU(), nn.Linear(128, num_states))
        self.skip = nn.Linear(read, num_states)
        self.doubt = nn.Sequential(nn.Linear(read, 64), nn.SiLU(), nn.Linear(64, num_states))
        line = torch.linspace(-1, 1, self.CELLS)
        grid = torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)
        self.grid: Tensor
        self.register_buffer("grid", torch.cat([grid, grid**2]), persistent=False)

    def forward(self, images_BCYX: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, 64, 64) in 0..1 -> normalised state (B, S), and the log of its expected absolute error (B, S).

        The second learns from the first without touching it.
        """
        fine = self.fine(images_BCYX - 0.5)
        maps_BVL = self.maps(self.join(fine + self.up(self.coarse(fine)))).flatten(2).float()
        attention_BKL = maps_BVL[:, : self.points].softmax(-1)
        content = torch.cat([maps_BVL[:, self.points :], self.grid.expand(len(maps_BVL), -1, -1)], dim=1)
        read_B = torch.einsum("bkl,bvl->bkv", attention_BKL, content).flatten(1)
        return self.head(read_B) + self.skip(read_B), self.doubt(read_B.detach())


NETS: dict[str, type[GridNet] | type[PointNet]] = {"grid": GridNet, "points": PointNet}
"""Nets by the name that a probe folder calls them."""
