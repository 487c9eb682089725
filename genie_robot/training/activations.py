"""How many bytes one training clip keeps for the backward pass: a formula, checked against torch in the tests.

With b bytes a number (2 in bf16, 4 in fp32), width D, FFN ratio r, A attentions (2 in a space_time block, else 1), one
token in one block keeps, on a GPU with fused kernels and without compilation:

    norms            (A + 1) 4 D    their input: the residual stream, always fp32; adaLN keeps their output, too
    linear layers    (A + 1) b D    the input of qkv and of the FFN
    attention        A 8 b D        q, k, v as computed; q, k normalised; v in order; the output, twice
    FFN              2 r b D        between its two layers, before and after the square
    local_conv       b D            its input

"selective" recomputation keeps the input of each block and the results of matrix products and attention,
4 D + b D (5 A + r + 1); "full" the input alone, 4 D. Both need one whole block more while it is computed again.
To a stack come its ends: what embeds the input, what reads the output, the loss. attention=full adds its mask of all
tokens by all tokens, in each block and once for all clips. Left out: perceptual network and discriminator; and what small
codebooks and masks take. On a CPU each attention keeps 2 b D more, because RMS norm is not fused there.

Frames F, tokens a frame N, rows = F N, patch values P.
"""

from __future__ import annotations

from dataclasses import dataclass

from genie_robot.config import TokenizerConfig, TransformerConfig, WorldModelConfig

STREAM = 4  # bytes a number of the residual stream, of norms and of losses
_PIXEL_LOSS = 40  # bytes a pixel: reconstruction, target and error of 3 channels, one weight


@dataclass(frozen=True)
class Activations:
    """Bytes kept from forward to backward and, besides, while one part is worked on, of each clip; those of all clips."""

    kept: int
    working: int = 0
    shared: int = 0

    def __add__(self, other: Activations) -> Activations:
        return Activations(
            self.kept + other.kept, max(self.working, other.working), self.shared + other.shared
        )

    def of(self, clips: int) -> int:
        """Peak of a micro-batch."""
        return clips * (self.kept + self.working) + self.shared


def block_bytes(config: TransformerConfig, number: int, conditioned: bool = False) -> int:
    """Bytes that one token keeps in one block without recomputation; `number` is b."""
    dim, attentions = config.dim, 1 + (config.attention == "space_time")
    norms = (attentions + 1) * STREAM * dim * (1 + conditioned)
    linear = (attentions + 1) * number * dim
    ffn = 2 * int(config.ffn_ratio * dim) * number
    return norms + linear + attentions * 8 * number * dim + ffn + config.local_conv * number * dim


def stack_activations(
    config: TransformerConfig,
    frames: int,
    num_tokens: int,
    number: int,
    recompute: str,
    conditioned: bool = False,
) -> Activations:
    """Of the blocks and the last norm of one STTransformer on `frames` frames of `num_tokens` tokens."""
    rows, dim = frames * num_tokens, config.dim
    block = block_bytes(config, number, conditioned)
    products = 5 * (1 + (config.attention == "space_time")) + config.ffn_ratio + 1
    a_block = {"none": block, "selective": STREAM * dim + int(products * dim) * number, "full": STREAM * dim}[
        recompute
    ]
    kept = rows * (config.num_layers * a_block + STREAM * dim)
    # The mask as it is, and as each kernel call adds it to the scores.
    masks = 1 + number * (config.num_layers if recompute == "none" else 1)
    shared = masks * rows**2 if config.attention == "full" else 0
    return Activations(kept, 0 if recompute == "none" else rows * block, shared)


def clip_activations(
    config: WorldModelConfig, network: str, frames: int, number: int, recompute: str
) -> Activations:
    """Of one clip of `frames` frames through one network (tokenizer, latent_action or dynamics) and its loss."""
    if network == "tokenizer":
        return _tokenizer(config, frames, number, recompute)
    if network == "latent_action":
        return _latent_action(config, frames, number, recompute)
    return _dynamics(config, frames, number, recompute)


def _dynamics(config: WorldModelConfig, frames: int, number: int, recompute: str) -> Activations:
    dynamics, tokens = config.dynamics, config.tokens_per_frame
    through = 2 * (frames - 1) if dynamics.history == "clean" else frames
    stack = stack_activations(
        dynamics.transformer,
        through,
        tokens + (dynamics.action_mode == "prepend"),
        number,
        recompute,
        dynamics.action_mode == "adaln",
    )
    rows = (frames - 1) * tokens
    return stack + _token_loss(rows, dynamics.transformer.dim, config.tokenizer.codebook_size, number)


