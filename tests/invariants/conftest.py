"""World models small enough for exact checks, in float64, with weights that are not at their (partly zero) start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from genie_robot.config import (
    DynamicsConfig,
    LatentActionConfig,
    TokenizerConfig,
    TransformerConfig,
    VideoConfig,
    WorldModelConfig,
)
from genie_robot.models.world_model import WorldModel

STACK = TransformerConfig(num_layers=2, dim=16, num_heads=2)
LOCAL = replace(STACK, local_conv=True)
FULL = replace(STACK, attention="full")
VARIANTS = ("tiny", "paper", "prepend_rvq", "adaln_gaussian", "tokens_full")


def small_config(variant: str, num_frames: int = 6) -> WorldModelConfig:
    """`tiny`: the choices of the tiny preset; `paper`: those of the robotics preset; the others name their choices."""
    video = VideoConfig(16, 24, num_frames, 5.0)
    if variant in ("tiny", "adaln_gaussian"):
        tokenizer = TokenizerConfig(
            4, "patch_mlp", STACK, LOCAL, "conv", "fsq", codebook_size=24, code_dim=8, fsq_levels=(4, 3, 2)
        )
        action = LatentActionConfig(encoder="conv", conv_channels=8, code_dim=8, change_weight=5.0)
    else:
        tokenizer = TokenizerConfig(
            4, "st_transformer", STACK, STACK, "linear", "vq", codebook_size=24, code_dim=8
        )
        action = LatentActionConfig(
            encoder="st_transformer",
            patch_size=8,
            encoder_transformer=STACK,
            decoder_transformer=STACK,
            code_dim=8,
        )
    dynamics = DynamicsConfig(LOCAL if variant in ("tiny", "prepend_rvq") else STACK)
    if variant == "prepend_rvq":
        action = replace(action, quantizer="rvq", num_actions=4, num_codebooks=2)
        dynamics = replace(dynamics, action_mode="prepend")
    elif variant == "adaln_gaussian":
        action = replace(action, quantizer="gaussian", code_dim=4)
        dynamics = replace(dynamics, action_mode="adaln", share_levels=True)
    elif variant == "tokens_full":
        action, dynamics = replace(action, input="tokens"), DynamicsConfig(FULL)
    return WorldModelConfig(variant, video, tokenizer, action, dynamics)


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> WorldModel:
    """A small WorldModel of each variant, float64, all weights random."""
    return make_model(request.param)


def make_model(variant: str, num_frames: int = 6) -> WorldModel:
    """Random weights everywhere: zero-initialised projections would hide every leak."""
    return randomised(small_config(variant, num_frames))


def randomised(config: WorldModelConfig) -> WorldModel:
    """A model in float64 and evaluation mode whose weights are all away from their start."""
    torch.manual_seed(0)
    model = WorldModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def random_actions(model: WorldModel, *shape: int) -> torch.Tensor:
    """Codes of `shape`, or for continuous actions vectors with one axis more."""
    config = model.config.latent_action
    if config.is_continuous:
        return torch.randn(*shape, config.code_dim, dtype=model.dynamics.head.weight.dtype)
    return torch.randint(config.total_actions, shape)


@pytest.fixture
def video() -> Callable[..., torch.Tensor]:
    """video(batch, frames) -> float64 (B,T,16,24,3) in [0, 1]."""
    return lambda batch=2, frames=5: torch.rand(batch, frames, 16, 24, 3, dtype=torch.float64)
