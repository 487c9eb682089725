"""MaskGIT sampling of one frame (Chang 2022, arXiv 2202.04200; Genie, section 2.2).

Tokens are revealed in a random order: confidence order tends to copy the frame before.
Shapes: B batch, N tokens per frame, V codebook.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_robot.errors import ConfigError
from genie_robot.sampling.context import CachedContext
from genie_robot.sampling.schedule import cosine_counts


def frame_noise(generators: Sequence[torch.Generator], num_tokens: int) -> tuple[Tensor, Tensor]:
    """All randomness of one frame, (B,N) each: order of reveal, and the uniform that draws each token.

    One generator a row, so that a row's result does not depend on who shares its batch.
    """
    noise = torch.stack([torch.rand(2, num_tokens, generator=generator) for generator in generators])
    return noise[:, 0], noise[:, 1]


@torch.no_grad()
def generate_frame(
    context: CachedContext,
    action_B: Tensor,
    generators: Sequence[torch.Generator],
    *,
    steps: int,
    temperature: float,
) -> Tensor:
    """Tokens (B,N) of the next frame under `action_B`. Temperature 0 takes the likeliest token at each step.

    The context is not changed: `append` the result to go on from it.
    """
    if temperature < 0:
        raise ConfigError(f"temperature: got {temperature}, wanted 0 or more")
    assert context.tokens_BTN is not None, "the context is empty: append a prompt first"
    batch, _, num_tokens = context.tokens_BTN.shape
    device = context.tokens_BTN.device
    order_BN, uniform_BN = (noise.to(device) for noise in frame_noise(generators, num_tokens))
    rank_BN = order_BN.argsort(-1).argsort(-1)
    tokens_BN = torch.full((batch, num_tokens), context.dynamics.mask_id, dtype=torch.int64, device=device)
    shown = 0
    for count in cosine_counts(num_tokens, steps):
        logits_BNV = context.logits(tokens_BN, action_B).float()
        reveal_BN = (rank_BN >= shown) & (rank_BN < shown + count)
        drawn_BN = _draw(logits_BNV, uniform_BN, temperature)
        tokens_BN = torch.where(reveal_BN, drawn_BN, tokens_BN)
        shown += count
    return tokens_BN


def _draw(logits_BNV: Tensor, uniform_BN: Tensor, temperature: float) -> Tensor:
    """Inverse-CDF draw: one uniform a token."""
    if temperature == 0:
        return logits_BNV.argmax(-1)
    cumulative = (logits_BNV / temperature).softmax(-1).cumsum(-1)
    target = (uniform_BN[..., None] * cumulative[..., -1:]).contiguous()
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_max(logits_BNV.shape[-1] - 1)
