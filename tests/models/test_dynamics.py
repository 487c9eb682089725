"""The dynamics: its loss, its actions, and the cost that it states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genie_robot.models.dynamics import Dynamics
from genie_robot.models.world_model import WorldModel
from tests.invariants.conftest import (
    STACK,
    VARIANTS,
    make_model,
    random_actions,
    randomised,
    small_config,
)


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> WorldModel:
    return make_model(request.param)


def build(variant: str = "tiny", **choices: Any) -> Dynamics:
    config = small_config(variant)
    return randomised(replace(config, dynamics=replace(config.dynamics, **choices))).dynamics


def generators(count: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(count)]


def test_the_loss_is_the_weighted_mean_over_masked_tokens_alone() -> None:
    dynamics = build(changed_token_weight=4.0)
    logits, target = torch.randn(2, 3, 5, 24), torch.randint(24, (2, 3, 5))
    masked, changed = torch.rand(2, 3, 5) < 0.5, torch.rand(2, 3, 5) < 0.3
    out = dynamics._loss(logits, target, masked, changed)
    losses = F.cross_entropy(logits[masked], target[masked], reduction="none")
    weights = torch.where(changed[masked], 4.0, 1.0)
    torch.testing.assert_close(out["loss"], (losses * weights).sum() / weights.sum())
    torch.testing.assert_close(out["weight"], weights.sum())
    right = (logits.argmax(-1) == target)[masked].float()
    torch.testing.assert_close(out["accuracy"], right.mean())
    torch.testing.assert_close(out["changed_accuracy"], right[changed[masked]].mean())
    other = torch.where(masked[..., None], logits, torch.randn_like(logits))
    torch.testing.assert_close(dynamics._loss(other, target, masked, changed)["loss"], out["loss"])
    nothing = dynamics._loss(logits, target, torch.zeros_like(masked), changed)
    assert nothing["loss"] == 0 and nothing["weight"] == 0


@pytest.mark.parametrize("history", ["clean", "masked"])
@pytest.mark.parametrize("per", ["frame", "sample"])
def test_parts_of_a_batch_combine_to_the_whole(history: str, per: str) -> None:
    """Masks and noise are the clip's own, and `weight` is what its loss counts."""
    dynamics = build(
        history=history, mask_rate_per=per, token_noise=0.2, changed_token_weight=7.0, clean_share=0.5
    )
    tokens, actions = torch.randint(24, (4, 5, 24)), torch.randint(8, (4, 4))
    whole = dynamics(tokens, actions, generators(4))
    parts = [
        dynamics(tokens[rows], actions[rows], generators(4)[rows]) for rows in (slice(0, 1), slice(1, 4))
    ]
    weight = torch.stack([part["weight"] for part in parts]).sum()
    combined = torch.stack([part["loss"] * part["weight"] for part in parts]).sum() / weight
    torch.testing.assert_close(combined, whole["loss"], rtol=1e-6, atol=0)
    torch.testing.assert_close(weight, whole["weight"])
    assert parts[0]["loss"] != parts[1]["loss"] and not whole["weight"].requires_grad
    assert dynamics(tokens, actions, generators(4, seed=9))["loss"] != whole["loss"]


