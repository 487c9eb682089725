"""Tokenizers of every architecture and quantizer: they learn, and cost what they say."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genie_robot.cli._compose import compose
from genie_robot.models.tokenizer import VideoTokenizer
from genie_robot.nn.quantize import FiniteScalarQuantizer, LookupFreeQuantizer, VectorQuantizer
from tests.invariants.test_tokenizers import ARCHITECTURES, CODES, NUM_TOKENS, VIDEO, make

FRAMES = VIDEO.num_frames


def clip(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, FRAMES, VIDEO.height, VIDEO.width, 3)


@pytest.mark.parametrize("quantizer", ["vq", "fsq", "lfq"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_flops_are_those_that_torch_counts(architecture: str, quantizer: str) -> None:
    tokenizer, video = make(architecture, quantizer), clip()
    tokens = torch.randint(CODES, (1, FRAMES, NUM_TOKENS))

    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as encoding, torch.no_grad():
            tokenizer.encode(video)
        with FlopCounterMode(display=False) as decoding, torch.no_grad():
            tokenizer.decode(tokens)
        cache = tokenizer.new_cache()
        tokenizer.decode(tokens[:, :2], cache, commit=True)
        with FlopCounterMode(display=False) as streaming, torch.no_grad():
            tokenizer.decode(tokens[:, 2:4], cache)
        with FlopCounterMode(display=False) as training:
            tokenizer(video)["loss"].backward()
    assert tokenizer.encode_flops(FRAMES) == encoding.get_total_flops() > 0
    assert tokenizer.decode_flops(FRAMES) == decoding.get_total_flops() > 0
    assert tokenizer.decode_flops(2, past=2) == streaming.get_total_flops() > 0
    # The first layer needs no gradient of the video, and VQ's distances none at all: slightly under 3 passes.
    # But torch counts the gradient of a depthwise convolution as if it were a dense one.
    assert 0.85 < training.get_total_flops() / tokenizer.training_flops(FRAMES) < 1.001


@pytest.mark.parametrize("quantizer", ["vq", "fsq", "lfq"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_learns(architecture: str, quantizer: str) -> None:
    tokenizer = make(architecture, quantizer)
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    out = tokenizer(clip(2))
    out["loss"].backward()
    assert out["reconstruction"].shape == (2, FRAMES, VIDEO.height, VIDEO.width, 3)
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("architecture", ["st_vivit", "c_vivit", "vit", "magvit2"])
def test_a_moving_square_is_learnt(architecture: str) -> None:
    torch.manual_seed(0)
    tokenizer = make(architecture, "fsq")
    video = torch.zeros(4, FRAMES, VIDEO.height, VIDEO.width, 3)
    for row in range(4):
        for t in range(FRAMES):
            video[row, t, row : row + 3, 2 * t : 2 * t + 4] = torch.tensor([1.0, 0.5, 0.2])
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=5e-3)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = tokenizer(video)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0], losses[::20]


def test_the_quantizer_is_the_one_asked_for() -> None:
    assert isinstance(make("vit", "vq").quantizer, VectorQuantizer)
    assert isinstance(make("vit", "fsq").quantizer, FiniteScalarQuantizer)
    quantizer = make("vit", "lfq", commitment_weight=0.3, entropy_weight=0.7).quantizer
    assert isinstance(quantizer, LookupFreeQuantizer)
    assert (quantizer.bits, quantizer.commitment_weight, quantizer.entropy_weight) == (6, 0.3, 0.7)


def test_the_loss_is_pixels_plus_quantizer() -> None:
    tokenizer, video = make("st_vivit", "vq", change_weight=3.0).eval(), clip()
    out = tokenizer(video)
    quantizer_loss = tokenizer.quantizer(tokenizer.encoder(video)).loss
    changed = (video[:, 1:] - video[:, :-1]).abs().amax(-1) > 0.04
    changed = torch.cat([changed[:, :1], changed], 1)
    weights = torch.where(changed, 4.0, 1.0)[..., None]
    weights = weights / weights.mean(dim=(2, 3), keepdim=True)
    pixels = (weights * (out["reconstruction"] - video).square()).mean()
    torch.testing.assert_close(out["loss"], pixels + quantizer_loss)


def test_gradients_in_bf16_are_finite_at_the_size_of_the_preset() -> None:
    """oneDNN gave NaN for the last convolution of the MAGVIT-2 decoder."""
    config = compose(["model=tiny", "tokenizer=magvit2"]).model
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config.tokenizer, config.video)
    with torch.autocast("cpu", torch.bfloat16):
        loss = tokenizer(torch.rand(2, 4, 64, 64, 3))["loss"]
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tokenizer.parameters())
