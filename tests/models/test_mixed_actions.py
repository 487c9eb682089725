"""One set of dynamics weights led by codes of 1 to L codebooks, by vectors, by robot actions, or by nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from genie_robot.config import DynamicsConfig
from genie_robot.errors import ActionError, ConfigError
from genie_robot.models.action_embedding import ActionMap, MixedEmbedding
from genie_robot.models.world_model import WorldModel
from genie_robot.nn.quantize import code_digits
from genie_robot.sampling.context import CachedContext, RecomputedContext
from genie_robot.simulation.world_session import WorldSession
from genie_robot.training.action_rows import PROMPT_SHARE, KnownActions, drawn_rows, robot_rows
from tests.small_models import small_world_model


@pytest.fixture
def embedding() -> MixedEmbedding:
    torch.manual_seed(0)
    return MixedEmbedding(num_codes=8, num_codebooks=3, vector_dim=4, robot_dim=7, dim=16)


def known_actions(clips: int = 400, steps: int = 3) -> KnownActions:
    draw = torch.Generator().manual_seed(1)
    return KnownActions(
        torch.randint(8, (clips, steps, 3), generator=draw),
        torch.randn(clips, steps, 4, generator=draw),
        torch.randn(clips, steps, 7, generator=draw),
    )


def test_codes_in_one_number_mean_a_row_of_all_codebooks(embedding: MixedEmbedding) -> None:
    codes = torch.tensor([[0, 77, 511, embedding.no_action]])
    rows = embedding.rows(code_digits(codes, 8, 3))
    rows[:, -1] = float("nan")
    assert torch.equal(embedding(codes), embedding(rows))
    assert torch.equal(embedding(codes)[0, -1], embedding.no_action_D)


def test_what_is_not_known_adds_nothing(embedding: MixedEmbedding) -> None:
    known = known_actions(1)
    coarse = embedding(embedding.rows(known.codes_BSL[..., :1]))
    torch.testing.assert_close(coarse, embedding.codes[known.codes_BSL[..., 0]])
    robot = embedding(embedding.rows(robot_BSR=known.robot_BSR))
    torch.testing.assert_close(robot, embedding.robot(known.robot_BSR))
    both = embedding(embedding.rows(known.codes_BSL[..., :1], robot_BSR=known.robot_BSR))
    torch.testing.assert_close(both, coarse + robot)


def test_robot_actions_are_standardised_inside(embedding: MixedEmbedding) -> None:
    raw = known_actions(1).robot_BSR
    before = embedding(embedding.rows(robot_BSR=raw))
    embedding.standardise(np.full(7, 2.0), np.array([3.0] * 6 + [0.0]))
    scale = torch.tensor([3.0] * 6 + [1.0])  # a number that never changes is not divided by nothing
    torch.testing.assert_close(embedding(embedding.rows(robot_BSR=raw * scale + 2.0)), before)


def test_an_action_map_differs_from_place_to_place_and_is_nothing_without_an_action() -> None:
    torch.manual_seed(0)
    maps = ActionMap(robot_dim=7, grid=(4, 6), dim=16)
    robot = torch.randn(2, 3, 7)
    robot[1, 2] = float("nan")
    out = maps(robot)
    assert out.shape == (2, 3, 24, 16) and (out[1, 2] == 0).all()
    assert (out[0, 0, 0] != out[0, 0, 23]).any() and (out[0, 0] != out[0, 1]).any()


def test_cached_frames_led_by_robot_actions_are_the_recomputed_ones() -> None:
    dynamics = small_world_model(robot_action_dim=12).double().dynamics
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    embedding = dynamics.embed_action
    assert isinstance(embedding, MixedEmbedding)
    tokens, new = torch.randint(32, (2, 2, 16)), torch.randint(33, (2, 16))
    rows = embedding.rows(robot_BSR=torch.randn(2, 2, 12)).double()
    produced = dynamics.produced_by(rows)
    contexts = CachedContext(dynamics), RecomputedContext(dynamics)
    for context in contexts:
        context.append(tokens, produced[:, :2])
    cached, recomputed = (context.logits(new, rows[:, 1]) for context in contexts)
    torch.testing.assert_close(cached, recomputed, rtol=0, atol=1e-11)
    turned = rows[:, 1].clone()
    turned[:, -1] += 1.0
    assert (contexts[0].logits(new, turned) != cached).any()


def test_clips_are_led_by_the_stated_shares(embedding: MixedEmbedding) -> None:
    config = DynamicsConfig(robot_action_dim=7, robot_share=0.4, vector_share=0.2, no_action_share=0.1)
    known = known_actions()
    generators = [torch.Generator().manual_seed(seed) for seed in range(400)]
    rows = drawn_rows(embedding, config, known, generators)[:, -1:]  # the last step is of no prompt
    codes, vectors, robot = (~part.isnan() for part in rows.split(embedding.widths, dim=-1))
    has = {
        name: part.any(-1).all(-1)
        for name, part in (("codes", codes), ("vectors", vectors), ("robot", robot))
    }
    assert (sum(part.int() for part in has.values()) <= 1).all()
    for name, share in (("robot", 0.4), ("vectors", 0.2), ("codes", 0.3)):
        assert abs(float(has[name].float().mean()) - share) < 0.08, name
    depths = codes[has["codes"]].sum(-1)[:, 0] // 8
    assert sorted(depths.unique().tolist()) == [1, 2, 3]
    torch.testing.assert_close(robot[has["robot"]].float().mean(), torch.tensor(1.0))


def test_what_leads_a_clip_is_a_matter_of_its_generator_and_some_begin_as_a_prompt(
    embedding: MixedEmbedding,
) -> None:
    config = DynamicsConfig(robot_action_dim=7, robot_share=1.0, vector_share=0.0, no_action_share=0.0)
    known = known_actions()
    rows, again = (
        drawn_rows(embedding, config, known, [torch.Generator().manual_seed(seed) for seed in range(400)])
        for _ in range(2)
    )
    assert torch.equal(rows.nan_to_num(7.0), again.nan_to_num(7.0))
    by_codes = ~rows[..., : embedding.widths[0]].isnan().any(-1)
    assert (by_codes[:, :-1] >= by_codes[:, 1:]).all() and not by_codes[:, -1].any()
    share = float(by_codes[:, 0].float().mean())
    assert abs(share - PROMPT_SHARE * 2 / 3) < 0.05  # one of three places is before the first step
    wanted = embedding.rows(known.codes_BSL)[by_codes]
    assert torch.equal(rows[by_codes].nan_to_num(7.0), wanted.nan_to_num(7.0))


def test_steps_without_a_label_are_led_by_their_codes(embedding: MixedEmbedding) -> None:
    known = known_actions(2)
    known.robot_BSR[1, 2] = float("nan")
    rows = robot_rows(embedding, known)
    alone = embedding.rows(known.codes_BSL)
    assert torch.equal(rows[1, 2].nan_to_num(7.0), alone[1, 2].nan_to_num(7.0))
    assert rows[0].isnan()[:, :24].all() and not rows[0].isnan()[:, -7:].any()


@pytest.fixture(scope="module")
def model() -> WorldModel:
    return small_world_model(robot_action_dim=7, num_codebooks=3)


def prompt() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 2, 64, 64, 3), dtype=np.uint8)


def test_a_session_takes_every_kind_of_action_and_forgets_none_of_them(model: WorldModel) -> None:
    """Also when the window is full and begun anew."""
    kinds = {
        "codes": np.array([5, 300]),
        "coarse": model.action_rows(codes_BL=np.array([[5], [4]])),
        "vectors": model.action_rows(vectors_BK=np.ones((2, 8))),
        "robot": model.action_rows(robot_BR=np.ones((2, 7))),
    }
    for name, action in kinds.items():
        session = WorldSession(model, maskgit_steps=2)
        session.reset(prompt(), seed=3)
        frames = [session.step(action) for _ in range(6)]
        assert all(frame.shape == (2, 64, 64, 3) for frame in frames), name
        again = WorldSession(model, maskgit_steps=2)
        again.reset(prompt(), seed=3)
        for frame in frames:
            np.testing.assert_array_equal(again.step(action), frame)


def test_vectors_before_the_quantizer_give_the_codes(model: WorldModel) -> None:
    video = np.random.default_rng(1).integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8)
    vectors = model.latent_vectors(video)
    assert vectors.shape == (2, 2, 8)
    codes = model.latent_action.quantizer(torch.from_numpy(vectors)).codes
    np.testing.assert_array_equal(codes.numpy(), model.infer_actions(video)[0])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "got nothing"),
        ({"codes_BL": np.array([[8]])}, "whole numbers in 0..7"),
        ({"codes_BL": np.array([[0.5]])}, "whole numbers"),
        ({"codes_BL": np.zeros((1, 4), int)}, r"wanted \(..., 3\)"),
        ({"vectors_BK": np.zeros((1, 7))}, r"wanted \(..., 8\)"),
        ({"robot_BR": np.full((1, 7), np.nan)}, "not finite"),
    ],
)
def test_a_wrong_part_is_refused(model: WorldModel, given: dict, complaint: str) -> None:
    with pytest.raises(ActionError, match=complaint):
        model.action_rows(**given)


def test_a_model_of_latent_actions_has_no_rows_and_a_session_refuses_strange_ones(model: WorldModel) -> None:
    with pytest.raises(ConfigError, match="robot_action_dim"):
        small_world_model().action_rows(robot_BR=np.zeros((1, 7)))
    session = WorldSession(model, maskgit_steps=2)
    session.reset(prompt())
    with pytest.raises(ActionError, match="rows of 39 numbers"):
        session.step(np.zeros((2, 7), np.float32))


def test_own_history_shows_guesses_in_place_of_the_truth_and_never_the_frame_to_predict() -> None:
    model = small_world_model(robot_action_dim=7)
    dynamics = model.dynamics
    tokens = torch.randint(32, (4, 4, 16), generator=torch.Generator().manual_seed(0))
    actions = dynamics.produced_by(torch.zeros(4, 3, dtype=torch.int64))
    object.__setattr__(dynamics.config, "own_history", 0.5)
    seen = dynamics._with_own_history(tokens, tokens, actions, _four_generators())
    own = (seen != tokens).any(-1).any(-1)
    assert 0 < own.sum() < 4
    assert torch.equal(seen[:, 0], tokens[:, 0])
    hidden = torch.full_like(tokens[:, 1:], dynamics.mask_id)
    guess = dynamics.two_stream_logits(tokens[:, :-1], hidden, actions).argmax(-1)
    assert torch.equal(seen[own][:, 1:], guess[own])
    gaps = torch.tensor([3, 3, 3, 3])
    after = dynamics._with_own_history(tokens, tokens, actions, _four_generators(), gaps)
    assert torch.equal(after[:, 1], tokens[:, 1]) and torch.equal(after[:, 2:], seen[:, 2:])


def _four_generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (0, 1, 2, 3)]
