"""LeRobot policy folders, with a stand-in for the package: it has the names and signatures of lerobot 0.4.4 that we use.

lerobot brings its own torch and torchvision and is not installed here. The stand-in was written from its source:
`configs/policies.py` (PreTrainedConfig), `policies/factory.py` (get_policy_class, make_pre_post_processors),
`policies/pretrained.py` (from_pretrained, reset, select_action), `utils/control_utils.py` (predict_action).
"""

from __future__ import annotations

import json
import sys
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genie_robot.errors import ConfigError
from genie_robot.simulation.lerobot_policy import LeRobotPolicy, open_lerobot_policy

CAMERA = "observation.images.front"


class FeatureType(StrEnum):
    STATE = "STATE"
    VISUAL = "VISUAL"
    ACTION = "ACTION"


@dataclass
class Config:
    type: str
    input_features: dict[str, Any]
    output_features: dict[str, Any]
    device: str = "cuda"

    @classmethod
    def from_pretrained(cls, folder: str, *, local_files_only: bool = False, **_: Any) -> Config:
        assert local_files_only, "no network"
        stored = json.loads((Path(folder) / "config.json").read_text())

        def features(name: str) -> dict[str, Any]:
            return {
                key: SimpleNamespace(type=FeatureType(value["type"]), shape=tuple(value["shape"]))
                for key, value in stored[name].items()
            }

        return cls(stored["type"], features("input_features"), features("output_features"))


class ChunkPolicy(nn.Module):
    """Plans two actions at a time: the mean colour, times its weight, plus noise."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 7))
        self.config = config

    @classmethod
    def from_pretrained(
        cls, folder: str, *, config: Config, local_files_only: bool = False, **_: Any
    ) -> ChunkPolicy:
        assert local_files_only and config.device == "cpu"
        policy = cls(config)
        policy.load_state_dict(load_file(Path(folder) / "model.safetensors"))
        return policy

    def reset(self) -> None:
        self._queue: deque[Tensor] = deque()

    def select_action(self, batch: dict[str, Any]) -> Tensor:
        assert batch["task"] == "push the object to the goal disc" and batch["normalised"]
        if not self._queue:
            colour_BC = batch[CAMERA].mean(dim=(2, 3))
            self._queue.extend(colour_BC @ self.weight + 0.01 * torch.randn(1, 7) for _ in range(2))
        return self._queue.popleft()


@pytest.fixture
def lerobot(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The stand-in; returns what its processors were asked for."""
    asked: list[Any] = []

    def processors(config: Config, pretrained_path: str | None = None, **kwargs: Any) -> tuple[Any, Any]:
        asked.append((pretrained_path, kwargs))
        return (lambda batch: batch | {"normalised": True}), (lambda action: action * 10)

    configs, factory = ModuleType("lerobot.configs.policies"), ModuleType("lerobot.policies.factory")
    configs.PreTrainedConfig = Config  # type: ignore[attr-defined]
    factory.get_policy_class = {"chunk": ChunkPolicy}.__getitem__  # type: ignore[attr-defined]
    factory.make_pre_post_processors = processors  # type: ignore[attr-defined]
    for module in (configs, factory):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "pretrained_model")


def write(folder: Path, inputs: dict[str, Any] | None = None, actions: int = 7) -> Path:
    folder.mkdir(exist_ok=True)
    config = {
        "type": "chunk",
        "input_features": inputs or {CAMERA: {"type": "VISUAL", "shape": [3, 32, 48]}},
        "output_features": {"action": {"type": "ACTION", "shape": [actions]}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.arange(21.0).reshape(3, 7) / 100}, folder / "model.safetensors")
    return folder


def image(red: int) -> np.ndarray:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = red
    return picture


def test_an_image_goes_through_processors_and_policy(lerobot: list[Any], folder: Path) -> None:
    policy = open_lerobot_policy(str(folder), "manipulation")("push")
    policy.reset(1)
    action = policy.act(image(255))
    assert action.shape == (7,) and action == pytest.approx(np.arange(7) / 10, abs=0.5)
    assert lerobot == [(str(folder), {"preprocessor_overrides": {"device_processor": {"device": "cpu"}}})]


def test_episodes_side_by_side_have_queues_of_their_own_and_share_the_weights(
    lerobot: list[Any], folder: Path
) -> None:
    make = open_lerobot_policy(str(folder), "manipulation")
    one, other, alone = make("push"), make("push"), make("push")
    for policy in (one, other, alone):
        policy.reset(1)
    expected = [alone.act(image(0)) for _ in range(3)]
    found = []
    for _ in range(3):
        found.append(one.act(image(0)))
        other.act(image(255))
    assert np.array_equal(found, expected)
    assert isinstance(one, LeRobotPolicy) and one._policy.weight is other._policy.weight
    one.reset(1)
    assert np.array_equal(one.act(image(0)), expected[0])
    one.reset(2)
    assert not np.array_equal(one.act(image(0)), expected[0])


def test_without_lerobot_one_line_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lerobot.configs.policies", None)
    with pytest.raises(ConfigError, match="is not installed; wanted the package lerobot"):
        open_lerobot_policy(str(folder), "manipulation")


def test_what_this_world_cannot_give_is_refused(lerobot: list[Any], folder: Path, tmp_path: Path) -> None:
    state = {
        CAMERA: {"type": "VISUAL", "shape": [3, 32, 48]},
        "observation.state": {"type": "STATE", "shape": [6]},
    }
    with pytest.raises(ConfigError, match=r"wants .*observation\.state; wanted one camera and nothing else"):
        open_lerobot_policy(str(write(folder, state)), "manipulation")
    with pytest.raises(ConfigError, match=r"actions of shape \[\(6,\)\]"):
        open_lerobot_policy(str(write(folder, actions=6)), "manipulation")


def test_a_folder_that_is_none_or_damaged(lerobot: list[Any], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config\.json there; wanted a LeRobot policy folder"):
        open_lerobot_policy(str(tmp_path / "nothing"), "manipulation")
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_lerobot_policy(str(folder), "manipulation")
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        open_lerobot_policy(str(folder), "manipulation")
