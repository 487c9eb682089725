"""The formula of activation memory against the bytes that torch really keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genie_robot.config import (
    DynamicsConfig,
    LatentActionConfig,
    TokenizerConfig,
    TransformerConfig,
    VideoConfig,
    WorldModelConfig,
)
from genie_robot.models.world_model import WorldModel
from genie_robot.nn.st_transformer import STBlock
from genie_robot.training.activations import clip_activations, stack_activations

CLIPS, FRAMES = 2, 6
# The formula is of a GPU, where RMS norm is fused; on a CPU each attention keeps two maps more (up to 12 % of a stack).
TOLERANCE = 0.15
STACK = TransformerConfig(num_layers=3, dim=64, num_heads=4)
SPACE, FULL = replace(STACK, attention="space"), replace(STACK, attention="full")
LOCAL = replace(STACK, local_conv=True)


def make_config(**changes: dict[str, Any]) -> WorldModelConfig:
    config = WorldModelConfig(
        video=VideoConfig(32, 48, FRAMES),
        tokenizer=TokenizerConfig(encoder_transformer=STACK, decoder_transformer=STACK, codebook_size=64),
        latent_action=LatentActionConfig(
            patch_size=8, encoder_transformer=STACK, decoder_transformer=STACK, conv_channels=16
        ),
        dynamics=DynamicsConfig(transformer=STACK),
    )
    return replace(
        config, **{part: replace(getattr(config, part), **values) for part, values in changes.items()}
    )


def kept_bytes(module: nn.Module, forward: Callable[[], object], recompute: bool) -> int:
    """Storages that autograd holds after `forward`, weights left out; with `recompute` each block is checkpointed."""
    own = {t.untyped_storage()._cdata for t in chain(module.parameters(), module.buffers())}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    def checkpointed(block: STBlock) -> Callable[..., Tensor]:
        inner = block.forward

        def run(x_BTND: Tensor, *rest: Any) -> Tensor:
            keep(x_BTND)  # held by the checkpoint, not as a saved tensor
            return checkpoint(inner, x_BTND, *rest, use_reentrant=False)  # type: ignore[return-value]

        return run

    if recompute:
        for block in module.modules():
            if isinstance(block, STBlock):
                block.forward = checkpointed(block)  # type: ignore[method-assign]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result
    return sum(storage.nbytes() for storage in kept.values())


def measured(config: WorldModelConfig, network: str, recompute: bool) -> int:
    model = WorldModel(config).train()
    video = torch.rand(CLIPS, FRAMES, config.video.height, config.video.width, 3)
    tokens = torch.randint(0, config.tokenizer.codebook_size, (CLIPS, FRAMES, config.tokens_per_frame))
    generators = [torch.Generator().manual_seed(row) for row in range(CLIPS)]
    forwards: dict[str, Callable[[], object]] = {
        "tokenizer": lambda: model.tokenizer(video),
        "latent_action": lambda: model.latent_action(
            video if config.latent_action.input == "pixels" else tokens, generators
        ),
        "dynamics": lambda: model.dynamics(tokens, torch.randint(0, 8, (CLIPS, FRAMES - 1)), generators),
    }
    return kept_bytes(getattr(model, network), forwards[network], recompute)


CASES: dict[str, tuple[str, WorldModelConfig]] = {
    "tokenizer, st_vivit": ("tokenizer", make_config()),
    "tokenizer, vit": (
        "tokenizer",
        make_config(tokenizer={"encoder_transformer": SPACE, "decoder_transformer": SPACE}),
    ),
    "tokenizer, patches and conv head": (
        "tokenizer",
        make_config(tokenizer={"encoder": "patch_mlp", "decoder_head": "conv", "decoder_transformer": LOCAL}),
    ),
    "latent actions": ("latent_action", make_config()),
    "latent actions of tokens": ("latent_action", make_config(latent_action={"input": "tokens"})),
    "dynamics": ("dynamics", make_config()),
    "dynamics, masked history": ("dynamics", make_config(dynamics={"history": "masked"})),
    "dynamics, prepend": ("dynamics", make_config(dynamics={"action_mode": "prepend"})),
    "dynamics, adaln": ("dynamics", make_config(dynamics={"action_mode": "adaln"})),
    "dynamics, local": ("dynamics", make_config(dynamics={"transformer": LOCAL})),
}
#: without recomputation alone: no blocks to recompute, or a mask that is not kept then
PLAIN_CASES: dict[str, tuple[str, WorldModelConfig]] = {
    "tokenizer, c_vivit": (
        "tokenizer",
        make_config(tokenizer={"encoder_transformer": FULL, "decoder_transformer": FULL}),
    ),
    "tokenizer, magvit2": (
        "tokenizer",
        make_config(
            tokenizer={
                "encoder": "causal_conv",
                "decoder": "causal_conv",
                "quantizer": "lfq",
                "conv_channels": 16,
            }
        ),
    ),
    "latent actions, conv": ("latent_action", make_config(latent_action={"encoder": "conv"})),
    "latent actions of tokens, conv": (
        "latent_action",
        make_config(latent_action={"encoder": "conv", "input": "tokens"}),
    ),
}


@pytest.mark.parametrize(
    ("case", "recompute"),
    [(case, "none") for case in [*CASES, *PLAIN_CASES]] + [(case, "full") for case in CASES],
)
def test_formula_agrees_with_what_torch_keeps(case: str, recompute: str) -> None:
    network, config = (CASES | PLAIN_CASES)[case]
    formula = clip_activations(config, network, FRAMES, 4, recompute)
    expected = CLIPS * formula.kept + formula.shared
    assert measured(config, network, recompute == "full") == pytest.approx(expected, rel=TOLERANCE)


def test_recomputation_keeps_less_and_works_on_one_block() -> None:
    none, selective, full = (
        stack_activations(STACK, FRAMES, 96, 2, recompute) for recompute in ("none", "selective", "full")
    )
    assert none.kept > selective.kept > full.kept
    assert none.working == 0 and selective.working == full.working > 0
    assert full.kept + full.working < none.kept
    assert full.of(3) == 3 * full.of(1)


def test_bf16_keeps_more_than_half() -> None:
    """The residual stream and the norms stay fp32."""
    half = stack_activations(STACK, FRAMES, 96, 2, "none").kept
    whole = stack_activations(STACK, FRAMES, 96, 4, "none").kept
    assert 0.5 * whole < half < 0.6 * whole
