"""Latent action model: which action leads from frame t to frame t+1, found without labels (Genie, section 2.1).

The encoder sees both frames, the decoder only the past and the action, so the action must say what changed.
Shapes: B batch, T frames, S = T - 1 steps, Y X pixels, C channels, N tokens per frame, K action width, A actions.
A clip is float video (B,T,Y,X,C) in [0, 1], or tokens (B,T,N) int64 with `input` "tokens".
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import LatentActionConfig, TokenizerConfig, VideoConfig
from genie_robot.errors import ConfigError
from genie_robot.models.action_convolutions import (
    STRIDE,
    ConvActionEncoder,
    ConvFrameDecoder,
    ConvTokenActionEncoder,
    ConvTokenFrameDecoder,
)
from genie_robot.models.action_transformers import (
    Frames,
    PixelFrames,
    TokenFrames,
    TransformerActionEncoder,
    TransformerFrameDecoder,
)
from genie_robot.models.losses import change_weights
from genie_robot.nn.quantize import GaussianBottleneck, ResidualVectorQuantizer, VectorQuantizer, code_digits

VARIANCE_TARGET = 0.01  # of TinyWorlds

Encoder = ConvActionEncoder | ConvTokenActionEncoder | TransformerActionEncoder
Decoder = ConvFrameDecoder | ConvTokenFrameDecoder | TransformerFrameDecoder
Quantizer = VectorQuantizer | ResidualVectorQuantizer | GaussianBottleneck


class LatentActionModel(nn.Module):
    """Discovers actions from video alone. Only the encoder and the quantizer are used afterwards.

    An action is a code (B,S) int64, or with the quantizer "gaussian" a vector (B,S,K).
    """

    def __init__(self, config: LatentActionConfig, video: VideoConfig, tokens: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        _check(config, video)
        self.encoder, self.decoder = _networks(config, video, tokens)
        self.quantizer = _quantizer(config)
        self.label_head = nn.Linear(config.code_dim, config.label_dim) if config.label_weight else None

    def infer(self, clip: Tensor) -> tuple[Tensor, Tensor | None]:
        """Codes (B,S) and probabilities (B,S,A) of all codes; or continuous actions (B,S,K) and None."""
        outputs_BSK, quantizer = self.encoder(clip), self.quantizer
        if isinstance(quantizer, GaussianBottleneck):
            return quantizer(outputs_BSK).vectors, None
        return quantizer(outputs_BSK).codes, quantizer.probabilities(outputs_BSK)

    def vectors(self, clip: Tensor) -> Tensor:
        """Continuous actions (B,S,K): what is quantized, on the unit sphere; with the quantizer "gaussian" their mean."""
        outputs_BSK = self.encoder(clip)[..., : self.config.code_dim]
        return outputs_BSK if self.config.is_continuous else F.normalize(outputs_BSK, dim=-1)

    def soft_actions(self, clip: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Actions that pass a gradient on to the encoder, for a dynamics model that trains it (Jasmine).

        One-hots of all codebooks side by side, (B,S,num_codebooks * codes), with the gradient of the probabilities;
        or continuous actions (B,S,K), sampled in training (one generator a clip).
        """
        outputs_BSK = self.encoder(clip)
        quantized = self.quantizer(outputs_BSK, generators)
        if isinstance(self.quantizer, GaussianBottleneck):
            return quantized.vectors
        if isinstance(self.quantizer, ResidualVectorQuantizer):
            soft = self.quantizer.level_probabilities(outputs_BSK).flatten(-2)
        else:
            soft = self.quantizer.probabilities(outputs_BSK)
        digits = code_digits(quantized.codes, self.config.num_actions, self.config.num_codebooks)
        hard = F.one_hot(digits, self.config.num_actions).flatten(-2).to(soft.dtype)
        return hard + (soft - soft.detach())

    def predict(self, past: Tensor, actions: Tensor) -> Tensor:
        """The decoder's next frames for given actions: a blurry look at what each of them means.

        (B,S,Y,X,C) and actions as `infer` gives them -> (B,S,Y,X,C); or tokens (B,S,N) -> likeliest tokens (B,S,N).
        """
        if not isinstance(self.quantizer, GaussianBottleneck):
            actions = self.quantizer.lookup(actions)
        return self._shown(self.decoder(past, actions))

    def _shown(self, decoded: Tensor) -> Tensor:
        return decoded.argmax(-1) if self.config.input == "tokens" else decoded

    def forward(
        self,
        clip: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Training pass: `loss`, `reconstruction` of frames 1..T-1 (as `predict` shows them), `actions` (as `infer`).

        `generators`: one a clip, the noise of the quantizer "gaussian". `labels`: robot actions (B,S,label_dim), NaN
        where a step has none: such a step counts as no error. All terms are means over steps, so that parts of a
        batch combine to the whole.
        """
        past, future = clip[:, :-1], clip[:, 1:]
        outputs_BSK = self.encoder(clip)
        quantized = self.quantizer(outputs_BSK, generators)
        decoded = self.decoder(past, quantized.vectors)
        loss = self._prediction_loss(decoded, future, past) + quantized.loss
        if self.config.variance_weight:
            values = outputs_BSK[..., : self.config.code_dim].float()
            variance = values.flatten(0, 1).var(0, unbiased=False).mean()
            loss = loss + self.config.variance_weight * F.relu(VARIANCE_TARGET - variance)
        if self.label_head is not None:
            label_loss = _label_loss(self.label_head(quantized.vectors), labels)
            loss = loss + self.config.label_weight * label_loss
        actions = quantized.vectors if quantized.codes is None else quantized.codes
        return {"loss": loss, "reconstruction": self._shown(decoded), "actions": actions}

    def _prediction_loss(self, decoded: Tensor, future: Tensor, past: Tensor) -> Tensor:
        """Squared error of pixels, or cross-entropy of tokens.

        What changed weighs `1 + change_weight`; then the weights of each frame are brought to mean 1.
        """
        if self.config.input == "pixels":
            weights = change_weights(future, past, self.config.change_weight)
            return (weights * F.mse_loss(decoded, future, reduction="none")).mean()
        weights_BSN = 1 + self.config.change_weight * (future != past)
        weights_BSN = weights_BSN / weights_BSN.mean(-1, dtype=torch.float32, keepdim=True)
        loss_BSN = F.cross_entropy(decoded.float().movedim(-1, 1), future, reduction="none")
        return (weights_BSN * loss_BSN).mean()

    def infer_flops(self, frames: int) -> int:
        """Multiply-adds times 2 of `infer` on one clip; norms, activations and lookups left out."""
        return self.encoder.flops(frames) + 2 * self._quantizer_flops(frames - 1)  # codes, probabilities

    def training_flops(self, frames: int) -> int:
        """Forward and backward pass of one clip (backward: twice the forward pass; none through the choice of codes)."""
        networks = self.encoder.flops(frames) + self.decoder.flops(frames - 1)
        labels = 0 if self.label_head is None else 2 * (frames - 1) * self.label_head.weight.numel()
        return 3 * (networks + labels) + self._quantizer_flops(frames - 1)

    def _quantizer_flops(self, steps: int) -> int:
        return 0 if isinstance(self.quantizer, GaussianBottleneck) else self.quantizer.flops(steps)


def _label_loss(predicted_BSL: Tensor, labels_BSL: Tensor | None) -> Tensor:
    if labels_BSL is None:
        return 0 * predicted_BSL.sum()  # processes wait for a gradient of every weight
    known_BS = ~labels_BSL.isnan().any(-1)
    error_BS = (predicted_BSL - labels_BSL.nan_to_num()).square().mean(-1)
    return (error_BS * known_BS).mean()


def _check(config: LatentActionConfig, video: VideoConfig) -> None:
    """Refuse what the networks cannot do."""
    is_uneven = video.height % STRIDE or video.width % STRIDE
    if config.encoder == "conv" and config.input == "pixels" and is_uneven:
        raise ConfigError(
            f"video: got {video.height}x{video.width}, wanted multiples of {STRIDE} for latent_action.encoder=conv; "
            "choose such a size (frames of any size are resized to it)"
        )
    for name in ("encoder_transformer", "decoder_transformer"):
        if config.encoder == "st_transformer" and getattr(config, name).attention == "space":
            raise ConfigError(
                f"latent_action.{name}.attention: got 'space', wanted space_time or full "
                "(an action is what changes from frame to frame)"
            )


def _networks(
    config: LatentActionConfig, video: VideoConfig, tokens: TokenizerConfig
) -> tuple[Encoder, Decoder]:
    outputs = config.code_dim * (2 if config.is_continuous else 1)  # gaussian: mean and log variance
    height, width = video.height, video.width
    grid, num_codes = (height // tokens.patch_size, width // tokens.patch_size), tokens.codebook_size
    if config.encoder == "conv" and config.input == "pixels":
        return ConvActionEncoder(config, height, width, outputs), ConvFrameDecoder(config, height, width)
    if config.encoder == "conv":
        return (
            ConvTokenActionEncoder(config, grid, num_codes, outputs),
            ConvTokenFrameDecoder(config, grid, num_codes),
        )
    frames: Frames = TokenFrames(grid, num_codes)
    if config.input == "pixels":
        frames = PixelFrames(height, width, config.patch_size)
    return (
        TransformerActionEncoder(config, frames, video.num_frames, outputs),
        TransformerFrameDecoder(config, frames, video.num_frames),
    )


def _quantizer(config: LatentActionConfig) -> Quantizer:
    codes, dim, commitment, reset = (
        config.num_actions,
        config.code_dim,
        config.commitment_weight,
        config.reset_share,
    )
    if config.quantizer == "gaussian":
        return GaussianBottleneck(dim, config.kl_weight)
    if config.quantizer == "rvq":
        return ResidualVectorQuantizer(codes, config.num_codebooks, dim, commitment, reset)
    return VectorQuantizer(codes, dim, commitment, reset)
