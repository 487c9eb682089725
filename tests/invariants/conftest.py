"""World models small enough for exact checks, in float64, with weights that are not at their (partly zero) start."""

from __future__ import annotations

from collections.abc import Callable

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


def small_config(variant: str, num_frames: int = 6) -> WorldModelConfig:
    """`tiny`: the choices of the tiny preset; `paper`: those of the robotics preset."""
    local = TransformerConfig(num_layers=2, dim=16, num_heads=2, local_conv=True)
    if variant == "tiny":
        tokenizer = TokenizerConfig(
            4, "patch_mlp", STACK, local, "conv", "fsq", codebook_size=24, code_dim=8, fsq_levels=(4, 3, 2)
        )
        action = LatentActionConfig(encoder="conv", conv_channels=8, code_dim=8, change_weight=5.0)
        stack = local
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
        stack = STACK
    return WorldModelConfig(
        variant, VideoConfig(16, 24, num_frames, 5.0), tokenizer, action, DynamicsConfig(stack)
    )


@pytest.fixture(params=["tiny", "paper"])
def model(request: pytest.FixtureRequest) -> WorldModel:
    """A small WorldModel of each variant, float64, all weights random."""
    return make_model(request.param)


def make_model(variant: str, num_frames: int = 6) -> WorldModel:
    """Random weights everywhere: zero-initialised projections would hide every leak."""
    torch.manual_seed(0)
    model = WorldModel(small_config(variant, num_frames)).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def video() -> Callable[..., torch.Tensor]:
    """video(batch, frames) -> float64 (B,T,16,24,3) in [0, 1]."""
    return lambda batch=2, frames=5: torch.rand(batch, frames, 16, 24, 3, dtype=torch.float64)
