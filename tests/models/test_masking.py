"""Masks: their rates, what shares one, and whose they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from genie_robot.config import DynamicsConfig
from genie_robot.models.masking import add_noise, draw_masks, two_stream_mask

CPU = torch.device("cpu")
TOKENS = 5000  # a measured rate is within 0.035 of the true one (5 standard deviations)


def rates(batch: int = 8, steps: int = 6, seed: int = 0, **choices: Any) -> Tensor:
    """Measured share of hidden tokens, (B,S)."""
    generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
    config = DynamicsConfig(**{"full_mask_probability": 0.0, **choices})
    return draw_masks(config, (batch, steps, TOKENS), generators, CPU).float().mean(-1)


def _spread(rates: Tensor, dim: int) -> float:
    """Smallest range of rates along an axis, over the other."""
    return float((rates.amax(dim) - rates.amin(dim)).min())


def test_what_shares_a_rate() -> None:
    frame, sample, batch = (rates(mask_rate_per=per) for per in ("frame", "sample", "batch"))
    assert _spread(frame, 0) > 0.2 and _spread(frame, 1) > 0.2
    assert _spread(sample, 0) > 0.2
    assert float((sample.amax(1) - sample.amin(1)).max()) < 0.07
    assert float(batch.max() - batch.min()) < 0.07
    # The batch's rate is its first clip's.
    torch.testing.assert_close(batch[0, 0], sample[0, 0], rtol=0, atol=0.07)
    other = rates(mask_rate_per="batch", seed=1)
    torch.testing.assert_close(other[0, 0], sample[1, 0], rtol=0, atol=0.07)


def test_rates_follow_their_schedule() -> None:
    many = {"batch": 100, "steps": 10}
    cosine = rates(mask_schedule="cosine", **many).flatten().sort().values
    uniform = rates(mask_schedule="uniform", **many).flatten().sort().values
    quantiles = torch.arange(1000) / 1000
    torch.testing.assert_close(cosine, torch.sin(quantiles * torch.pi / 2), rtol=0, atol=0.07)
    torch.testing.assert_close(uniform, 0.5 + quantiles / 2, rtol=0, atol=0.04)
    assert uniform.min() > 0.46


@pytest.mark.parametrize("per", ["frame", "sample"])
def test_the_configured_share_is_wholly_hidden(per: str) -> None:
    full = rates(batch=300, steps=3, full_mask_probability=0.3, mask_rate_per=per) == 1
    assert abs(float(full.float().mean()) - 0.3) < 0.1
    together = float((full.all(1) == full.any(1)).float().mean())  # a drawn rate may be almost 1 as well
    assert together > 0.95 if per == "sample" else together < 0.6


def test_clean_share_keeps_the_first_frames_of_those_clips_whole() -> None:
    hidden = rates(batch=100, steps=6, history="masked", mask_schedule="uniform", clean_share=1.0) > 0
    first = hidden.int().argmax(1)  # the first frame with a hidden token
    assert hidden[:, -1].all()  # each clip has something to predict
    assert (hidden.int().diff(dim=1) >= 0).all()  # whole frames, then hidden ones to the end
    assert set(first.tolist()) == {1, 2, 3, 4, 5}
    some = rates(batch=100, steps=6, history="masked", mask_schedule="uniform", clean_share=0.4) > 0
    assert abs(float((~some[:, 0]).float().mean()) - 0.4) < 0.1
    assert rates(history="masked", mask_schedule="uniform", clean_share=0.0).min() > 0.4
    assert rates(history="masked", mask_schedule="uniform", clean_share=1.0, steps=1).min() > 0.4
    # The two streams have clean history anyway.
    assert rates(history="clean", mask_schedule="uniform", clean_share=1.0).min() > 0.4


@pytest.mark.parametrize("per", ["frame", "sample"])
def test_masks_and_noise_of_a_clip_do_not_depend_on_its_neighbours(per: str) -> None:
    config = DynamicsConfig(history="masked", clean_share=0.5, mask_rate_per=per)
    tokens = torch.randint(24, (3, 5, 16))
    results = []
    for rows in ([0, 1, 2], [1], [2, 1]):
        generators = [torch.Generator().manual_seed(100 + row) for row in rows]
        masks = draw_masks(config, (len(rows), 4, 16), generators, CPU)
        noisy = add_noise(tokens[rows], 0.3, 24, generators)
        results.append((masks[rows.index(1)], noisy[rows.index(1)]))
    for masks, noisy in results[1:]:
        assert torch.equal(masks, results[0][0]) and torch.equal(noisy, results[0][1])
    assert not torch.equal(results[0][1], tokens[1])


def test_noise_is_of_the_stated_mean_and_of_real_tokens() -> None:
    tokens = torch.full((400, 2, 100), 5)
    noisy = add_noise(tokens, 0.2, 24, None)
    changed = (noisy != 5).float().mean((1, 2)) * 24 / 23
    assert abs(float(changed.mean()) - 0.2) < 0.03
    assert changed.min() < 0.03 and changed.max() > 0.33
    assert noisy.unique().tolist() == list(range(24))
    assert torch.equal(add_noise(tokens, 0.0, 24, None), tokens)


def test_a_copy_sees_the_frames_before_it_and_itself() -> None:
    mask = two_stream_mask(3, CPU)
    wanted = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 1, 0, 0, 1],
    ]
    assert torch.equal(mask, torch.tensor(wanted, dtype=torch.bool))
