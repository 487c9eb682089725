"""Video tokenizer: a causal spatiotemporal VQ-VAE (Genie, section 2.1, ST-ViViT).

Shapes: B batch, T frames, Y X pixels, C channels, N tokens per frame, D width. Video is float in [0, 1].
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import TokenizerConfig, VideoConfig
from genie_robot.models.losses import frame_change_weights
from genie_robot.nn.cache import TemporalCache
from genie_robot.nn.patch import patchify, unpatchify
from genie_robot.nn.quantize import FiniteScalarQuantizer, VectorQuantizer
from genie_robot.nn.st_transformer import STTransformer


class PatchEncoder(nn.Module):
    """An MLP on each patch alone: a token changes only where pixels change, which the dynamics needs."""

    def __init__(self, patch_values: int, dim: int, code_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(patch_values, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, 2 * dim),
            nn.GELU(),
            nn.Linear(2 * dim, code_dim),
        )

    def forward(self, patches_BTNP: Tensor) -> Tensor:
        """(B,T,N,P) -> (B,T,N,K)."""
        return self.layers(2 * patches_BTNP - 1)


class TransformerEncoder(nn.Module):
    """Patches mixed in space and, causally, in time."""

    def __init__(
        self, config: TokenizerConfig, patch_values: int, grid: tuple[int, int], frames: int
    ) -> None:
        super().__init__()
        dim = config.encoder_transformer.dim
        self.embed = nn.Linear(patch_values, dim)
        self.transformer = STTransformer(config.encoder_transformer, grid, frames)
        self.project = nn.Linear(dim, config.code_dim)

    def forward(self, patches_BTNP: Tensor) -> Tensor:
        """(B,T,N,P) -> (B,T,N,K)."""
        return self.project(self.transformer(self.embed(patches_BTNP)))


class LinearHead(nn.Module):
    """Token -> its own patch."""

    def __init__(self, dim: int, patch: int, height: int) -> None:
        super().__init__()
        self.patch, self.height = patch, height
        self.project = nn.Linear(dim, patch * patch * 3)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """(B,T,N,D) -> logits (B,T,Y,X,3)."""
        return unpatchify(self.project(x_BTND), self.patch, self.height)


class ConvHead(nn.Module):
    """Doubles the resolution until pixels are reached, mixing neighbours: no visible patch borders."""

    def __init__(self, dim: int, patch: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        layers: list[nn.Module] = []
        width = dim
        while patch > 1:
            narrow = max(width // 2, 24)
            layers += [nn.Conv2d(width, 4 * narrow, 3, padding=1), nn.PixelShuffle(2), nn.ReLU()]
            width, patch = narrow, patch // 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, x_BTND: Tensor) -> Tensor:
        """(B,T,N,D) -> logits (B,T,Y,X,3)."""
        grid = rearrange(x_BTND, "b t (h w) d -> (b t) d h w", h=self.grid[0])
        frames = self.layers(grid.contiguous(memory_format=torch.channels_last))
        return rearrange(frames, "(b t) c y x -> b t y x c", t=x_BTND.shape[1])


class VideoTokenizer(nn.Module):
    """Frames <-> `N` codes a frame. Encoder and decoder are causal in time."""

    def __init__(self, config: TokenizerConfig, video: VideoConfig) -> None:
        super().__init__()
        self.config, self.video = config, video
        patch = config.patch_size
        grid = (video.height // patch, video.width // patch)
        values = patch * patch * 3
        if config.encoder == "patch_mlp":
            self.encoder: nn.Module = PatchEncoder(values, config.encoder_transformer.dim, config.code_dim)
        else:
            self.encoder = TransformerEncoder(config, values, grid, video.num_frames)
        if config.quantizer == "fsq":
            self.quantizer: FiniteScalarQuantizer | VectorQuantizer = FiniteScalarQuantizer(
                config.fsq_levels, config.code_dim
            )
        else:
            self.quantizer = VectorQuantizer(config.codebook_size, config.code_dim, config.commitment_weight)
        dim = config.decoder_transformer.dim
        self.embed = nn.Linear(config.code_dim, dim)
        self.transformer = STTransformer(config.decoder_transformer, grid, video.num_frames)
        self.head = (
            ConvHead(dim, patch, grid)
            if config.decoder_head == "conv"
            else LinearHead(dim, patch, video.height)
        )

    def encode(self, video_BTYXC: Tensor) -> Tensor:
        """Tokens (B,T,N) int64 of a video in [0, 1]."""
        return self.quantizer(self.encoder(patchify(video_BTYXC, self.config.patch_size))).codes

    def decode(self, tokens_BTN: Tensor, cache: TemporalCache | None = None, commit: bool = False) -> Tensor:
        """Video (B,T,Y,X,3) in [0, 1]; with `cache` the tokens are the frames after those in the cache."""
        return self._decode(self.quantizer.lookup(tokens_BTN), cache, commit)

    def _decode(
        self, vectors_BTNK: Tensor, cache: TemporalCache | None = None, commit: bool = False
    ) -> Tensor:
        x_BTND = self.transformer(self.embed(vectors_BTNK), cache=cache, commit=commit)
        return torch.sigmoid(self.head(x_BTND).float())

    def forward(self, video_BTYXC: Tensor) -> dict[str, Tensor]:
        """Training pass: `loss` (scalar), `reconstruction` (B,T,Y,X,3), `codes` (B,T,N)."""
        quantized = self.quantizer(self.encoder(patchify(video_BTYXC, self.config.patch_size)))
        reconstruction = self._decode(quantized.vectors)
        weights = frame_change_weights(video_BTYXC, self.config.change_weight)
        pixel_loss = (weights * F.mse_loss(reconstruction, video_BTYXC, reduction="none")).mean()
        return {
            "loss": pixel_loss + quantized.loss,
            "reconstruction": reconstruction,
            "codes": quantized.codes,
        }
