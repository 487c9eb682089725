"""The latent action model's networks as transformers, on pixels or on tokens (Genie, section 2.1).

The encoder sees a whole clip and gives what the quantizer turns into one action a step; the decoder gives the next
frames from past frames and actions, and never sees the frame that it predicts.
Shapes: B batch, T frames, S = T - 1 steps, Y X pixels, C channels, N places (patches or tokens) of a frame, P values
of a place, V tokens of the codebook, K action width, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from genie_robot.config import LatentActionConfig
from genie_robot.nn.flops import product_flops
from genie_robot.nn.patch import patchify, unpatchify
from genie_robot.nn.st_transformer import STTransformer


@dataclass(frozen=True)
class PixelFrames:
    """Frames of pixels, read and written as square patches."""

    height: int
    width: int
    patch: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.height // self.patch, self.width // self.patch

    @property
    def outputs(self) -> int:
        """P, the numbers that a decoder gives for a place."""
        return self.patch**2 * 3

    def embedding(self, dim: int) -> nn.Module:
        """A layer from places to vectors of width `dim`."""
        return nn.Linear(self.outputs, dim)

    def embedding_flops(self, dim: int, frames: int) -> int:
        """Multiply-adds x 2 of that layer."""
        return 2 * frames * self.grid[0] * self.grid[1] * self.outputs * dim

    def places(self, clip_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,C) -> (B,T,N,P)."""
        return patchify(clip_BTYXC, self.patch)

    def frames(self, outputs_BSNP: Tensor) -> Tensor:
        """A decoder's numbers as frames (B,S,Y,X,C) in [0, 1]."""
        return torch.sigmoid(unpatchify(outputs_BSNP, self.patch, self.height).float())


@dataclass(frozen=True)
class TokenFrames:
    """Frames of tokens on the tokenizer's grid."""

    grid: tuple[int, int]
    outputs: int  # V, the logits that a decoder gives for a place

    def embedding(self, dim: int) -> nn.Module:
        """A layer from tokens to vectors of width `dim`."""
        table = nn.Embedding(self.outputs, dim)
        nn.init.normal_(table.weight, std=0.02)
        return table

    def embedding_flops(self, dim: int, frames: int) -> int:
        """A lookup multiplies nothing."""
        return 0

    def places(self, clip_BTN: Tensor) -> Tensor:
        """Tokens are places already."""
        return clip_BTN

    def frames(self, outputs_BSNV: Tensor) -> Tensor:
        """Logits stay what they are."""
        return outputs_BSNV


Frames = PixelFrames | TokenFrames


class TransformerActionEncoder(nn.Module):
    """Causal over the whole clip; the action of step t is read at frame t+1, from one extra token a frame."""

    def __init__(self, config: LatentActionConfig, frames: Frames, max_frames: int, outputs: int) -> None:
        super().__init__()
        self.frames = frames
        self.dim = config.encoder_transformer.dim
        self.embed = frames.embedding(self.dim)
        self.action_token = nn.Parameter(0.02 * torch.randn(self.dim))
        self.transformer = STTransformer(config.encoder_transformer, frames.grid, max_frames, extra_tokens=1)
        self.project = nn.Linear(self.dim, outputs)

    def forward(self, clip: Tensor) -> Tensor:
        """Pixels (B,T,Y,X,C) or tokens (B,T,N) -> (B,S,outputs)."""
        x_BTND = self.embed(self.frames.places(clip))
        token = self.action_token.to(x_BTND.dtype).expand(*x_BTND.shape[:2], 1, -1)
        return self.project(self.transformer(torch.cat([token, x_BTND], dim=2))[:, 1:, 0])

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2 of one clip of `frames` frames."""
        embed = self.frames.embedding_flops(self.dim, frames)
        return embed + self.transformer.flops(frames) + product_flops(self.project, frames - 1)


class TransformerFrameDecoder(nn.Module):
    """Past frames plus the action of each step -> the next frame.

    With `decoder_history` "first", a learnt vector stands for every frame but the first (TinyWorlds): what has moved
    since then can only come from the actions.
    """

    def __init__(self, config: LatentActionConfig, frames: Frames, max_frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.dim = config.decoder_transformer.dim
        self.embed = frames.embedding(self.dim)
        self.embed_action = nn.Linear(config.code_dim, self.dim)
        self.transformer = STTransformer(config.decoder_transformer, frames.grid, max_frames)
        self.project = nn.Linear(self.dim, frames.outputs)
        first_only = config.decoder_history == "first"
        self.hidden_D = nn.Parameter(0.02 * torch.randn(self.dim)) if first_only else None

    def forward(self, past: Tensor, actions_BSK: Tensor) -> Tensor:
        """Frames 0..T-2, (B,S,Y,X,C) or (B,S,N), and actions -> frames 1..T-1, or logits (B,S,N,V) of their tokens."""
        if self.hidden_D is None:
            x_BSND = self.embed(self.frames.places(past))
        else:
            first = self.embed(self.frames.places(past[:, :1]))
            hidden = self.hidden_D.to(first.dtype).expand(len(first), past.shape[1] - 1, *first.shape[2:])
            x_BSND = torch.cat([first, hidden], dim=1)
        action_BSD = self.embed_action(actions_BSK.to(self.embed_action.weight.dtype))
        x_BSND = self.transformer(x_BSND + action_BSD[:, :, None])
        return self.frames.frames(self.project(x_BSND))

    def flops(self, steps: int) -> int:
        """Multiply-adds x 2 of one clip of `steps` predicted frames."""
        embed = self.frames.embedding_flops(self.dim, steps if self.hidden_D is None else 1)
        places = steps * self.frames.grid[0] * self.frames.grid[1]
        action, project = product_flops(self.embed_action, steps), product_flops(self.project, places)
        return embed + action + self.transformer.flops(steps) + project
