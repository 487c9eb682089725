"""MaskGIT sampling of one frame (Chang 2022, arXiv 2202.04200; Genie, section 2.2).

Tokens are revealed in a random order by default: confidence order tends to copy the frame before.
Shapes: B batch, N tokens per frame, V codebook, K numbers of a continuous action.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_robot.config import SamplingConfig
from genie_robot.sampling.context import CachedContext
from genie_robot.sampling.schedule import halton_ranks, reveal_counts


def frame_noise(generators: Sequence[torch.Generator], num_tokens: int) -> tuple[Tensor, Tensor]:
    """Two uniforms a token, (B,N) each: for its place in the order of reveal, and to draw it.

    One generator a row, so that a row's result does not depend on who shares its batch.
    """
    noise = torch.stack([torch.rand(2, num_tokens, generator=generator) for generator in generators])
    return noise[:, 0], noise[:, 1]


@torch.no_grad()
def generate_frame(
    context: CachedContext,
    action_B: Tensor,
    generators: Sequence[torch.Generator],
    sampling: SamplingConfig,
) -> Tensor:
    """Tokens (B,N) of the next frame under `action_B`, codes (B,) or vectors (B,K); one CPU generator a row.

    Temperature 0 takes the likeliest token at each step. The context is not changed: `append` the result to go on
    from it.
    """
    assert context.tokens_BTN is not None, "the context is empty: append a prompt first"
    batch, _, num_tokens = context.tokens_BTN.shape
    counts = reveal_counts(num_tokens, sampling.steps, sampling.schedule)
    device = context.tokens_BTN.device
    tokens_BN = torch.full((batch, num_tokens), context.dynamics.mask_id, dtype=torch.int64, device=device)
    if sampling.order == "confidence":
        return _by_confidence(context, tokens_BN, action_B, generators, sampling, counts)
    order_BN, uniform_BN = (noise.to(device) for noise in frame_noise(generators, num_tokens))
    rank_BN = order_BN.argsort(-1).argsort(-1)
    if sampling.order == "halton":
        rank_BN = torch.as_tensor(halton_ranks(*context.dynamics.grid), device=device).expand_as(rank_BN)
    shown = 0
    for count in counts:
        logits_BNV = context.logits(tokens_BN, action_B).float()
        reveal_BN = (rank_BN >= shown) & (rank_BN < shown + count)
        tokens_BN = torch.where(reveal_BN, _draw(logits_BNV, uniform_BN, sampling.temperature), tokens_BN)
        shown += count
    return tokens_BN


def _by_confidence(
    context: CachedContext,
    tokens_BN: Tensor,
    action_B: Tensor,
    generators: Sequence[torch.Generator],
    sampling: SamplingConfig,
    counts: list[int],
) -> Tensor:
    """Draw every hidden token anew at each pass and keep the ones that the model is surest of."""
    for step, count in enumerate(counts, start=1):
        noise_BN, uniform_BN = (
            part.to(tokens_BN.device) for part in frame_noise(generators, tokens_BN.shape[1])
        )
        logits_BNV = context.logits(tokens_BN, action_B).float()
        drawn_BN = _draw(logits_BNV, uniform_BN, sampling.temperature)
        gumbel_BN = -(-noise_BN.clamp_min(1e-20).log()).clamp_min(1e-20).log()
        noise = sampling.choice_temperature * (1 - step / len(counts))
        sure_BN = logits_BNV.log_softmax(-1).gather(-1, drawn_BN[..., None])[..., 0] + noise * gumbel_BN
        sure_BN = sure_BN.masked_fill(tokens_BN != context.dynamics.mask_id, float("-inf"))
        chosen = sure_BN.topk(count, dim=-1).indices
        tokens_BN = tokens_BN.scatter(-1, chosen, drawn_BN.gather(-1, chosen))
    return tokens_BN


def _draw(logits_BNV: Tensor, uniform_BN: Tensor, temperature: float) -> Tensor:
    """Inverse-CDF draw: one uniform a token."""
    if temperature == 0:
        return logits_BNV.argmax(-1)
    cumulative = (logits_BNV / temperature).softmax(-1).cumsum(-1)
    target = (uniform_BN[..., None] * cumulative[..., -1:]).contiguous()
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp_max(logits_BNV.shape[-1] - 1)