def _inputs_and_outputs(dynamics: Dynamics, tokens: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """What one training pass feeds and what the head answers."""
    seen: list[Tensor] = []

    def keep_tokens(_: Any, inputs: tuple[Tensor, ...], __: Any) -> None:
        seen.append(inputs[0])

    def keep_logits(_: Any, __: Any, logits: Tensor) -> None:
        seen.append(logits)

    hooks = [
        dynamics.embed_token.register_forward_hook(keep_tokens),
        dynamics.head.register_forward_hook(keep_logits),
    ]
    dynamics(tokens, actions, generators(len(tokens)))
    for hook in hooks:
        hook.remove()
    return seen[0], seen[1]


def test_masked_history_hides_tokens_in_place_and_later_frames_see_the_holes() -> None:
    dynamics = build(history="masked", full_mask_probability=0.0)
    tokens, actions = torch.randint(24, (2, 5, 24)), torch.randint(8, (2, 4))
    inputs, answers = _inputs_and_outputs(dynamics, tokens, actions)
    hidden = inputs == dynamics.mask_id
    assert not hidden[:, 0].any() and hidden[:, 1:].any(dim=-1).all()
    assert torch.equal(inputs[~hidden], tokens[~hidden])
    other = torch.where(hidden, (tokens + 1) % 24, tokens)
    assert torch.equal(_inputs_and_outputs(dynamics, other, actions)[1], answers)
    shown = (~hidden[:, 1]).nonzero()[0]
    other = tokens.clone()
    other[shown[0], 1, shown[1]] = (other[shown[0], 1, shown[1]] + 1) % 24
    assert not torch.equal(_inputs_and_outputs(dynamics, other, actions)[1][:, 1:], answers[:, 1:])


def test_clean_history_is_finished_frames_beside_masked_copies() -> None:
    dynamics = build(history="clean")
    tokens, actions = torch.randint(24, (2, 5, 24)), torch.randint(8, (2, 4))
    inputs, answers = _inputs_and_outputs(dynamics, tokens, actions)
    assert torch.equal(inputs[:, :4], tokens[:, :-1])
    copies, hidden = inputs[:, 4:], inputs[:, 4:] == dynamics.mask_id
    assert torch.equal(copies[~hidden], tokens[:, 1:][~hidden])
    other = tokens.clone()
    other[:, 1][hidden[:, 0]] = (other[:, 1][hidden[:, 0]] + 1) % 24
    after = _inputs_and_outputs(dynamics, other, actions)[1]
    assert torch.equal(after[:, 0], answers[:, 0])  # hidden from its own prediction
    assert not torch.equal(after[:, 1], answers[:, 1])  # and seen by those of later frames


def test_noise_falls_on_history_and_not_on_the_copies_that_are_predicted() -> None:
    dynamics = build(token_noise=0.5)
    tokens, actions = torch.randint(24, (3, 6, 24)), torch.randint(8, (3, 5))
    inputs, _ = _inputs_and_outputs(dynamics, tokens, actions)
    wrong = (inputs[:, :5] != tokens[:, :-1]).float().mean((1, 2))
    assert wrong.max() > 0.1 and wrong.unique().numel() == 3  # a share for each clip
    copies, hidden = inputs[:, 5:], inputs[:, 5:] == dynamics.mask_id
    assert torch.equal(copies[~hidden], tokens[:, 1:][~hidden])


@pytest.mark.parametrize("history", ["clean", "masked"])
def test_a_frame_after_a_gap_is_not_asked_for(history: str) -> None:
    config = small_config("tiny")
    changes = {"history": history, "own_history": 0.0, "token_noise": 0.0, "full_mask_probability": 1.0}
    dynamics = randomised(replace(config, dynamics=replace(config.dynamics, **changes))).dynamics
    tokens, actions = torch.randint(24, (2, 4, 24)), torch.randint(8, (2, 3))
    gaps = torch.tensor([0, 5])
    weights = [dynamics(tokens, actions, generators(2), g)["weight"] for g in (None, gaps, gaps + 1)]
    frame = dynamics.grid[0] * dynamics.grid[1]
    assert [round(float(weights[0] - w)) for w in weights] == [0, frame, 2 * frame]
    wrong = tokens.clone()
    wrong[1, 1] = (wrong[1, 1] + 1) % 24  # seen by later frames alone
    given = dynamics(tokens, actions, generators(2), gaps)["loss"]
    assert given != dynamics(wrong, actions, generators(2), gaps)["loss"]


@pytest.mark.parametrize("mode", ["add", "prepend", "adaln"])
def test_the_answer_at_a_place_is_about_the_token_there(mode: str) -> None:
    """The blocks of a new model are the identity, so a token reaches its own logits alone."""
    config = small_config("paper")
    torch.manual_seed(0)
    fresh = WorldModel(replace(config, dynamics=replace(config.dynamics, action_mode=mode))).dynamics
    tokens, actions = torch.randint(24, (1, 2, 24)), torch.randint(8, (1, 2))
    other = tokens.clone()
    other[0, 1, 7] = (other[0, 1, 7] + 1) % 24
    changed = (fresh.logits(tokens, actions) != fresh.logits(other, actions)).any(-1)
    assert changed.nonzero().tolist() == [[0, 1, 7]]


@pytest.mark.parametrize("variant", ["tiny", "prepend_rvq", "tokens_full"])
def test_one_hot_rows_act_as_their_code(variant: str) -> None:
    model = make_model(variant)
    clip = torch.rand(2, 5, 16, 24, 3, dtype=torch.float64)
    codes, _ = model.latent_action.infer(model.action_input(clip))
    soft = model.latent_action.soft_actions(model.action_input(clip))
    dynamics, tokens = model.dynamics, torch.randint(24, (2, 5, 24))
    out = dynamics.logits(tokens, dynamics.produced_by(soft))
    torch.testing.assert_close(out, dynamics.logits(tokens, dynamics.produced_by(codes)), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(out[:, 2].square().sum(), soft)
    assert gradient[:, 1].abs().max() > 0 and gradient[:, 2:].abs().max() == 0


def test_a_gradient_of_the_dynamics_reaches_the_action_encoder(model: WorldModel) -> None:
    clip = torch.rand(2, 5, 16, 24, 3, dtype=torch.float64)
    soft = model.latent_action.soft_actions(model.action_input(clip))
    model.dynamics(model.tokenizer.encode(clip), soft, generators(2))["loss"].backward()
    gradients = [p.grad for p in model.latent_action.encoder.parameters()]
    assert all(g is not None for g in gradients)
    assert max(float(g.abs().max()) for g in gradients if g is not None) > 0


def test_residual_codes_are_the_sum_of_their_digits() -> None:
    embed = make_model("prepend_rvq").dynamics.embed_action
    rows = embed.weight
    assert isinstance(rows, Tensor) and len(rows) == 2 * 4 + 1
    codes = torch.arange(17)
    wanted = [rows[code % 4] + rows[4 + code // 4] for code in range(16)] + [rows[8]]
    torch.testing.assert_close(embed(codes), torch.stack(wanted))


def test_no_action_is_one_vector_whatever_the_kind(model: WorldModel) -> None:
    dynamics = model.dynamics
    actions = random_actions(model, 2, 3)
    padded = dynamics.produced_by(actions)
    assert torch.equal(padded[:, 1:], actions) and padded.dtype == actions.dtype
    assert torch.equal(padded[:, 0].nan_to_num(7), dynamics.without_action(actions[:, 0]).nan_to_num(7))
    vectors = dynamics.embed_action(padded)
    assert torch.equal(vectors[0, 0], vectors[1, 0]) and vectors.isfinite().all()
    assert (vectors[:, 1:] - vectors[0, 0]).abs().amax(-1).min() > 1e-3
    assert dynamics.produced_by(actions[:, :0]).shape == (2, 1, *actions.shape[2:])


def test_a_pass_costs_the_operations_that_torch_counts(model: WorldModel) -> None:
    dynamics, tokens = model.dynamics, torch.randint(24, (1, 4, 24))
    produced = dynamics.produced_by(random_actions(model, 1, 3))
    cache = dynamics.transformer.new_cache()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as prompt:
        dynamics.logits(tokens[:, :3], produced[:, :3], cache=cache, commit=True)
    assert prompt.get_total_flops() == dynamics.pass_flops(3)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as one:
        dynamics.logits(tokens[:, 3:], produced[:, 3:], cache=cache)
    assert one.get_total_flops() == dynamics.pass_flops(1, past=3)


@pytest.mark.parametrize("history", ["clean", "masked"])
@pytest.mark.parametrize("variant", ["paper", "prepend_rvq", "adaln_gaussian", "tokens_full"])
def test_training_costs_the_operations_that_torch_counts(variant: str, history: str) -> None:
    config = small_config(variant)
    # Torch counts the backward pass of depthwise convolutions as if they were dense: left out here.
    stack = replace(config.dynamics.transformer, local_conv=False)
    dynamics_config = replace(config.dynamics, transformer=stack, history=history)
    model = randomised(replace(config, dynamics=dynamics_config))
    dynamics = model.dynamics
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as training:
        dynamics(torch.randint(24, (1, 5, 24)), random_actions(model, 1, 4))["loss"].backward()
    # Nothing asks for the gradient of continuous actions themselves, which "backward = twice forward" counts.
    frames = 5 if history == "masked" else 8
    unasked = frames * 2 * 4 * STACK.dim if variant == "adaln_gaussian" else 0
    assert training.get_total_flops() == dynamics.training_flops(5) - unasked


def test_cache_bytes_are_those_that_a_frame_fills(model: WorldModel) -> None:
    dynamics = model.dynamics.float()
    cache = dynamics.transformer.new_cache()
    dynamics.remember(torch.randint(24, (1, 1, 24)), dynamics.produced_by(random_actions(model, 1, 0)), cache)
    stored = sum(
        tensor.nbytes
        for layer in cache.layers
        for tensor in (layer._keys_BNHTE, layer._values_BNHTE)
        if tensor is not None
    )
    assert stored == cache.capacity * dynamics.cache_bytes_per_frame(4)
