"""A world model for 64x64 frames that is quick to build and run: random weights, for plumbing alone."""

from __future__ import annotations

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


def small_world_model(robot_action_dim: int = 0, num_codebooks: int = 1) -> WorldModel:
    """Eight codes of each codebook, windows of four frames, 16 tokens a frame; takes robot actions where it is asked to."""
    torch.manual_seed(0)
    small = TransformerConfig(num_layers=1, dim=16, num_heads=2)
    config = WorldModelConfig(
        name="test",
        video=VideoConfig(num_frames=4),
        tokenizer=TokenizerConfig(
            16, encoder_transformer=small, decoder_transformer=small, codebook_size=32, code_dim=8
        ),
        latent_action=LatentActionConfig(
            encoder="conv",
            conv_channels=4,
            code_dim=8,
            quantizer="rvq" if num_codebooks > 1 else "vq",
            num_codebooks=num_codebooks,
        ),
        dynamics=DynamicsConfig(transformer=small, robot_action_dim=robot_action_dim),
    )
    return WorldModel(config).eval().requires_grad_(False)
