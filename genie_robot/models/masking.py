"""What a training clip hides from the dynamics: masks, and noise on what stays visible.

Every number comes from the clip's own generator, so that a clip looks the same whatever batch it is in.
Shapes: B batch, T frames, S = T - 1 predicted frames, N tokens per frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genie_robot.config import DynamicsConfig

Generators = Sequence[torch.Generator] | None


def uniform(shape: Sequence[int], generators: Generators, device: torch.device) -> Tensor:
    """Uniform numbers; row b comes from generator b (on the CPU), or all from torch's own without generators."""
    if generators is None:
        return torch.rand(*shape, device=device)
    assert len(generators) == shape[0], (len(generators), shape)
    return torch.stack([torch.rand(*shape[1:], generator=each) for each in generators]).to(device)


def draw_masks(
    config: DynamicsConfig, shape_BSN: Sequence[int], generators: Generators, device: torch.device
) -> Tensor:
    """Boolean (B,S,N), True where a token of frames 1..T-1 is hidden (frame 0 never is).

    Each token is hidden with the probability of its frame, its clip or the batch (`mask_rate_per`): cos(u pi/2), or
    between 0.5 and 1 (Genie, section 2.1), or 1 in `full_mask_probability` of them. A rate of the whole batch is the
    first clip's. With `history` "masked", `clean_share` of the clips hide only the frames after a random one.
    """
    batch, steps, _ = shape_BSN
    rates_BS = _rates(config, uniform((batch, steps, 2), generators, device))
    hidden_BSN = uniform(shape_BSN, generators, device) < rates_BS[..., None]
    if config.history == "masked" and config.clean_share:
        # At least frames 0 and 1 stay clean, at least the last is hidden; a clip of two frames has no such choice.
        chance_B, where_B = uniform((batch, 2), generators, device).unbind(-1)
        clean_B = (1 + (where_B * (steps - 1)).long()).clamp_max(steps - 1) * (chance_B < config.clean_share)
        hidden_BSN &= (torch.arange(steps, device=device) >= clean_B[:, None])[..., None]
    return hidden_BSN


def _rates(config: DynamicsConfig, draws_BS2: Tensor) -> Tensor:
    groups = {"frame": draws_BS2, "sample": draws_BS2[:, :1], "batch": draws_BS2[:1, :1]}
    spread, chance = groups[config.mask_rate_per].expand_as(draws_BS2).unbind(-1)
    rate = torch.cos(spread * math.pi / 2) if config.mask_schedule == "cosine" else (1 + spread) / 2
    return torch.where(chance < config.full_mask_probability, 1.0, rate)


def add_noise(tokens_BTN: Tensor, mean_share: float, num_codes: int, generators: Generators) -> Tensor:
    """Tokens with a share of them replaced at random, as the model's own mistakes would.

    The share differs from clip to clip, from none to twice the mean, so that clean history is in training.
    """
    if not mean_share:
        return tokens_BTN
    device, shape = tokens_BTN.device, tokens_BTN.shape
    share_B11 = 2 * mean_share * uniform((shape[0], 1, 1), generators, device)
    replace_BTN = uniform(shape, generators, device) < share_B11
    random_BTN = (uniform(shape, generators, device) * num_codes).long()
    return torch.where(replace_BTN, random_BTN, tokens_BTN)


def two_stream_mask(steps: int, device: torch.device) -> Tensor:
    """Attention mask (2S, 2S) of finished frames 0..S-1 followed by masked copies of frames 1..S; True = may attend."""
    causal = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    own = torch.eye(steps, dtype=torch.bool, device=device)
    return torch.cat([torch.cat([causal, torch.zeros_like(own)], 1), torch.cat([causal, own], 1)], 0)
