"""Schedule and sampler."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.errors import ConfigError
from genie_robot.sampling.maskgit import _draw, frame_noise
from genie_robot.sampling.schedule import cosine_counts


@given(st.integers(1, 1000), st.data())
def test_every_token_is_revealed_once_and_each_step_reveals_some(
    num_tokens: int, data: st.DataObject
) -> None:
    steps = data.draw(st.integers(1, num_tokens))
    counts = cosine_counts(num_tokens, steps)
    assert len(counts) == steps
    assert sum(counts) == num_tokens
    assert min(counts) >= 1


def test_the_cosine_schedule_starts_slowly() -> None:
    counts = cosine_counts(256, 8)
    assert counts == sorted(counts)
    assert counts[0] < 256 / 8 / 4


@pytest.mark.parametrize("steps", [0, -1, 65])
def test_a_wrong_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match="maskgit_steps"):
        cosine_counts(64, steps)


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])
    uniform = torch.rand(1, 20000, generator=torch.Generator().manual_seed(0))
    drawn = _draw(probabilities.log().expand(1, 20000, 4), uniform, temperature=1.0)
    share = torch.bincount(drawn.flatten(), minlength=4) / 20000
    torch.testing.assert_close(share, probabilities, rtol=0, atol=0.015)
    assert share[1] == 0


def test_temperature_zero_takes_the_likeliest_and_high_temperature_flattens() -> None:
    logits = torch.tensor([[[0.0, 3.0, 1.0]]]).expand(1, 3000, 3)
    uniform = torch.rand(1, 3000, generator=torch.Generator().manual_seed(0))
    assert (_draw(logits, uniform, 0.0) == 1).all()
    share = torch.bincount(_draw(logits, uniform, 100.0).flatten(), minlength=3) / 3000
    assert share.min() > 0.28


def test_noise_of_a_row_does_not_depend_on_its_batch() -> None:
    alone = frame_noise([torch.Generator().manual_seed(7)], 16)
    among = frame_noise([torch.Generator().manual_seed(seed) for seed in (3, 7, 9)], 16)
    assert np.array_equal(alone[0][0], among[0][1])
    assert np.array_equal(alone[1][0], among[1][1])
