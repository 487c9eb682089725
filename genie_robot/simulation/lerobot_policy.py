"""A LeRobot policy folder (config.json, model.safetensors, processors) as a policy: `lerobot:FOLDER`.

The one file that uses the package `lerobot` (0.4: `lerobot.configs.policies`, `lerobot.policies.factory`), which is not
a dependency of this project. Its documented steps: `PreTrainedConfig.from_pretrained`, `get_policy_class`,
`from_pretrained`, `make_pre_post_processors`, then preprocessor, `select_action`, postprocessor for each image.

Only policies whose one input is one camera can be run: a world model imagines pictures, not joint angles.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from genie_robot.data.resize import resize_frame
from genie_robot.errors import ConfigError
from genie_robot.simulation.suites import get_suite
from genie_robot.simulation.user_policies import TorchStream

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
ACTION_SIZE = 7


class LeRobotPolicy:
    """One episode of a LeRobot policy, on the CPU. Its queues (history, action chunks) are its own; weights are shared."""

    def __init__(
        self,
        policy: Any,
        processors: tuple[Callable[[Any], Any], Callable[[Any], Any]],
        camera: str,
        image_hw: tuple[int, int],
        instruction: str,
    ) -> None:
        shared = {id(tensor): tensor for tensor in itertools.chain(policy.parameters(), policy.buffers())}
        self._policy = copy.deepcopy(policy, shared)
        self._before, self._after = copy.deepcopy(processors)
        self._camera, self._image_hw, self._instruction = camera, image_hw, instruction

    def reset(self, seed: int) -> None:
        """Start the episode `seed`, which also seeds the noise of a policy that samples."""
        self._policy.reset()
        self._stream = TorchStream(seed)

    @torch.no_grad()
    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action (7,) for an image uint8 (Y, X, 3)."""
        image = resize_frame(image, *self._image_hw)
        picture_BCYX = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255.0
        with self._stream:
            batch = self._before({self._camera: picture_BCYX, "task": self._instruction, "robot_type": ""})
            action = self._after(self._policy.select_action(batch))
        return np.asarray(action.detach().float().cpu())[0]


def open_lerobot_policy(folder: str, suite: str) -> Callable[[str], LeRobotPolicy]:
    """Load the policy in `folder` once; the result makes one episode's policy for a task. ConfigError says what is wrong."""
    _check_folder(Path(folder))
    try:
        configs = importlib.import_module("lerobot.configs.policies")
        factory = importlib.import_module("lerobot.policies.factory")
    except ImportError as error:
        raise ConfigError(
            f"policy lerobot:{folder}: {error.name or 'lerobot'} is not installed; wanted the package lerobot, 0.4 or "
            "later; pip install lerobot (it brings its own versions of torch and torchvision)"
        ) from error
    try:
        config = configs.PreTrainedConfig.from_pretrained(folder, local_files_only=True)
        config.device = "cpu"
        camera, image_hw = _one_camera(folder, config)
        policy = factory.get_policy_class(config.type).from_pretrained(
            folder, config=config, local_files_only=True
        )
        processors = factory.make_pre_post_processors(
            config, pretrained_path=folder, preprocessor_overrides={"device_processor": {"device": "cpu"}}
        )
    except ConfigError:
        raise
    except Exception as error:  # LeRobot reports damage by whatever its readers raise
        raise ConfigError(
            f"policy lerobot:{folder} cannot be loaded ({type(error).__name__}: {error}); wanted a folder that this version "
            "of lerobot saved, with its processors"
        ) from error
    assert isinstance(policy, nn.Module)
    tasks = get_suite(suite)
    return lambda task: LeRobotPolicy(
        policy.eval(), processors, camera, image_hw, tasks.instruction(tasks.check_task(task))
    )


def _check_folder(folder: Path) -> None:
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"policy lerobot:{folder}: no {missing[0]} there; wanted a LeRobot policy folder, as in "
            "outputs/train/.../checkpoints/last/pretrained_model"
        )
    try:
        json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{folder / CONFIG_FILE} is not JSON ({error}); save the policy again") from error


def _one_camera(folder: str, config: Any) -> tuple[str, tuple[int, int]]:
    """The name and size (Y, X) of the policy's one camera; ConfigError where it wants more, or other actions than ours."""
    inputs = dict(config.input_features or {})
    cameras = [name for name, feature in inputs.items() if _kind(feature) == "VISUAL"]
    others = [name for name, feature in inputs.items() if _kind(feature) in ("STATE", "ENV")]
    if len(cameras) != 1 or others:
        raise ConfigError(
            f"policy lerobot:{folder} wants {', '.join(inputs) or 'nothing'}; wanted one camera and nothing else, because "
            "only pictures are imagined; train it without observation.state"
        )
    shapes = [tuple(feature.shape) for feature in dict(config.output_features or {}).values()]
    if shapes != [(ACTION_SIZE,)]:
        raise ConfigError(
            f"policy lerobot:{folder} has actions of shape {shapes}; wanted one of ({ACTION_SIZE},): dx dy dz, "
            "3 rotations, gripper, each in -1..1"
        )
    _, height, width = inputs[cameras[0]].shape
    return cameras[0], (int(height), int(width))


def _kind(feature: Any) -> str:
    return str(getattr(feature.type, "value", feature.type))
