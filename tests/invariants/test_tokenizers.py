"""Every tokenizer, of any architecture and quantizer, is causal and decodes a stream as it decodes a clip."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from genie_robot.config import TokenizerConfig, TransformerConfig, VideoConfig
from genie_robot.models.tokenizer import VideoTokenizer

VIDEO = VideoConfig(8, 16, 5)
NUM_TOKENS, CODES = 8, 64
ARCHITECTURES = {  # encoder, its attention, decoder, its attention, head of a transformer
    "st_vivit": ("st_transformer", "space_time", "st_transformer", "space_time", "linear"),
    "vit": ("st_transformer", "space", "st_transformer", "space", "linear"),
    "c_vivit": ("st_transformer", "full", "st_transformer", "full", "linear"),
    "tiny": ("patch_mlp", "space_time", "st_transformer", "space_time", "conv"),
    "magvit2": ("causal_conv", "space_time", "causal_conv", "space_time", "linear"),
    "conv_to_transformer": ("causal_conv", "space_time", "st_transformer", "full", "conv"),
    "transformer_to_conv": ("st_transformer", "space", "causal_conv", "space_time", "linear"),
}
MIXES_TIME_IN_ENCODER = ("st_vivit", "c_vivit", "magvit2", "conv_to_transformer")
MIXES_TIME_IN_DECODER = (
    "st_vivit",
    "c_vivit",
    "tiny",
    "magvit2",
    "conv_to_transformer",
    "transformer_to_conv",
)


def make(architecture: str, quantizer: str = "vq", **options: Any) -> VideoTokenizer:
    encoder, encoder_attention, decoder, decoder_attention, head = ARCHITECTURES[architecture]

    def stack(attention: str, local_conv: bool) -> TransformerConfig:
        return TransformerConfig(2, 8, 2, local_conv=local_conv, attention=attention)

    config = TokenizerConfig(
        patch_size=4,
        encoder=encoder,
        encoder_transformer=stack(encoder_attention, False),
        decoder=decoder,
        decoder_transformer=stack(decoder_attention, head == "conv"),
        decoder_head=head,
        quantizer=quantizer,
        codebook_size=CODES,
        code_dim=6,
        fsq_levels=(4, 4, 4) if quantizer == "fsq" else (),
        conv_channels=4,
        conv_blocks=1,
        **options,
    )
    return VideoTokenizer(config, VIDEO)


@pytest.fixture(params=[(a, q) for a in ARCHITECTURES for q in ("vq", "fsq", "lfq")], ids="-".join)
def tokenizer(request: pytest.FixtureRequest) -> VideoTokenizer:
    """In float64, with random weights everywhere: zero-initialised projections would hide every leak."""
    result = make(*request.param).double().eval()
    with torch.no_grad():
        for parameter in result.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return result


def clip(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, VIDEO.num_frames, VIDEO.height, VIDEO.width, 3, dtype=torch.float64)


def test_tokens_depend_on_the_past_only(tokenizer: VideoTokenizer) -> None:
    first = clip()
    codes = tokenizer.encode(first)
    assert codes.shape == (2, VIDEO.num_frames, NUM_TOKENS)
    assert int(codes.min()) >= 0 and int(codes.max()) < CODES
    for changed in range(1, VIDEO.num_frames):
        second = first.clone()
        second[:, changed:] = torch.rand_like(second[:, changed:])
        other = tokenizer.encode(second)
        assert torch.equal(codes[:, :changed], other[:, :changed])
        assert not torch.equal(codes[:, changed], other[:, changed])


def test_pixels_depend_on_the_past_only(tokenizer: VideoTokenizer) -> None:
    tokens = torch.randint(CODES, (2, VIDEO.num_frames, NUM_TOKENS))
    video = tokenizer.decode(tokens)
    for changed in range(1, VIDEO.num_frames):
        mixed = tokens.clone()
        mixed[:, changed:] = (mixed[:, changed:] + 1) % CODES
        other = tokenizer.decode(mixed)
        torch.testing.assert_close(video[:, :changed], other[:, :changed], rtol=0, atol=1e-12)
        assert (video[:, changed] - other[:, changed]).abs().max() > 1e-4


def test_streamed_decoding_equals_decoding_at_once(tokenizer: VideoTokenizer) -> None:
    tokens = torch.randint(CODES, (2, VIDEO.num_frames, NUM_TOKENS))
    at_once = tokenizer.decode(tokens)
    cache, start = tokenizer.new_cache(), 0
    for frames in (1, 2, 1, 1):
        now = slice(start, start + frames)
        tokenizer.decode(
            torch.randint(CODES, (2, frames, NUM_TOKENS)), cache
        )  # without commit: leaves no trace
        streamed = tokenizer.decode(tokens[:, now], cache, commit=True)
        torch.testing.assert_close(streamed, at_once[:, now], rtol=0, atol=1e-11)
        start += frames
    assert cache.length == VIDEO.num_frames


def test_forked_streams_continue_from_the_same_past(tokenizer: VideoTokenizer) -> None:
    tokens = torch.randint(CODES, (2, VIDEO.num_frames, NUM_TOKENS))
    cache = tokenizer.new_cache()
    tokenizer.decode(tokens[:, :3], cache, commit=True)
    futures = tokens.repeat_interleave(2, 0)
    futures[:, 3:] = torch.randint(CODES, futures[:, 3:].shape)
    streamed = tokenizer.decode(futures[:, 3:], cache.fork(2), commit=True)
    torch.testing.assert_close(streamed, tokenizer.decode(futures)[:, 3:], rtol=0, atol=1e-11)
    assert cache.length == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_time_is_mixed_exactly_where_the_architecture_says(architecture: str) -> None:
    tokenizer = make(architecture, "fsq").double().eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    video = clip().requires_grad_()
    vectors = tokenizer.encoder(video)
    (gradient,) = torch.autograd.grad((vectors[:, 2] * torch.randn(6)).sum(), video)
    assert bool(gradient[:, 1].abs().max() > 0) == (architecture in MIXES_TIME_IN_ENCODER)
    tokens = torch.randint(CODES, (2, 3, NUM_TOKENS))
    past = tokens.clone()
    past[:, 1] = (past[:, 1] + 1) % CODES
    differs = (tokenizer.decode(tokens) - tokenizer.decode(past))[:, 2].abs().max() > 1e-6
    assert bool(differs) == (architecture in MIXES_TIME_IN_DECODER)
