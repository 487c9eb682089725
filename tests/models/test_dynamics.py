"""The training loss of the dynamics."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from tests.invariants.conftest import make_model


def test_the_loss_is_the_weighted_mean_over_masked_tokens_alone() -> None:
    dynamics = make_model("tiny").dynamics
    logits, target = torch.randn(2, 3, 5, 24), torch.randint(24, (2, 3, 5))
    masked, changed = torch.rand(2, 3, 5) < 0.5, torch.rand(2, 3, 5) < 0.3
    out = dynamics._loss(logits, target, masked, changed)
    losses = F.cross_entropy(logits[masked], target[masked], reduction="none")
    weights = torch.where(changed[masked], dynamics.config.changed_token_weight, 1.0)
    torch.testing.assert_close(out["loss"], (losses * weights).sum() / weights.sum())
    right = (logits.argmax(-1) == target)[masked].float()
    torch.testing.assert_close(out["accuracy"], right.mean())
    torch.testing.assert_close(out["changed_accuracy"], right[changed[masked]].mean())
    other = torch.where(masked[..., None], logits, torch.randn_like(logits))
    torch.testing.assert_close(dynamics._loss(other, target, masked, changed)["loss"], out["loss"])
