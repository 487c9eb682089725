"""What the TFDS builders of the simulated datasets share.

`tfds build` puts this folder on the path, so that a builder beside it can import this file. Nothing in genie_robot
imports it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from genie_robot.data.rlds_features import FeatureSpec, features_to_json, fractal_features
from genie_robot.simulation.mujoco.manipulation.generate import Recipe, generate_episodes
from genie_robot.simulation.mujoco.manipulation.tasks import STATE_NAMES

Tree = Mapping[str, FeatureSpec]


class SimulatedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Simulated episodes in the layout of fractal20220817_data; a dataset names its task, or overrides the methods."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    EPISODES: ClassVar[dict[str, int]] = {"train": 1000, "val": 50, "test": 50}
    SEED = 0
    TASK = ""

    @property
    def tree(self) -> Tree:
        """The dataset's features."""
        return fractal_features(Recipe(self.TASK).image_hw, "png", len(STATE_NAMES))

    def episodes(self, split: str, count: int) -> Iterator[dict[str, Any]]:
        """Yield the episodes of a split, with encoded frames."""
        return generate_episodes(Recipe(self.TASK), count, self.SEED, split=split, encoded=True)

    @property
    def text(self) -> str:
        """The dataset's description."""
        return Recipe(self.TASK).description

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict.from_json(features_to_json(self.tree))
        return tfds.core.DatasetInfo(builder=self, description=self.text, features=features)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split, count) for split, count in self.EPISODES.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, episode in enumerate(self.episodes(split, count)):
            yield index, to_example(episode, self.tree)


def to_example(episode: dict[str, Any], tree: Tree) -> dict[str, Any]:
    """Return one generated episode (`encoded` frames) as a nested TFDS example; unknown leaves are zero."""
    flat: dict[str, Any] = {f"attributes/{name}": value for name, value in episode["attributes"].items()}
    flat |= {"aspects/has_aspects": True, "aspects/feasible": True, "aspects/success": episode["success"]}
    top = {path: spec for path, spec in tree.items() if not path.startswith("steps/")}
    example = _nest({path: flat.get(path, _zero(spec)) for path, spec in top.items()})
    example["steps"] = [_step(episode, t, tree) for t in range(len(episode["encoded"]))]
    return example


def _step(episode: dict[str, Any], t: int, tree: Tree) -> dict[str, Any]:
    last = t == len(episode["encoded"]) - 1
    action = episode["actions"][t]
    known = {
        "action/world_vector": action[:3],
        "action/rotation_delta": action[3:6],
        "action/gripper_closedness_action": action[6:],
        "action/terminate_episode": np.array([0, 1, 0], np.int32),  # goes on: episodes end by length only
        "is_first": t == 0,
        "is_last": last,
        "is_terminal": False,
        "observation/image": io.BytesIO(episode["encoded"][t]),
        "observation/natural_language_instruction": episode["instruction"],
        "observation/state": episode["state"][t],
        "reward": episode["rewards"][t],
    }
    leaves = {p.removeprefix("steps/"): spec for p, spec in tree.items() if p.startswith("steps/")}
    assert set(known) <= set(leaves), "the feature tree has changed"
    return _nest({path: known[path] if path in known else _zero(spec) for path, spec in leaves.items()})


def _zero(spec: Any) -> Any:
    return "" if spec.kind == "text" else np.zeros(spec.shape, spec.dtype)


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        node = nested
        *folders, name = path.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = value
    return nested
