"""The latent action model: what may reach the decoder, what the actions are, and each term of the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genie_robot.config import LatentActionConfig, TokenizerConfig, TransformerConfig, VideoConfig
from genie_robot.errors import ConfigError
from genie_robot.models.latent_action import LatentActionModel

STACK = TransformerConfig(num_layers=2, dim=16, num_heads=2)
VIDEO, TOKENS = VideoConfig(16, 24, 6, 5.0), TokenizerConfig(patch_size=4, codebook_size=24)
BASE = LatentActionConfig(
    num_actions=5,
    code_dim=6,
    patch_size=8,
    encoder_transformer=STACK,
    decoder_transformer=STACK,
    conv_channels=8,
)
QUANTIZERS = {
    "vq": {},
    "rvq": {"quantizer": "rvq", "num_codebooks": 2},
    "gaussian": {"quantizer": "gaussian"},
}


def build(**choices: Any) -> LatentActionModel:
    """In float64, all weights away from their start."""
    torch.manual_seed(0)
    model = LatentActionModel(replace(BASE, **choices), VIDEO, TOKENS).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def clips(model: LatentActionModel, batch: int = 2, frames: int = 5) -> Tensor:
    if model.config.input == "tokens":
        return torch.randint(24, (batch, frames, 24))
    return torch.rand(batch, frames, 16, 24, 3, dtype=torch.float64)


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


@pytest.fixture(params=["all", "first"])
def history(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["st_transformer", "conv"])
def encoder(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["pixels", "tokens"])
def source(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=list(QUANTIZERS))
def quantizer(request: pytest.FixtureRequest) -> dict[str, Any]:
    return QUANTIZERS[request.param]


def _cut_actions(model: LatentActionModel, vectors: Tensor | None = None) -> None:
    """From now on the decoder gets actions without gradient, or always the given ones."""

    def cut(_: nn.Module, __: Any, quantized: Any) -> Any:
        return quantized._replace(vectors=quantized.vectors.detach() if vectors is None else vectors)

    model.quantizer.register_forward_hook(cut)


def test_pixels_of_frame_t_plus_1_reach_its_prediction_through_the_action_alone(
    encoder: str, history: str, quantizer: dict[str, Any]
) -> None:
    model = build(encoder=encoder, decoder_history=history, **quantizer)
    clip = clips(model).requires_grad_(True)
    (through,) = torch.autograd.grad(model(clip)["reconstruction"][:, 2].sum(), clip)
    assert through[:, 3].abs().max() > 0
    _cut_actions(model)
    shown = model(clip)["reconstruction"]
    for t in range(4):
        (leak,) = torch.autograd.grad(shown[:, t].sum(), clip, retain_graph=True)
        seen = 0 if history == "first" else t
        assert leak[:, seen].abs().max() > 0
        assert leak[:, seen + 1 :].abs().max() == 0


def test_tokens_of_frame_t_plus_1_reach_its_prediction_through_the_action_alone(
    encoder: str, history: str, quantizer: dict[str, Any]
) -> None:
    model = build(encoder=encoder, input="tokens", decoder_history=history, **quantizer)
    seen: list[Tensor] = []

    def keep(_: Any, __: Any, logits: Tensor) -> None:
        seen.append(logits)

    model.decoder.register_forward_hook(keep)
    clip = clips(model)
    other = clip.clone()
    other[:, 3:] = (other[:, 3:] + 1) % 24
    assert not torch.equal(model.encoder(clip)[:, 2], model.encoder(other)[:, 2])
    _cut_actions(model, torch.randn(2, 4, 6, dtype=torch.float64))
    model(clip), model(other)
    torch.testing.assert_close(seen[0][:, :3], seen[1][:, :3], rtol=0, atol=1e-12)
    assert torch.equal(seen[0][:, 3], seen[1][:, 3]) == (history == "first")


def test_an_action_steers_its_own_step_and_none_before(encoder: str, source: str, history: str) -> None:
    model = build(encoder=encoder, input=source, decoder_history=history)
    past = clips(model)[:, :-1]
    actions = torch.randn(2, 4, 6, dtype=torch.float64)
    other = actions.clone()
    other[:, 2] += 1
    before, after = model.decoder(past, actions), model.decoder(past, other)
    torch.testing.assert_close(before[:, :2], after[:, :2], rtol=0, atol=1e-12)
    assert (before[:, 2] - after[:, 2]).abs().max() > 1e-6
    if history == "first":  # what has moved stays moved
        assert (before[:, 3] - after[:, 3]).abs().max() > 1e-6


def test_inferred_actions_and_what_they_predict(encoder: str, source: str, quantizer: dict[str, Any]) -> None:
    model = build(encoder=encoder, input=source, **quantizer)
    clip = clips(model)
    actions, probabilities = model.infer(clip)
    assert torch.equal(model(clip)["actions"], actions)
    assert torch.equal(model.predict(clip[:, :-1], actions), model(clip)["reconstruction"])
    assert model.predict(clip[:, :-1], actions).shape == clip[:, 1:].shape
    total = model.config.total_actions
    if probabilities is None:
        assert actions.shape == (2, 4, 6) and actions.dtype == torch.float64
    else:
        assert actions.shape == (2, 4) and actions.dtype == torch.int64
        assert actions.min() >= 0 and actions.max() < total
        assert probabilities.shape == (2, 4, total)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 4, dtype=torch.float64))
        assert torch.equal(probabilities.argmax(-1), actions)
    none, _ = model.infer(clip[:, :1])
    assert none.shape == (2, 0, *actions.shape[2:]) and none.dtype == actions.dtype


def test_soft_actions_say_the_code_and_pass_a_gradient_to_the_encoder(quantizer: dict[str, Any]) -> None:
    model = build(encoder="conv", **quantizer)
    clip = clips(model)
    soft, (actions, _) = model.soft_actions(clip), model.infer(clip)
    if model.config.is_continuous:
        assert torch.equal(soft, actions)
    else:
        digits = soft.unflatten(-1, (model.config.num_codebooks, 5))
        assert torch.equal(digits.sum(-1), torch.ones(2, 4, model.config.num_codebooks, dtype=torch.float64))
        weights = 5 ** torch.arange(model.config.num_codebooks)
        assert torch.equal((digits.argmax(-1) * weights).sum(-1), actions)
    (soft * torch.randn_like(soft)).sum().backward()
    gradient = next(model.encoder.parameters()).grad
    assert gradient is not None and gradient.abs().max() > 0


def test_gaussian_noise_is_the_clips_own() -> None:
    model = build(encoder="conv", quantizer="gaussian").train()
    clip = clips(model, batch=3)
    whole = model(clip, generators(3))["actions"]
    alone = model(clip[1:2], generators(1, seed=1))["actions"]
    torch.testing.assert_close(whole[1:2], alone, rtol=0, atol=1e-9)
    assert not torch.equal(whole, model(clip, generators(3, seed=5))["actions"])
    assert torch.equal(model.soft_actions(clip, generators(3)), whole)


def test_changed_tokens_weigh_more() -> None:
    model = build(encoder="conv", input="tokens", change_weight=3.0, commitment_weight=0.0)
    clip = clips(model)
    clip[:, 1:, :18] = clip[:, :1, :18]  # 6 of 24 tokens may change
    past, future = clip[:, :-1], clip[:, 1:]
    logits = model.decoder(past, model.quantizer(model.encoder(clip)).vectors).float()
    losses = F.cross_entropy(logits.flatten(0, 2), future.flatten(), reduction="none").view(future.shape)
    changed = future != past
    assert changed.any() and not changed.all()
    frames = []
    for b in range(2):
        for t in range(4):
            weights = torch.where(changed[b, t], 4.0, 1.0)
            frames.append((weights * losses[b, t]).sum() / weights.sum())
    wanted = torch.stack(frames).mean() + model.quantizer(model.encoder(clip)).loss
    torch.testing.assert_close(model(clip)["loss"], wanted.to(model(clip)["loss"].dtype), rtol=1e-6, atol=0)


def test_the_hinge_pulls_equal_outputs_apart_and_leaves_others_alone() -> None:
    plain, hinged = build(encoder="conv"), build(encoder="conv", variance_weight=100.0)
    clip = clips(plain)
    assert plain.encoder(clip).flatten(0, 1).var(0, unbiased=False).mean() > 0.01
    torch.testing.assert_close(plain(clip)["loss"], hinged(clip)["loss"])
    same = clip[:, :1].expand(-1, 5, -1, -1, -1)[:1]  # nothing moves: one output for all steps
    torch.testing.assert_close(hinged(same)["loss"] - plain(same)["loss"], torch.tensor(1.0).double())


def test_labels_teach_where_they_are_known() -> None:
    model = build(encoder="conv", label_weight=2.0, label_dim=3)
    clip, labels = clips(model), torch.randn(2, 4, 3, dtype=torch.float64)
    unlabelled = model(clip)["loss"]
    assert torch.equal(model(clip, labels=torch.full_like(labels, torch.nan))["loss"], unlabelled)
    labels[0] = torch.nan
    labels[1, 2, 1] = torch.nan  # half a label is none
    assert model.label_head is not None
    guess = model.label_head(model.quantizer(model.encoder(clip)).vectors)
    wanted = (guess - labels)[1, [0, 1, 3]].square().mean() * 3 / 8  # 3 of 8 steps: a mean over all of them
    torch.testing.assert_close(model(clip, labels=labels)["loss"], unlabelled + 2 * wanted)
    model(clip)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())  # processes wait for each of them


def test_sizes_and_stacks_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        LatentActionModel(replace(BASE, encoder="conv"), VideoConfig(20, 24), TOKENS)
    LatentActionModel(replace(BASE, encoder="conv", input="tokens"), VideoConfig(20, 24), TOKENS)
    frames_alone = replace(STACK, attention="space")
    with pytest.raises(ConfigError, match="attention"):
        LatentActionModel(replace(BASE, encoder_transformer=frames_alone), VIDEO, TOKENS)


def test_counted_operations_are_those_of_torch(encoder: str, source: str, history: str) -> None:
    quantizer = QUANTIZERS["rvq" if history == "all" else "gaussian"]
    model = build(encoder=encoder, input=source, decoder_history=history, label_weight=1.0, **quantizer)
    clip = clips(model, batch=1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as infer:
        model.infer(clip)
    assert infer.get_total_flops() == model.infer_flops(5)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as training:
        model(clip)["loss"].backward()
    # Nothing asks for the gradient of the pixels themselves, which "backward = twice forward" counts.
    pixels = 0
    if source == "pixels" and encoder == "conv":
        pixels = 4 * 2 * 8 * 12 * 8 * 25 * (6 + 3)  # first 5x5 convolutions of encoder and decoder
    elif source == "pixels":
        pixels = (5 + (4 if history == "all" else 1)) * 2 * 6 * 192 * 16  # embeddings of patches
    assert training.get_total_flops() == model.training_flops(5) - pixels
