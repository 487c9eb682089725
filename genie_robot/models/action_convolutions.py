"""The latent action model's networks as convolutions on single steps: the choice that learns on two cores.

Shapes: B batch, T frames, S = T - 1 steps, Y X pixels (or rows and columns of tokens), C channels, N tokens of a
frame, V tokens of the codebook, K action width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import LatentActionConfig
from genie_robot.nn.flops import product_flops

STRIDE = 8  # of the deepest features of the pixel networks: sides of frames must be multiples of it


class _PairEncoder(nn.Module):
    """Convolutions on [frame, change], max-pooled over the image: what changed, wherever it is."""

    def __init__(self, layers: list[nn.Module], width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs))

    def _encode(self, frames_BTYXC: Tensor) -> Tensor:
        before, after = frames_BTYXC[:, :-1], frames_BTYXC[:, 1:]
        pairs = rearrange(torch.cat([before, after - before], dim=-1), "b s y x c -> (b s) c y x")
        features = self.layers(pairs.contiguous(memory_format=torch.channels_last))
        return rearrange(self.project(features.amax(dim=(2, 3))), "(b s) k -> b s k", b=len(before))

    def _step_flops(self, places: int) -> int:
        total = 0
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                places //= layer.stride[0] ** 2
                total += product_flops(layer, places)
            elif isinstance(layer, nn.Linear):
                total += product_flops(layer, 1)
        return total


class ConvActionEncoder(_PairEncoder):
    """From pixels."""

    def __init__(self, config: LatentActionConfig, height: int, width: int, outputs: int) -> None:
        channels = config.conv_channels
        layers: list[nn.Module] = [
            nn.Conv2d(6, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 4 * channels, 3, padding=1),
        ]
        super().__init__(layers, 4 * channels, outputs)
        self.pixels = height * width

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,C) -> (B,S,outputs)."""
        return self._encode(video_BTYXC)

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2 of one clip of `frames` frames."""
        return (frames - 1) * self._step_flops(self.pixels)


class ConvTokenActionEncoder(_PairEncoder):
    """From tokens, at the resolution of their grid."""

    def __init__(
        self, config: LatentActionConfig, grid: tuple[int, int], num_codes: int, outputs: int
    ) -> None:
        channels = config.conv_channels
        layers: list[nn.Module] = [
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * channels, 4 * channels, 3, padding=1),
        ]
        super().__init__(layers, 4 * channels, outputs)
        self.grid = grid
        self.embed = nn.Embedding(num_codes, channels)

    def forward(self, tokens_BTN: Tensor) -> Tensor:
        """(B,T,N) -> (B,S,outputs)."""
        return self._encode(rearrange(self.embed(tokens_BTN), "b t (y x) c -> b t y x c", y=self.grid[0]))

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2 of one clip of `frames` frames."""
        return (frames - 1) * self._step_flops(self.grid[0] * self.grid[1])


class _FilmDecoder(nn.Module):
    """Two residual convolutions whose channels the action scales and shifts.

    A convolution sees one frame, so with `decoder_history` "first" it starts from the first one at every step and
    gets the sum of the actions since.
    """

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__()
        width = 4 * config.conv_channels
        self.first_only = config.decoder_history == "first"
        self.film = nn.Linear(config.code_dim, 4 * width)
        self.mix1 = nn.Conv2d(width, width, 3, padding=1)
        self.mix2 = nn.Conv2d(width, width, 3, padding=1)

    def _history(self, past: Tensor, actions_BSK: Tensor) -> tuple[Tensor, Tensor]:
        """Frame and action that each step starts from."""
        if not self.first_only:
            return past, actions_BSK
        return past[:, :1].expand_as(past), actions_BSK.cumsum(dim=1)

    def _act(self, x: Tensor, actions_BSK: Tensor) -> Tensor:
        """Features (B*S,4C,Y,X) under the actions."""
        film = self.film(actions_BSK.to(self.film.weight.dtype)).flatten(0, 1)[..., None, None]
        scale1, shift1, scale2, shift2 = film.chunk(4, dim=1)
        x = x + F.relu(self.mix1(x) * (1 + scale1) + shift1)
        return x + F.relu(self.mix2(x) * (1 + scale2) + shift2)

    def _act_flops(self, places: int) -> int:
        return product_flops(self.film, 1) + sum(product_flops(mix, places) for mix in (self.mix1, self.mix2))


