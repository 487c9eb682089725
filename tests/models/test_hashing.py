from __future__ import annotations

import torch
from torch import nn

from genie_robot.models.hashing import weights_hash


def test_the_hash_follows_names_and_numbers() -> None:
    torch.manual_seed(0)
    one = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    same = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    same.load_state_dict(one.state_dict())
    assert weights_hash(one) == weights_hash(same)
    assert len(weights_hash(one)) == 12
    assert weights_hash(one) == weights_hash(same.eval().requires_grad_(False))
    assert weights_hash(one) != weights_hash(nn.ModuleDict({"a": one}))
    same[1].running_mean[0] += 1e-6  # type: ignore[index, operator]
    assert weights_hash(one) != weights_hash(same)
    assert weights_hash(one.bfloat16()) != weights_hash(one.float())
