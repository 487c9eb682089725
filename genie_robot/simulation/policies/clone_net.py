"""The network of cloned policies: image and task -> robot action, or codes of latent actions.

Shapes: B batch, Y X pixels, C colours, F maps, O outputs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from genie_robot.errors import ImageError

MOVES = [0, 1, 2, 5]
"""Entries of the robot action that a network gives as numbers: displacement and yaw."""
GRIPS = np.array([0.0, 1.0, -1.0], dtype=np.float32)
"""What the three gripper classes mean: leave it, close, open."""
NUM_OUTPUTS = len(MOVES) + len(GRIPS)
IMAGE_SIZE = 64


class _Block(nn.Module):
    """3x3 convolution, group norm, SiLU."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outside)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.norm(self.conv(x)))


class _Places(nn.Module):
    """Maps (B, F, Y, X) -> where each is high, (B, 2 F) in -1..1: spatial softmax (Levine et al. 2016).

    Where the hand is against a thing is then a difference of numbers, which few demonstrations suffice to learn.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def forward(self, maps_BFYX: Tensor) -> Tensor:
        weights_BFYX = (maps_BFYX * self.sharpness).flatten(2).softmax(-1).unflatten(2, maps_BFYX.shape[2:])
        down = torch.linspace(-1, 1, maps_BFYX.shape[2])
        right = torch.linspace(-1, 1, maps_BFYX.shape[3])
        return torch.cat([weights_BFYX.sum(3) @ down, weights_BFYX.sum(2) @ right], dim=1)


class CloneNet(nn.Module):
    """Images (B, C, 64, 64) in 0..1 and tasks (B,) -> outputs (B, O). About 0.1 M parameters.

    channels: 3, or 6 for two images one after the other (inverse dynamics). What a task wants is told after the
    convolutions, which all tasks share. `normalise` tells it the mean picture: what moves is little of what is seen.
    """

    mean_CYX: Tensor
    scale: Tensor

    def __init__(self, num_tasks: int, outputs: int = NUM_OUTPUTS, channels: int = 3) -> None:
        super().__init__()
        self.settings = {"num_tasks": num_tasks, "outputs": outputs, "channels": channels}
        self.register_buffer("mean_CYX", torch.full((channels, IMAGE_SIZE, IMAGE_SIZE), 0.5))
        self.register_buffer("scale", torch.ones(()))
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, 32, 6, stride=4, padding=1),
            nn.SiLU(),
            _Block(32, 48),
            _Block(48, 48),
            _Block(48, 48),
        )
        self.maps, self.places = nn.Conv2d(48, 32, 1), _Places()
        self.look = nn.Linear(2 * 32 + 48, 128)
        self.task = nn.Embedding(num_tasks, 128)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, outputs))

    def normalise(self, images_BCYX: Tensor) -> None:
        """Take mean picture and spread around it from images (B, C, 64, 64) in 0..1."""
        self.mean_CYX.copy_(images_BCYX.mean(0))
        self.scale.copy_((images_BCYX - self.mean_CYX).std().clamp(min=0.01))

    def forward(self, images_BCYX: Tensor, task_B: Tensor) -> Tensor:
        """(B, C, 64, 64) in 0..1 and (B,) -> (B, O)."""
        x_BFYX = self.trunk((images_BCYX - self.mean_CYX) / self.scale)
        seen_BF = torch.cat([self.places(self.maps(x_BFYX)), x_BFYX.mean(dim=(2, 3))], dim=1)
        return self.head(self.look(seen_BF) + self.task(task_B))


def to_input(images_BYXC: np.ndarray) -> Tensor:
    """Images uint8 (B, 64, 64, C) as a float tensor (B, C, 64, 64) in 0..1; ImageError for others."""
    if images_BYXC.dtype != np.uint8 or images_BYXC.shape[1:3] != (IMAGE_SIZE, IMAGE_SIZE):
        raise ImageError(
            f"a cloned policy got {images_BYXC.dtype} images of shape {images_BYXC.shape}; "
            f"wanted uint8 (batch, {IMAGE_SIZE}, {IMAGE_SIZE}, 3); resize them first"
        )
    return torch.from_numpy(np.ascontiguousarray(images_BYXC)).permute(0, 3, 1, 2).float() / 255.0
