"""Training a dynamics that robot actions lead beside latent ones: labels reach it as stored, and a run goes on exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_robot.config import TrainConfig
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.world_session import WorldSession
from genie_robot.training import checkpoint, run, stages
from genie_robot.training.action_rows import KnownActions, drawn_rows
from tests.training.conftest import moving_square, with_fields

ROBOT: dict[str, dict[str, Any]] = {
    "data": {"label_share": 1.0},
    "model": {
        "latent_action": {"quantizer": "rvq", "num_codebooks": 2},
        "dynamics": {"robot_action_dim": 7, "own_history": 0.5},
    },
}
MakeConfig = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def labelled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares whose actions have mean 5 and deviation 2 in each number."""
    draw = np.random.default_rng(0)
    splits = {
        split: (
            e | {"actions": draw.normal(5.0, 2.0, (10, 7)).astype(np.float32)} for e in moving_square(n, seed)
        )
        for split, n, seed in (("train", 12, 0), ("val", 3, 1))
    }
    root = tmp_path_factory.mktemp("labelled")
    return write_dataset(root, "squares", "1.0.0", splits, (16, 24), rate_hz=5.0)


def robot_config(make_config: MakeConfig, data: Path, output: str) -> TrainConfig:
    return with_fields(with_fields(make_config("all", output), **ROBOT), data={"path": str(data)})


def test_a_run_gives_a_model_that_takes_robot_actions_and_goes_on_bit_for_bit(
    make_config: MakeConfig, labelled_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    means: list[float] = []

    def spy(embedding: Any, config: Any, known: KnownActions, generators: Any) -> torch.Tensor:
        means.append(float(known.robot_BSR.mean()))
        return drawn_rows(embedding, config, known, generators)

    monkeypatch.setattr(stages, "drawn_rows", spy)
    straight = robot_config(make_config, labelled_data, "straight")
    model = WorldModel.load(run.run(straight))
    assert np.mean(means) == pytest.approx(5.0, abs=0.5), "as stored: the network standardises them itself"
    embedding = model.dynamics.embed_action
    assert isinstance(embedding, MixedEmbedding)
    torch.testing.assert_close(embedding.robot_mean_R, torch.full((7,), 5.0), atol=0.6, rtol=0)
    torch.testing.assert_close(embedding.robot_scale_R, torch.full((7,), 2.0), atol=0.6, rtol=0)

    again = robot_config(make_config, labelled_data, "again")
    run.run(again)
    folder = Path(again.output) / "dynamics" / "checkpoints"
    for path in (checkpoint.checkpoints(folder)[-1], Path(again.output) / "world_model"):
        shutil.rmtree(path)
    rest = WorldModel.load(run.run(again))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, rest.state_dict()[name]), name

    frames = []
    for action in (np.full((1, 7), 5.0), np.full((1, 7), 30.0)):
        session = WorldSession(model, maskgit_steps=2)
        session.reset(np.zeros((1, 2, 16, 24, 3), np.uint8))
        frames.append(session.step(model.action_rows(robot_BR=action)))
    assert frames[0].shape == (1, 16, 24, 3)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"data": {"label_share": 0.0}}, "wanted it above 0 with one of these"),
        ({"data": {"tokens": True}}, "data.tokens=True"),
        ({"training": {"co_training": "parallel"}}, "co_training=parallel"),
        ({"model": {"dynamics": {"robot_share": 0.9}}}, "at most 1"),
        (
            {
                "model": {"dynamics": {"robot_action_dim": 0, "memory_share": 0.5}},
                "data": {"label_share": 0.0, "tokens": True},
            },
            "memory_share: got 0.5",
        ),
        (
            {"model": {"latent_action": {"quantizer": "gaussian", "num_codebooks": 1}}},
            "robot_action_dim: got 7, wanted 0",
        ),
    ],
)
def test_what_does_not_go_with_robot_actions_is_refused(
    make_config: MakeConfig, labelled_data: Path, fields: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        with_fields(robot_config(make_config, labelled_data, "run"), **fields)


def test_actions_of_another_size_are_refused(make_config: MakeConfig, labelled_data: Path) -> None:
    config = robot_config(make_config, labelled_data, "run")
    with pytest.raises(ConfigError, match=r"robot_action_dim: got 6, .* have 7 numbers"):
        run.run(with_fields(config, model={"dynamics": {"robot_action_dim": 6}}))


def test_no_latent_action_leads_over_a_gap(
    make_config: MakeConfig, labelled_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film remembered: the step over the gap is known by the robot's action or not at all."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = stages.DynamicsStage._without_gaps

    def spy(stage: Any, actions: torch.Tensor, batch: Any) -> torch.Tensor:
        known = original(stage, actions, batch)
        seen.append((known, batch.gaps_B))
        return known

    monkeypatch.setattr(stages.DynamicsStage, "_without_gaps", spy)
    config = robot_config(make_config, labelled_data, "memory")
    run.run(with_fields(config, model={"dynamics": {"memory_share": 1.0}}))
    latent = 2 * config.model.latent_action.num_actions + config.model.latent_action.code_dim
    over_gaps, others = [], []
    for known, gaps in seen:
        over_gaps += known[gaps > 0][:, 0, :latent].flatten().tolist()
        others += known[gaps > 0][:, 1:, :latent].flatten().tolist()
    assert over_gaps and np.isnan(over_gaps).all() and not np.isnan(others).all()
