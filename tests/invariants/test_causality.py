"""No network may look into the future (the latent action decoder: tests/models/test_latent_action.py)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from genie_robot.models.world_model import WorldModel
from tests.invariants.conftest import random_actions

Video = Callable[..., torch.Tensor]


@pytest.mark.parametrize("changed", [1, 3, 4])
def test_tokens_and_pixels_depend_on_the_past_only(model: WorldModel, video: Video, changed: int) -> None:
    first = video()
    second = first.clone()
    second[:, changed:] = torch.rand_like(second[:, changed:])
    a, b = model.tokenizer.encode(first), model.tokenizer.encode(second)
    assert torch.equal(a[:, :changed], b[:, :changed])
    assert not torch.equal(a[:, changed:], b[:, changed:])
    mixed = a.clone()
    mixed[:, changed:] = (mixed[:, changed:] + 1) % 24
    shown, other = model.tokenizer.decode(a), model.tokenizer.decode(mixed)
    torch.testing.assert_close(shown[:, :changed], other[:, :changed], rtol=0, atol=1e-12)
    assert (shown[:, changed] - other[:, changed]).abs().max() > 1e-6


def test_a_latent_action_depends_on_frames_up_to_its_own_result(model: WorldModel, video: Video) -> None:
    first = video()
    second = first.clone()
    second[:, 3:] = torch.rand_like(second[:, 3:])
    a, b = (model.latent_action.encoder(model.action_input(clip)) for clip in (first, second))
    torch.testing.assert_close(a[:, :2], b[:, :2], rtol=0, atol=1e-12)  # steps 0->1 and 1->2
    assert (a[:, 2] - b[:, 2]).abs().max() > 1e-6  # step 2->3 sees frame 3


def test_dynamics_logits_depend_on_the_past_alone(model: WorldModel) -> None:
    tokens, actions = torch.randint(24, (2, 5, 24)), random_actions(model, 2, 4)
    dynamics = model.dynamics
    logits = dynamics.logits(tokens, dynamics.produced_by(actions))
    later = tokens.clone()
    later[:, 3:] = (later[:, 3:] + 1) % 24
    changed = dynamics.logits(later, dynamics.produced_by(actions))
    torch.testing.assert_close(logits[:, :3], changed[:, :3], rtol=0, atol=1e-12)
    assert (logits[:, 3:] - changed[:, 3:]).abs().amax((0, 2, 3)).min() > 1e-6


@pytest.mark.parametrize("step", range(4))
def test_action_t_changes_frame_t_plus_1_and_none_before(model: WorldModel, step: int) -> None:
    tokens, actions = torch.randint(24, (2, 5, 24)), random_actions(model, 2, 4)
    other = actions.clone()
    other[:, step] = (
        -actions[:, step] if actions.is_floating_point() else (actions[:, step] + 1) % model.num_actions
    )
    dynamics = model.dynamics
    a = dynamics.logits(tokens, dynamics.produced_by(actions))
    b = dynamics.logits(tokens, dynamics.produced_by(other))
    torch.testing.assert_close(a[:, : step + 1], b[:, : step + 1], rtol=0, atol=1e-12)
    assert (a[:, step + 1] - b[:, step + 1]).abs().max() > 1e-6