def _token_loss(rows: int, dim: int, codebook_size: int, number: int) -> Activations:
    """Head and cross-entropy: the head's input and log-probabilities stay; logits and their gradient come and go."""
    return Activations(rows * (number * dim + STREAM * codebook_size), 2 * rows * STREAM * codebook_size)


def _tokenizer(config: WorldModelConfig, frames: int, number: int, recompute: str) -> Activations:
    tokenizer, tokens = config.tokenizer, config.tokens_per_frame
    rows = frames * tokens
    pixels = rows * tokenizer.patch_size**2
    # The quantizer keeps a handful of its vectors.
    total = Activations(pixels * _PIXEL_LOSS + rows * 5 * STREAM * tokenizer.code_dim)
    if tokenizer.encoder == "st_transformer":
        stack = tokenizer.encoder_transformer
        total += stack_activations(stack, frames, tokens, number, recompute)
        total += Activations(rows * number * (3 * tokenizer.patch_size**2 + stack.dim))
    elif tokenizer.encoder == "patch_mlp":  # a linear layer keeps its input, a GELU its own
        total += Activations(
            rows * number * (3 * tokenizer.patch_size**2 + 8 * tokenizer.encoder_transformer.dim)
        )
    else:
        total += Activations(pixels * _causal_conv_bytes(tokenizer, frames, number))
    if tokenizer.decoder == "causal_conv":
        return total + Activations(pixels * _causal_conv_bytes(tokenizer, frames, number))
    stack = tokenizer.decoder_transformer
    total += stack_activations(stack, frames, tokens, number, recompute)
    return total + Activations(rows * number * _head_numbers(tokenizer))


def _head_numbers(tokenizer: TokenizerConfig) -> int:
    """Numbers a token that the head keeps: the input of each layer."""
    width, patch, places, total = tokenizer.decoder_transformer.dim, tokenizer.patch_size, 1, 0
    if tokenizer.decoder_head == "linear":
        return width
    while patch > 1:
        total += width * places
        width, patch, places = max(width // 2, 24), patch // 2, 4 * places
    return total + width * places


def _causal_conv_bytes(tokenizer: TokenizerConfig, frames: int, number: int) -> int:
    """Bytes a pixel of the encoder, or decoder: each norm and SiLU keep fp32, each convolution two frames more than it gives."""
    level, share, patch, total = 0, 1.0, tokenizer.patch_size, 0.0
    convolution = number * (frames + 2) / frames
    while True:
        channels = tokenizer.conv_channels * min(2**level, 4)
        total += share * channels * (2 * tokenizer.conv_blocks * (2 * STREAM + convolution) + convolution)
        if patch == 1:
            return round(total)
        level, share, patch = level + 1, share / 4, patch // 2


def _latent_action(config: WorldModelConfig, frames: int, number: int, recompute: str) -> Activations:
    action, steps, on_tokens = config.latent_action, frames - 1, config.latent_action.input == "tokens"
    pixels = config.video.height * config.video.width
    tokens = config.tokens_per_frame if on_tokens else pixels // action.patch_size**2
    encoder, decoder = action.encoder_transformer, action.decoder_transformer
    loss = Activations(steps * pixels * _PIXEL_LOSS)
    if on_tokens:
        width = 4 * action.conv_channels if action.encoder == "conv" else decoder.dim
        loss = _token_loss(steps * tokens, width, config.tokenizer.codebook_size, number)
    if action.encoder == "conv":
        # Maps that are kept, as numbers a pixel or token: inputs of convolutions, FiLM's products and ReLUs, the maximum.
        channels = action.conv_channels
        numbers = 35 * channels * tokens if on_tokens else _pixel_maps(channels) * pixels
        return loss + Activations(round(steps * numbers * number))
    values = 0 if on_tokens else 3 * action.patch_size**2
    ends = frames * tokens * values + steps * tokens * (values + decoder.dim)
    loss += stack_activations(encoder, frames, tokens + 1, number, recompute)
    loss += stack_activations(decoder, steps, tokens, number, recompute)
    return loss + Activations(ends * number)


def _pixel_maps(channels: int) -> float:
    """Numbers a pixel that the convolutional networks on pixels keep, at full, half, quarter and eighth resolution."""
    encoder = 6 + channels / 4 + 2 * channels / 16 + (2 + 4) * channels / 64
    decoder = 3 + (1 + 2) * channels / 4 + (2 + 4 + 4) * channels / 16 + (6 * 4 + 8) * channels / 64
    return encoder + decoder
