"""A run that begins with the weights of a model folder: fine-tuning on other data, without the stages before."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genie_robot.config import TrainConfig
from genie_robot.errors import ConfigError, ModelFolderError
from genie_robot.models.world_model import WorldModel
from genie_robot.training import checkpoint, run
from tests.training.conftest import with_fields

MakeConfig = Callable[..., TrainConfig]
HARDLY = {"learning_rate": 1e-12, "muon_learning_rate": 1e-12, "weight_decay": 0.0}


@pytest.fixture
def begun(make_config: MakeConfig) -> tuple[Path, Callable[..., TrainConfig]]:
    """A trained model folder, and the configuration of a run that begins with it."""
    folder = run.run(make_config("all", output="first"))

    def one(stage: str, **fields: object) -> TrainConfig:
        config = make_config(stage, output="second", **fields)
        return dataclasses.replace(config, init_from=str(folder))

    return folder, one


def _distance(a: torch.nn.Module, b: torch.nn.Module) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((x - y).detach().abs().max()) for x, y in pairs)


def test_the_last_stage_alone_goes_on_from_a_model_folder(begun) -> None:
    folder, one = begun
    before = WorldModel.load(folder)
    second = run.run(one("dynamics", steps=2, **HARDLY))
    assert second != folder
    same = WorldModel.load(second)
    assert all(_distance(getattr(before, n), getattr(same, n)) == 0 for n in ("tokenizer", "latent_action"))
    assert _distance(before.dynamics, same.dynamics) < 1e-9, "it began there"
    shutil.rmtree(second.parent)
    trained = WorldModel.load(run.run(one("dynamics")))
    assert _distance(before.dynamics, trained.dynamics) > 1e-4, "and was trained"
    card = (second / "README.md").read_text()
    assert "Begun with the weights of `world_model`" in card and "| tokenizer | 0 | 0 | as it was |" in card


def test_every_stage_begins_there_and_its_own_checkpoints_come_first(begun) -> None:
    folder, one = begun
    config = one("tokenizer", steps=2, **HARDLY)
    run.run(config)
    tokenizer = WorldModel(config.model).tokenizer
    place = Path(config.output) / "tokenizer" / "checkpoints"
    assert checkpoint.load_weights(place, "tokenizer", tokenizer, averaged=False)
    assert _distance(WorldModel.load(folder).tokenizer, tokenizer) < 1e-9
    longer = one("tokenizer", steps=6)
    run.run(longer)
    assert checkpoint.load_weights(place, "tokenizer", tokenizer, averaged=False)
    trained = {name: t.clone() for name, t in tokenizer.state_dict().items()}
    model = WorldModel.load(run.run(one("all")))
    assert all(torch.equal(trained[name], t) for name, t in model.tokenizer.state_dict().items())


def test_a_folder_that_does_not_fit_is_refused(begun, tmp_path: Path) -> None:
    _, one = begun
    wider = {"dynamics": {"transformer": {"dim": 48, "num_heads": 4}}}
    with pytest.raises(ConfigError, match=r"dynamics of .* is another network"):
        run.run(with_fields(one("dynamics"), model=wider))
    other = {"tokenizer": {"change_weight": 7.5}}
    with pytest.raises(ConfigError, match=r"tokenizer of .* has change_weight .*wanted 7\.5"):
        run.run(with_fields(one("dynamics"), model=other))
    with pytest.raises(ModelFolderError, match="wanted a model folder"):
        run.run(dataclasses.replace(one("dynamics"), init_from=str(tmp_path / "nothing")))
