"""Latent action model: which of a few codes leads from frame t to frame t+1 (Genie, section 2.1).

The encoder sees both frames, the decoder only the past and the code, so the code must say what changed.
Shapes: B batch, T frames, S = T - 1 transitions, Y X pixels, C channels, K code width, A actions, D width.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import LatentActionConfig, VideoConfig
from genie_robot.models.losses import change_weights
from genie_robot.nn.patch import patchify, unpatchify
from genie_robot.nn.quantize import VectorQuantizer
from genie_robot.nn.st_transformer import STTransformer


class TransformerActionEncoder(nn.Module):
    """Causal over the whole clip; the action of step t is read at frame t+1, from one extra token a frame."""

    def __init__(self, config: LatentActionConfig, video: VideoConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        tokens = (video.height // self.patch) * (video.width // self.patch)
        dim = config.encoder_transformer.dim
        self.embed = nn.Linear(self.patch**2 * 3, dim)
        self.action_token = nn.Parameter(0.02 * torch.randn(dim))
        # One column more than patches: a strip of grid (1, N + 1) (no local convolution in this encoder).
        self.transformer = STTransformer(config.encoder_transformer, (1, tokens + 1), video.num_frames)
        self.project = nn.Linear(dim, config.code_dim)

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,C) -> (B,S,K)."""
        x_BTND = self.embed(patchify(video_BTYXC, self.patch))
        token = self.action_token.to(x_BTND.dtype).expand(*x_BTND.shape[:2], 1, -1)
        return self.project(self.transformer(torch.cat([token, x_BTND], dim=2))[:, 1:, 0])


class TransformerFrameDecoder(nn.Module):
    """Past frames plus the code of each step -> the next frame."""

    def __init__(self, config: LatentActionConfig, video: VideoConfig) -> None:
        super().__init__()
        self.patch, self.height = config.patch_size, video.height
        grid = (video.height // self.patch, video.width // self.patch)
        dim = config.decoder_transformer.dim
        self.embed = nn.Linear(self.patch**2 * 3, dim)
        self.embed_action = nn.Linear(config.code_dim, dim)
        self.transformer = STTransformer(config.decoder_transformer, grid, video.num_frames)
        self.project = nn.Linear(dim, self.patch**2 * 3)

    def forward(self, past_BSYXC: Tensor, actions_BSK: Tensor) -> Tensor:
        """(B,S,Y,X,C), (B,S,K) -> next frames (B,S,Y,X,C) in [0, 1]."""
        x = self.embed(patchify(past_BSYXC, self.patch)) + self.embed_action(actions_BSK)[:, :, None]
        return torch.sigmoid(unpatchify(self.project(self.transformer(x)), self.patch, self.height).float())


class ConvActionEncoder(nn.Module):
    """Convolutions on [frame, change], max-pooled over the image: what changed, wherever it is."""

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__()
        width = config.conv_channels
        self.layers = nn.Sequential(
            nn.Conv2d(6, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1),
        )
        self.project = nn.Sequential(nn.LayerNorm(4 * width), nn.Linear(4 * width, config.code_dim))

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,C) -> (B,S,K)."""
        before, after = video_BTYXC[:, :-1], video_BTYXC[:, 1:]
        pairs = rearrange(torch.cat([before, after - before], dim=-1), "b s y x c -> (b s) c y x")
        features = self.layers(pairs.contiguous(memory_format=torch.channels_last))
        return rearrange(self.project(features.amax(dim=(2, 3))), "(b s) k -> b s k", s=before.shape[1])


class ConvFrameDecoder(nn.Module):
    """A small U-Net on frame t; the code scales and shifts its channels."""

    def __init__(self, config: LatentActionConfig) -> None:
        super().__init__()
        width = config.conv_channels
        self.down1 = nn.Conv2d(3, width, 5, stride=2, padding=2)
        self.down2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.film = nn.Linear(config.code_dim, 16 * width)
        self.mix1 = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.mix2 = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.up1 = nn.Conv2d(4 * width, 8 * width, 3, padding=1)
        self.up2 = nn.Conv2d(4 * width, 4 * width, 3, padding=1)
        self.up3 = nn.Conv2d(2 * width, 12, 3, padding=1)

    def forward(self, past_BSYXC: Tensor, actions_BSK: Tensor) -> Tensor:
        """(B,S,Y,X,C), (B,S,K) -> next frames (B,S,Y,X,C) in [0, 1]."""
        steps = past_BSYXC.shape[1]
        frames = rearrange(past_BSYXC, "b s y x c -> (b s) c y x").contiguous(
            memory_format=torch.channels_last
        )
        scale1, shift1, scale2, shift2 = self.film(actions_BSK).flatten(0, 1)[..., None, None].chunk(4, dim=1)
        half = F.relu(self.down1(frames))
        quarter = F.relu(self.down2(half))
        x = F.relu(self.down3(quarter))
        x = x + F.relu(self.mix1(x) * (1 + scale1) + shift1)
        x = x + F.relu(self.mix2(x) * (1 + scale2) + shift2)
        x = torch.cat([F.pixel_shuffle(F.relu(self.up1(x)), 2), quarter], dim=1)
        x = torch.cat([F.pixel_shuffle(F.relu(self.up2(x)), 2), half], dim=1)
        x = F.pixel_shuffle(self.up3(x), 2)
        return torch.sigmoid(rearrange(x, "(b s) c y x -> b s y x c", s=steps).float())


class LatentActionModel(nn.Module):
    """Discovers `num_actions` codes from video alone. Only the encoder and the codebook are used afterwards."""

    def __init__(self, config: LatentActionConfig, video: VideoConfig) -> None:
        super().__init__()
        self.config, self.video = config, video
        if config.encoder == "conv":
            self.encoder: nn.Module = ConvActionEncoder(config)
            self.decoder: nn.Module = ConvFrameDecoder(config)
        else:
            self.encoder = TransformerActionEncoder(config, video)
            self.decoder = TransformerFrameDecoder(config, video)
        self.quantizer = VectorQuantizer(config.num_actions, config.code_dim, config.commitment_weight)

    def infer(self, video_BTYXC: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B,S) int64 and their probabilities (B,S,A) (softmax of the cosine similarities / 0.1)."""
        similarities_BSA = self.quantizer.similarities(self.encoder(video_BTYXC))
        return similarities_BSA.argmax(-1), (similarities_BSA / 0.1).softmax(-1)

    def predict(self, past_BSYXC: Tensor, codes_BS: Tensor) -> Tensor:
        """The decoder's next frames (B,S,Y,X,C) for given codes: a blurry look at what each code means."""
        return self.decoder(past_BSYXC, self.quantizer.lookup(codes_BS))

    def forward(self, video_BTYXC: Tensor) -> dict[str, Tensor]:
        """Training pass: `loss`, `reconstruction` (B,S,Y,X,C) of frames 1..T-1, `codes` (B,S)."""
        past, future = video_BTYXC[:, :-1], video_BTYXC[:, 1:]
        quantized = self.quantizer(self.encoder(video_BTYXC))
        reconstruction = self.decoder(past, quantized.vectors)
        weights = change_weights(future, past, self.config.change_weight)
        pixel_loss = (weights * F.mse_loss(reconstruction, future, reduction="none")).mean()
        return {
            "loss": pixel_loss + quantized.loss,
            "reconstruction": reconstruction,
            "codes": quantized.codes,
        }
