"""Video tokenizer: a causal VQ-VAE of video (Genie, section 2.1).

The configuration chooses the architecture. Transformers, by `encoder_transformer.attention` and
`decoder_transformer.attention`: ST-ViViT ("space_time", the paper's choice), ViT ("space"), C-ViViT ("full").
Causal 3-D convolutions: encoder and decoder "causal_conv" (MAGVIT-2).
Shapes: B batch, T frames, Y X pixels, C channels, N tokens per frame, D width. Video is float in [0, 1].
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import TokenizerConfig, VideoConfig
from genie_robot.models.causal_conv_tokenizer import CausalConvDecoder, CausalConvEncoder
from genie_robot.models.losses import frame_change_weights
from genie_robot.nn.cache import TemporalCache
from genie_robot.nn.causal_conv import ConvCache
from genie_robot.nn.flops import product_flops
from genie_robot.nn.patch import patchify, unpatchify
from genie_robot.nn.quantize import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from genie_robot.nn.st_transformer import STTransformer


class PatchEncoder(nn.Module):
    """An MLP on each patch alone: a token changes only where pixels change, which the dynamics needs."""

    def __init__(self, config: TokenizerConfig, video: VideoConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        self.num_tokens = math.prod(_grid(config, video))
        hidden = 2 * config.encoder_transformer.dim
        self.layers = nn.Sequential(
            nn.Linear(self.patch**2 * 3, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, config.code_dim),
        )

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,3) in [0, 1] -> (B,T,N,K)."""
        return self.layers(2 * patchify(video_BTYXC, self.patch) - 1)

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2."""
        tokens = frames * self.num_tokens
        return sum(product_flops(layer, tokens) for layer in self.layers if isinstance(layer, nn.Linear))


class TransformerEncoder(nn.Module):
    """Patches mixed in space and, causally, in time."""

    def __init__(self, config: TokenizerConfig, video: VideoConfig) -> None:
        super().__init__()
        self.patch = config.patch_size
        grid, dim = _grid(config, video), config.encoder_transformer.dim
        self.num_tokens = math.prod(grid)
        self.embed = nn.Linear(self.patch**2 * 3, dim)
        self.transformer = STTransformer(config.encoder_transformer, grid, video.num_frames)
        self.project = nn.Linear(dim, config.code_dim)

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """(B,T,Y,X,3) in [0, 1] -> (B,T,N,K)."""
        return self.project(self.transformer(self.embed(patchify(video_BTYXC, self.patch))))

    def flops(self, frames: int) -> int:
        """Multiply-adds x 2."""
        tokens = frames * self.num_tokens
        ends = product_flops(self.embed, tokens) + product_flops(self.project, tokens)
        return ends + self.transformer.flops(frames)


class LinearHead(nn.Module):
    """Token -> its own patch."""

    def __init__(self, dim: int, patch: int, height: int) -> None:
        super().__init__()
        self.patch, self.height = patch, height
        self.project = nn.Linear(dim, patch * patch * 3)

    def forward(self, x_BTND: Tensor) -> Tensor:
        """(B,T,N,D) -> logits (B,T,Y,X,3)."""
        return unpatchify(self.project(x_BTND), self.patch, self.height)

    def flops(self, tokens: int) -> int:
        """Multiply-adds x 2 of `tokens` tokens, those of all frames together."""
        return product_flops(self.project, tokens)


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

    def flops(self, tokens: int) -> int:
        """Multiply-adds x 2 of `tokens` tokens, those of all frames together."""
        total, pixels = 0, tokens
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                total += product_flops(layer, pixels)
            elif isinstance(layer, nn.PixelShuffle):
                pixels *= layer.upscale_factor**2
        return total


class VideoTokenizer(nn.Module):
    """Frames <-> `N` codes a frame. Encoder and decoder are causal in time."""

    def __init__(self, config: TokenizerConfig, video: VideoConfig) -> None:
        super().__init__()
        self.config, self.video = config, video
        grid, dim = _grid(config, video), config.decoder_transformer.dim
        self.num_tokens = math.prod(grid)
        self.encoder = _ENCODERS[config.encoder](config, video)
        self.quantizer = _quantizer(config)
        # The transformer decoder has no module of its own: published weights name its parts without one.
        self.conv_decoder = CausalConvDecoder(config, video) if config.decoder == "causal_conv" else None
        if self.conv_decoder is None:
            self.embed = nn.Linear(config.code_dim, dim)
            self.transformer = STTransformer(config.decoder_transformer, grid, video.num_frames)
            self.head = (
                ConvHead(dim, config.patch_size, grid)
                if config.decoder_head == "conv"
                else LinearHead(dim, config.patch_size, video.height)
            )

    def new_cache(self) -> TemporalCache | ConvCache:
        """An empty cache for decoding a stream of frames."""
        return self.transformer.new_cache() if self.conv_decoder is None else ConvCache()

    def encode(self, video_BTYXC: Tensor) -> Tensor:
        """Tokens (B,T,N) int64 of a video in [0, 1]."""
        return self.quantizer(self.encoder(video_BTYXC)).codes

    def decode(
        self, tokens_BTN: Tensor, cache: TemporalCache | ConvCache | None = None, commit: bool = False
    ) -> Tensor:
        """Video (B,T,Y,X,3) in [0, 1].

        With a `cache` (of `new_cache`) the tokens are the frames after those in it; `commit` adds them to it.
        """
        return self._decode(self.quantizer.lookup(tokens_BTN), cache, commit)

    def _decode(
        self, vectors_BTNK: Tensor, cache: TemporalCache | ConvCache | None = None, commit: bool = False
    ) -> Tensor:
        if self.conv_decoder is not None:
            assert not isinstance(cache, TemporalCache)
            logits = self.conv_decoder(vectors_BTNK, cache, commit)
        else:
            assert not isinstance(cache, ConvCache)
            logits = self.head(self.transformer(self.embed(vectors_BTNK), cache=cache, commit=commit))
        return torch.sigmoid(logits.float())

    def forward(self, video_BTYXC: Tensor) -> dict[str, Tensor]:
        """Training pass: `loss` (scalar), `reconstruction` (B,T,Y,X,3), `codes` (B,T,N)."""
        quantized = self.quantizer(self.encoder(video_BTYXC))
        reconstruction = self._decode(quantized.vectors)
        weights = frame_change_weights(video_BTYXC, self.config.change_weight)
        pixel_loss = (weights * F.mse_loss(reconstruction, video_BTYXC, reduction="none")).mean()
        return {
            "loss": pixel_loss + quantized.loss,
            "reconstruction": reconstruction,
            "codes": quantized.codes,
        }

    def encode_flops(self, frames: int) -> int:
        """Multiply-adds x 2 of encoding one clip of `frames` frames."""
        return self.encoder.flops(frames) + self.quantizer.flops(frames * self.num_tokens)

    def decode_flops(self, frames: int, past: int = 0) -> int:
        """Multiply-adds x 2 of decoding `frames` frames of one clip after `past` cached ones."""
        lookup = self.quantizer.lookup_flops(frames * self.num_tokens)
        return lookup + self._decoder_flops(frames, past)

    def training_flops(self, frames: int) -> int:
        """Multiply-adds x 2 of one training step of one clip: a backward pass costs two forward passes."""
        return 3 * (self.encode_flops(frames) + self._decoder_flops(frames))

    def _decoder_flops(self, frames: int, past: int = 0) -> int:
        if self.conv_decoder is not None:
            return self.conv_decoder.flops(frames)
        tokens = frames * self.num_tokens
        ends = product_flops(self.embed, tokens) + self.head.flops(tokens)
        return ends + self.transformer.flops(frames, past)


def _grid(config: TokenizerConfig, video: VideoConfig) -> tuple[int, int]:
    """Rows and columns of tokens."""
    return video.height // config.patch_size, video.width // config.patch_size


_ENCODERS = {
    "patch_mlp": PatchEncoder,
    "st_transformer": TransformerEncoder,
    "causal_conv": CausalConvEncoder,
}


def _quantizer(
    config: TokenizerConfig,
) -> VectorQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer:
    size, width = config.codebook_size, config.code_dim
    if config.quantizer == "fsq":
        return FiniteScalarQuantizer(config.fsq_levels, width)
    if config.quantizer == "lfq":
        bits = size.bit_length() - 1
        return LookupFreeQuantizer(bits, width, config.commitment_weight, config.entropy_weight)
    return VectorQuantizer(size, width, config.commitment_weight)
