"""Drawing tokens, and the order in which a frame appears."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_robot.config import SamplingConfig
from genie_robot.errors import ConfigError
from genie_robot.sampling.context import CachedContext
from genie_robot.sampling.maskgit import _draw, frame_noise, generate_frame
from genie_robot.sampling.schedule import halton_ranks, reveal_counts
from tests.invariants.conftest import make_model

ORDERS = ("random", "confidence", "halton")


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


class Fixed(CachedContext):
    """Always the same logits, whatever is revealed; remembers the frames that were asked about."""

    def __init__(self, logits_BNV: Tensor) -> None:
        super().__init__(make_model("tiny").dynamics)
        self.logits_BNV = logits_BNV
        self.tokens_BTN = torch.zeros(len(logits_BNV), 1, logits_BNV.shape[1], dtype=torch.int64)
        self.asked: list[Tensor] = []

    def logits(self, tokens_BN: Tensor, action_B: Tensor) -> Tensor:
        self.asked.append(tokens_BN)
        return self.logits_BNV


def reveals(logits_BNV: Tensor, seeds: range = range(2), **choices: Any) -> tuple[Tensor, Tensor]:
    """Step (B,N) at which each token appeared, and the tokens."""
    context = Fixed(logits_BNV)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    action = torch.zeros(len(logits_BNV), dtype=torch.int64)
    tokens = generate_frame(context, action, generators, SamplingConfig(4, **choices))
    hidden = torch.stack([asked == context.dynamics.mask_id for asked in context.asked])
    assert hidden[0].all() and (tokens < 24).all()
    return hidden.sum(0) - 1, tokens


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("schedule", ["cosine", "arccos"])
def test_each_step_reveals_as_many_tokens_as_its_schedule_says(order: str, schedule: str) -> None:
    step_BN, _ = reveals(torch.randn(2, 24, 24), order=order, schedule=schedule)
    for row in step_BN:
        assert torch.bincount(row, minlength=4).tolist() == reveal_counts(24, 4, schedule)


def test_confidence_reveals_the_surest_tokens_first() -> None:
    sharpness = torch.linspace(0.1, 6, 24)[torch.randperm(24)]
    logits = sharpness[:, None] * torch.nn.functional.one_hot(torch.randint(24, (24,)), 24)
    step_BN, tokens = reveals(
        logits.expand(2, -1, -1), order="confidence", temperature=0.0, choice_temperature=0.0
    )
    surest_first = sharpness.argsort(descending=True)
    assert (step_BN[:, surest_first].diff(dim=1) >= 0).all()
    assert torch.equal(tokens[0], logits.argmax(-1))
    noisy_BN, _ = reveals(
        logits.expand(2, -1, -1), order="confidence", temperature=0.0, choice_temperature=50.0
    )
    assert not torch.equal(noisy_BN[0], noisy_BN[1])  # noise decides, and each row has its own
    assert (noisy_BN[:, surest_first].diff(dim=1) < 0).any()


def test_confidence_is_that_of_the_token_that_was_drawn() -> None:
    logits = torch.tensor([2.0, 0.0] + 22 * [-30.0]).expand(1, 24, 24)
    step_BN, tokens = reveals(logits, range(1), order="confidence", temperature=1.0, choice_temperature=0.0)
    early, late = (tokens[0][step_BN[0] == step] for step in (0, 3))
    assert (early == 0).all()  # an unlikely draw is not kept while there are surer ones
    assert len(late) > 0


def test_the_noise_on_confidence_is_gumbel_and_falls_step_by_step() -> None:
    logits = torch.randn(1, 24, 24)
    step_BN, _ = reveals(logits, range(7, 8), order="confidence", temperature=0.0, choice_temperature=3.0)
    rng, sure = torch.Generator().manual_seed(7), logits[0].log_softmax(-1).amax(-1)
    left = set(range(24))
    for step, count in enumerate(reveal_counts(24, 4)):
        uniform = torch.rand(2, 24, generator=rng)[0]
        score = sure + 3.0 * (0.75, 0.5, 0.25, 0.0)[step] * -torch.log(-torch.log(uniform))
        best = sorted(left, key=lambda token: -float(score[token]))[:count]
        assert set((step_BN[0] == step).nonzero()[:, 0].tolist()) == set(best)
        left -= set(best)


def test_halton_reveals_by_its_ranks() -> None:
    step_BN, _ = reveals(torch.randn(2, 24, 24), order="halton")
    by_rank = step_BN[:, torch.as_tensor(halton_ranks(4, 6)).argsort()]
    assert (by_rank.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("order", ORDERS)
def test_a_row_does_not_depend_on_its_batch(order: str) -> None:
    logits = torch.randn(3, 24, 24)
    step_BN, tokens = reveals(logits, range(3), order=order, temperature=1.0)
    alone_step, alone = reveals(logits[1:2], range(1, 2), order=order, temperature=1.0)
    assert torch.equal(step_BN[1], alone_step[0]) and torch.equal(tokens[1], alone[0])
    assert not torch.equal(tokens[1], reveals(logits[1:2], range(5, 6), order=order, temperature=1.0)[1][0])


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1.0}, {"choice_temperature": -0.1}, {"order": "spiral"}, {"schedule": "linear"}],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        dataclasses.replace(SamplingConfig(), **wrong)
