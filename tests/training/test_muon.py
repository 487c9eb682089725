"""Our Muon is torch's Muon, and averaged weights are averages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from genie_robot.training.ema import WeightAverage
from genie_robot.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (8, 8)])
def test_updates_are_those_of_torch(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    in_bf16 = "genie_robot.training.muon._iteration_dtype"
    monkeypatch.setattr(in_bf16, lambda device: torch.bfloat16)  # as torch does everywhere, we on a GPU
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(shape))
    theirs = nn.Parameter(ours.detach().clone())
    pairs = (
        (ours, Muon([ours], lr=0.02, weight_decay=0.1)),
        (theirs, torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)),
    )
    for step in range(4):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        for parameter, optimizer in pairs:
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_update_is_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(16, 40)).float())
    assert values.min() > 0.5 and values.max() < 1.3


def test_the_average_follows_and_swaps_in_and_out() -> None:
    module = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
    average = WeightAverage(module, decay=0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for _ in range(3):
        average.update(step=10**6)
    wanted = 1 - 0.9**3
    with average.applied():
        torch.testing.assert_close(module.weight, torch.full((1, 2), wanted))
    assert (module.weight == 1).all()
    assert WeightAverage(module, decay=0.0).weights == {}
