"""The model folder, the presets, and configuration errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import genie_robot
from genie_robot.config import TrainConfig, VideoConfig, WorldModelConfig, from_dict, to_dict
from genie_robot.errors import ConfigError, ModelFolderError
from genie_robot.models.world_model import LatentAction, WorldModel
from genie_robot.simulation.world_session import WorldSession
from tests.invariants.conftest import make_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = make_model("tiny").float()
    actions = list(model.latent_actions)
    actions[3] = LatentAction(3, "left", (0.0, 0.04, 0.0), 0.0, {"samples": 12})
    model.latent_actions = tuple(actions)
    return model.save(tmp_path / "model", "# card\n")


def test_a_saved_model_opens_alone_and_is_the_same(folder: Path) -> None:
    model = genie_robot.load(str(folder))
    original = make_model("tiny").float()
    assert model.hash == original.hash
    assert model.latent_actions[3] == LatentAction(3, "left", (0.0, 0.04, 0.0), 0.0, {"samples": 12})
    video = np.random.default_rng(0).integers(0, 256, (1, 4, 16, 24, 3), np.uint8)
    assert torch.equal(model.encode(video), original.encode(video))
    assert np.array_equal(model.infer_actions(video)[0], original.infer_actions(video)[0])


def test_bfloat16_opens_and_keeps_the_identity_of_the_weights(folder: Path) -> None:
    model = genie_robot.load(str(folder), dtype="bfloat16")
    assert model.dynamics.head.weight.dtype == torch.bfloat16
    assert model.hash == genie_robot.load(str(folder)).hash
    video = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 24, 3), np.uint8)
    assert model.decode(model.encode(video)).shape == video.shape


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "latent_actions.json", "README.md"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=name):
        genie_robot.load(str(folder))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="nowhere"):
        genie_robot.load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("where", [100, -5])
def test_altered_weights_are_refused(folder: Path, where: int) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[where] ^= 0x40
    path.write_bytes(bytes(data))
    with pytest.raises(ModelFolderError, match="copy"):
        genie_robot.load(str(folder))


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelFolderError, match=r"model\.safetensors"):
        genie_robot.load(str(folder))


@pytest.mark.parametrize(
    "text", ["[1, 2", "video: {height: 15}", "nonsense: 1", "video: {height: tall}", "tokenizer: 3"]
)
def test_an_altered_config_is_refused(folder: Path, text: str) -> None:
    (folder / "config.yaml").write_text(text)
    with pytest.raises(ModelFolderError, match=r"config\.yaml"):
        genie_robot.load(str(folder))


def test_a_config_of_another_model_is_refused(folder: Path) -> None:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["dynamics"]["transformer"]["dim"] = 32
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelFolderError, match="does not fit") as caught:
        genie_robot.load(str(folder))
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_latent_actions_of_another_model_are_refused(folder: Path) -> None:
    path = folder / "latent_actions.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "model": "123456789abc"}))
    with pytest.raises(ModelFolderError, match="123456789abc"):
        genie_robot.load(str(folder))
    path.write_text("{")
    with pytest.raises(ModelFolderError, match="latent_actions"):
        genie_robot.load(str(folder))


@pytest.mark.parametrize(("name", "low", "high"), [("robotics_2_5b", 2.4e9, 2.6e9), ("tiny", 1e6, 6e6)])
def test_presets_have_the_size_they_claim(repository_root: Path, name: str, low: float, high: float) -> None:
    values = yaml.safe_load((repository_root / "configs" / "model" / f"{name}.yaml").read_text())
    config = from_dict(TrainConfig, values)
    with torch.device("meta"):
        model = WorldModel(config.model)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert low < sum(count.values()) < high
    if name == "robotics_2_5b":
        assert 1.9e9 < count["dynamics"] < 2.1e9


def test_configs_survive_a_round_trip(repository_root: Path) -> None:
    values = yaml.safe_load((repository_root / "configs" / "model" / "tiny.yaml").read_text())
    config = from_dict(TrainConfig, values)
    assert from_dict(TrainConfig, yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stage": "everything"}, "stage"),
        ({"model": {"video": {"height": 63}}}, "patch_size"),
        ({"model": {"tokenizer": {"quantizer": "kmeans"}}}, "quantizer"),
        ({"model": {"dynamics": {"token_noise": 1.5}}}, "token_noise"),
        ({"training": {"dynamics": {"steps": 0}}}, "steps"),
        ({"training": {"dynamics": {"num_frames": 17}}}, "num_frames"),
        ({"training": {"dynamics": {"num_frames": 4}}}, "num_frames: got 4"),
        ({"training": {"dynamics": {"steps": "many"}}}, "training.dynamics.steps"),
        ({"hardware": {"device": "tpu"}}, "device"),
        ({"model": {"tokeniser": {}}}, "tokeniser"),
    ],
)
def test_a_wrong_field_is_named_before_any_work(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(TrainConfig, values)


def test_configs_cannot_be_changed_after_their_check() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        VideoConfig().height = 63  # type: ignore[misc]
    assert WorldModelConfig().tokens_per_frame == 256


@pytest.mark.parametrize("variant", ["prepend_rvq", "adaln_gaussian", "tokens_full"])
def test_every_kind_of_action_imagines_and_survives_its_folder(variant: str, tmp_path: Path) -> None:
    original = make_model(variant).float()
    original.save(tmp_path)
    model = genie_robot.load(str(tmp_path))
    assert model.hash == original.hash and model.config == original.config
    video = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24, 3), np.uint8)
    clip = model.action_input(model.to_float(video))
    inferred = model.latent_action.infer(clip)[0]
    assert torch.equal(inferred, original.latent_action.infer(clip)[0])
    films = []
    for one in (original, model):
        session = WorldSession(one, maskgit_steps=2)
        session.reset(video)
        films.append(np.stack([session.step(inferred[:, t % 2].numpy()) for t in range(8)]))
    assert np.array_equal(films[0], films[1])
    assert (
        len(json.loads((tmp_path / "latent_actions.json").read_text())["latent_actions"])
        == ({"prepend_rvq": 16, "adaln_gaussian": 0, "tokens_full": 8}[variant])
    )


def test_the_input_of_the_action_model_is_what_it_was_built_for() -> None:
    clip = torch.rand(1, 3, 16, 24, 3, dtype=torch.float64)
    for variant in ("paper", "tokens_full"):
        model = make_model(variant)
        given = model.action_input(clip)
        assert torch.equal(given, clip if variant == "paper" else model.tokenizer.encode(clip))


def test_what_needs_codes_is_refused_in_one_line_for_continuous_actions() -> None:
    model = make_model("adaln_gaussian").float()
    assert model.num_actions == 0 and model.latent_actions == ()
    with pytest.raises(ConfigError, match=r"infer_actions: got .* continuous .* wanted .* codes") as error:
        model.infer_actions(np.zeros((1, 3, 16, 24, 3), np.uint8))
    assert "\n" not in str(error.value)
    make_model("prepend_rvq").require_codes("nothing")
