"""The temporal cache is exact: cached = recomputed, and training shows the model what the cached sampler does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from genie_robot.config import SamplingConfig
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.world_model import WorldModel
from genie_robot.sampling.context import CachedContext, RecomputedContext
from genie_robot.sampling.rollout import imagine
from genie_robot.simulation.world_session import WorldSession
from tests.invariants.conftest import random_actions, randomised, small_config
from tests.small_models import small_world_model


def _prompt(model: WorldModel, frames: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, actions = torch.randint(24, (3, frames, 24)), random_actions(model, 3, frames - 1)
    return tokens, model.dynamics.produced_by(actions)


def test_cached_logits_equal_recomputed_ones_in_float64(model: WorldModel) -> None:
    contexts = [CachedContext(model.dynamics), RecomputedContext(model.dynamics)]
    for context in contexts:
        torch.manual_seed(3)
        context.append(*_prompt(model))
    for _ in range(8):  # past the window of 6: both drop the older half
        tokens, action = torch.randint(25, (3, 24)), random_actions(model, 3)
        for context in contexts:
            context.make_room()
        cached, recomputed = (context.logits(tokens, action) for context in contexts)
        torch.testing.assert_close(cached, recomputed, rtol=0, atol=1e-11)
        for context in contexts:
            context.append(tokens.clamp_max(23)[:, None], action[:, None])


def test_a_full_window_starts_again_as_a_clip_does(model: WorldModel) -> None:
    """The older half goes, and the first frame that stays is one that no action led to, as in training."""
    context = CachedContext(model.dynamics)
    tokens, actions = torch.randint(24, (2, 6, 24)), random_actions(model, 2, 5)
    context.append(tokens, model.dynamics.produced_by(actions))
    context.make_room()
    assert context.tokens_BTN is not None and context.actions_BT is not None
    assert torch.equal(context.tokens_BTN, tokens[:, 3:])
    wanted = model.dynamics.produced_by(actions[:, 3:])
    torch.testing.assert_close(context.actions_BT, wanted, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("variant", ["tiny", "prepend_rvq", "adaln_gaussian"])
def test_the_first_frame_is_remembered_where_training_had_such_clips(variant: str) -> None:
    config = small_config(variant)
    model = randomised(replace(config, dynamics=replace(config.dynamics, memory_share=0.5)))
    contexts = CachedContext(model.dynamics), RecomputedContext(model.dynamics)
    tokens, actions = torch.randint(24, (2, 14, 24)), random_actions(model, 2, 13)
    produced = model.dynamics.produced_by(actions)
    for at in range(14):
        for context in contexts:
            context.make_room()
            context.append(tokens[:, at : at + 1], produced[:, at : at + 1])
            assert context.tokens_BTN is not None
            assert torch.equal(context.tokens_BTN[:, 0], tokens[:, 0])
            context.make_room()
        cached, recomputed = (context.logits(tokens[:, at], produced[:, at]) for context in contexts)
        torch.testing.assert_close(cached, recomputed, rtol=0, atol=1e-11)


def test_of_an_action_after_a_gap_the_robots_own_part_is_known() -> None:
    dynamics = small_world_model(robot_action_dim=7, num_codebooks=2).dynamics
    embedding = dynamics.embed_action
    assert isinstance(embedding, MixedEmbedding)
    codes, robot = torch.tensor([[1, 2]]), torch.ones(1, 7)
    both = embedding.rows(codes, robot_BSR=robot)
    after = dynamics.after_gap(both)
    assert torch.equal(after.nan_to_num(9.0), embedding.rows(robot_BSR=robot).nan_to_num(9.0))
    assert not both.isnan()[:, :16].any()  # the action itself is left as it was
    assert dynamics.after_gap(torch.tensor([5])).tolist() == [embedding.no_action]


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(1),
        SamplingConfig(4),
        SamplingConfig(24),
        SamplingConfig(4, order="halton", schedule="arccos"),
        SamplingConfig(4, order="confidence"),
    ],
    ids=lambda config: f"{config.order}-{config.steps}",
)
def test_free_run_gives_the_same_tokens_in_float32(model: WorldModel, sampling: SamplingConfig) -> None:
    model.float()
    tokens, actions = _prompt(model)
    future = random_actions(model, 3, 9)
    cached, recomputed = (
        imagine(model.dynamics, tokens, actions, future, range(3), sampling, context)
        for context in (CachedContext, RecomputedContext)
    )
    assert torch.equal(cached, recomputed)


def test_a_pass_without_commit_leaves_no_trace(model: WorldModel) -> None:
    context = CachedContext(model.dynamics)
    context.append(*_prompt(model))
    tokens, action = torch.randint(25, (3, 24)), random_actions(model, 3)
    before = context.logits(tokens, action)
    context.logits(torch.randint(25, (3, 24)), random_actions(model, 3))
    assert torch.equal(before, context.logits(tokens, action))


def test_training_pass_equals_what_the_cached_sampler_computes(model: WorldModel) -> None:
    """Masked copies in the two-stream pass = one cached pass after the finished frames before them."""
    dynamics, steps = model.dynamics, 4
    tokens, actions = torch.randint(24, (2, steps + 1, 24)), random_actions(model, 2, steps)
    produced = dynamics.produced_by(actions)
    masked = torch.where(torch.rand(2, steps, 24) < 0.5, dynamics.mask_id, tokens[:, 1:])
    trained = dynamics.two_stream_logits(tokens[:, :-1], masked, produced)
    for t in range(steps):
        context = CachedContext(dynamics)
        context.append(tokens[:, : t + 1], produced[:, : t + 1])
        sampled = context.logits(masked[:, t], actions[:, t])
        torch.testing.assert_close(trained[:, t], sampled, rtol=0, atol=1e-11)


def test_streamed_decoding_equals_decoding_at_once(model: WorldModel) -> None:
    tokens = torch.randint(24, (2, 6, 24))
    cache = model.tokenizer.new_cache()
    streamed = [model.tokenizer.decode(tokens[:, t : t + 1], cache=cache, commit=True) for t in range(6)]
    torch.testing.assert_close(torch.cat(streamed, 1), model.tokenizer.decode(tokens), rtol=0, atol=1e-11)


def test_forks_share_the_past_and_differ_by_their_action_alone(model: WorldModel) -> None:
    model.float()
    prompt = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    session = WorldSession(model, maskgit_steps=4, seed=5)
    session.reset(prompt)
    actions = random_actions(model, 8).numpy()
    session.step(actions[2])
    futures = session.fork(8).step(actions)
    assert np.array_equal(futures[6], session.step(actions[6]))
    assert len(np.unique(futures.reshape(8, -1), axis=0)) > 1