class ConvFrameDecoder(_FilmDecoder):
    """A small U-Net on one frame."""

    def __init__(self, config: LatentActionConfig, height: int, width: int) -> None:
        super().__init__(config)
        self.pixels = height * width
        channels = config.conv_channels
        self.down1 = nn.Conv2d(3, channels, 5, stride=2, padding=2)
        self.down2 = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.down3 = nn.Conv2d(2 * channels, 4 * channels, 3, stride=2, padding=1)
        self.up1 = nn.Conv2d(4 * channels, 8 * channels, 3, padding=1)
        self.up2 = nn.Conv2d(4 * channels, 4 * channels, 3, padding=1)
        self.up3 = nn.Conv2d(2 * channels, 12, 3, padding=1)

    def forward(self, past_BSYXC: Tensor, actions_BSK: Tensor) -> Tensor:
        """(B,S,Y,X,C), (B,S,K) -> next frames (B,S,Y,X,C) in [0, 1]."""
        past_BSYXC, actions_BSK = self._history(past_BSYXC, actions_BSK)
        frames = rearrange(past_BSYXC, "b s y x c -> (b s) c y x").contiguous(
            memory_format=torch.channels_last
        )
        half = F.relu(self.down1(frames))
        quarter = F.relu(self.down2(half))
        x = self._act(F.relu(self.down3(quarter)), actions_BSK)
        x = torch.cat([F.pixel_shuffle(F.relu(self.up1(x)), 2), quarter], dim=1)
        x = torch.cat([F.pixel_shuffle(F.relu(self.up2(x)), 2), half], dim=1)
        x = F.pixel_shuffle(self.up3(x), 2)
        return torch.sigmoid(rearrange(x, "(b s) c y x -> b s y x c", b=len(past_BSYXC)).float())

    def flops(self, steps: int) -> int:
        """Multiply-adds x 2 of one clip of `steps` predicted frames."""
        half, quarter, eighth = (self.pixels // side**2 for side in (2, 4, 8))
        layers = (
            (self.down1, half),
            (self.down2, quarter),
            (self.down3, eighth),
            (self.up1, eighth),
            (self.up2, quarter),
            (self.up3, half),
        )
        convolutions = sum(product_flops(layer, places) for layer, places in layers)
        return steps * (convolutions + self._act_flops(eighth))


class ConvTokenFrameDecoder(_FilmDecoder):
    """Convolutions at the resolution of the tokens' grid."""

    def __init__(self, config: LatentActionConfig, grid: tuple[int, int], num_codes: int) -> None:
        super().__init__(config)
        self.grid = grid
        channels = config.conv_channels
        self.embed = nn.Embedding(num_codes, channels)
        self.widen = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.head = nn.Conv2d(4 * channels, num_codes, 1)

    def forward(self, past_BSN: Tensor, actions_BSK: Tensor) -> Tensor:
        """(B,S,N), (B,S,K) -> logits (B,S,N,V) of the next frames' tokens."""
        past_BSN, actions_BSK = self._history(past_BSN, actions_BSK)
        frames = rearrange(self.embed(past_BSN), "b s (y x) c -> (b s) c y x", y=self.grid[0])
        x = self.head(self._act(F.relu(self.widen(frames)), actions_BSK))
        return rearrange(x, "(b s) v y x -> b s (y x) v", b=len(past_BSN))

    def flops(self, steps: int) -> int:
        """Multiply-adds x 2 of one clip of `steps` predicted frames."""
        places = self.grid[0] * self.grid[1]
        convolutions = product_flops(self.widen, places) + product_flops(self.head, places)
        return steps * (convolutions + self._act_flops(places))
