"""What is known of the datasets of Open X-Embodiment (`datasets.toml`), and which stored features to read.

A file's features.json says what is there; it does not say which camera looks at the scene, how fast the robot was
controlled, or what its action numbers mean. Keys of `datasets.toml`, one table per dataset:

    about, home, cite, licence, notes   words
    path        folder below `server`, NAME/VERSION
    server      address it can be fetched from (absent: the public bucket gs://gresearch/robotics)
    tfds        whether TFDS registers the name
    hz          control rate (absent: unknown)
    cameras     "KEY HEIGHTxWIDTH ROLE", KEY below steps/observation, ROLE primary, second or wrist; the first is used
    code        image encoding (absent: unknown)
    episodes, shards, gib               number of episodes and shard files per split, size of all in GiB
    action      `ActionLayout`s, the first whose features are all there is used; or no_action, the reason why none can be
    soup        weight in openvla's "magic soup"
    drop_first  steps to leave out at the start of each episode
    aliases     other names of the same data
    flags       simulated, wrist_only, no_pictures, no_motion, navigation, human, broken
    opened      whether this code has read real files of it
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genie_robot.data.rlds_features import FeatureSpec
from genie_robot.errors import DataError

log = logging.getLogger(__name__)

_STEPS = "steps/"
OBSERVATION = "steps/observation/"
_INSTRUCTION_NAMES = ("natural_language_instruction", "language_instruction", "instruction")
_PREFERRED_IMAGES = ("image", "image_0", "image_1", "image_primary", "rgb")
_NOT_OUTSIDE = ("wrist", "hand", "gripper")
_FRACTAL_ACTION = ("world_vector", "rotation_delta", "gripper_closedness_action")
_LONG_ENDING = "_converted_externally_to_rlds"
DEFAULT_RATE_HZ = 5.0
#: gs://gresearch/robotics by plain HTTPS
BUCKET = "https://storage.googleapis.com/gresearch/robotics"


@dataclass(frozen=True)
class Camera:
    """A camera's key under steps/observation, its size in pixels, and its role: primary, second or wrist."""

    key: str
    height: int
    width: int
    role: str


@dataclass(frozen=True)
class ActionLayout:
    """Where a dataset keeps the motion of a step, and what the numbers mean (`actions.py` does the sums).

    A place is a path below steps/ with the columns in brackets: "action/world_vector", "action[0:3]", "action[6]".
    `kind`: delta (the motion of the step), pose (measured at the step's frame: motion is to the next one), or target (a
    commanded pose, reached at the next frame). `rotation_as`: vector (rotation vector), rpy or zxy (angles about fixed
    axes), yaw, xyzw or wxyz (quaternion), matrix_rows or matrix_columns (4 x 4 pose; then `move` is the same place).
    `gripper_as`: step (+1 close, -1 open, 0 keep), closed or open (0 to 1), close_positive or open_positive (its sign).
    `metres`, `radians`: size of one unit; metres 0 means metres or millimetres, told apart by their size.
    """

    kind: str
    move: str
    rotation: str = ""
    rotation_as: str = "vector"
    gripper: str = ""
    gripper_as: str = "step"
    metres: float = 1.0
    radians: float = 1.0
    sure: str = "documented"

    @property
    def places(self) -> tuple[str, ...]:
        """The places that are used: motion, rotation, gripper."""
        return tuple(place for place in (self.move, self.rotation, self.gripper) if place)

    @property
    def paths(self) -> list[str]:
        """Full feature paths that hold them, each once."""
        return list(dict.fromkeys(feature_path(place) for place in self.places))


@dataclass(frozen=True)
class DatasetFacts:
    """One dataset; the file's docstring explains the fields. `rate_hz` is None where no one states it."""

    name: str
    about: str
    licence: str
    tfds: bool
    cameras: tuple[Camera, ...]
    home: str = ""
    cite: str = ""
    path: str = ""
    server: str = BUCKET
    rate_hz: float | None = None
    code: str = ""
    episodes: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, int] = field(default_factory=dict)
    gib: float | None = None
    actions: tuple[ActionLayout, ...] = ()
    no_action: str = ""
    soup_weight: float | None = None
    drop_first: int = 0
    aliases: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    opened: bool = False

    @property
    def image_key(self) -> str:
        """The camera that is used where the files have it, "" for none."""
        return self.cameras[0].key if self.cameras else ""

    @property
    def version(self) -> str:
        """Version as in `path`."""
        return self.path.partition("/")[2]


def feature_path(place: str) -> str:
    """Full path of the feature that holds a place of an `ActionLayout`."""
    return _STEPS + place.partition("[")[0]


def _camera(text: str) -> Camera:
    key, size, role = text.split()
    height, width = (int(side) for side in size.split("x"))
    return Camera(key, height, width, role)


def _facts(name: str, table: dict[str, Any]) -> DatasetFacts:
    """One table of datasets.toml -> DatasetFacts."""
    renamed = {"hz": "rate_hz", "soup": "soup_weight", "action": "actions"}
    fields = {renamed.get(key, key): value for key, value in table.items()}
    fields["cameras"] = tuple(_camera(text) for text in fields["cameras"])
    fields["actions"] = tuple(ActionLayout(**layout) for layout in fields.get("actions", ()))
    for key in ("aliases", "flags", "notes"):
        fields[key] = tuple(fields.get(key, ()))
    return DatasetFacts(name, **fields)


def _load() -> dict[str, DatasetFacts]:
    tables = tomllib.loads((Path(__file__).parent / "datasets.toml").read_text(encoding="utf-8"))
    return {name: _facts(name, table) for name, table in tables.items()}


#: dataset name -> facts, each dataset once
REGISTRY: dict[str, DatasetFacts] = _load()
#: the same under every name it has: as in REGISTRY, other names of the same data, and without the long ending
FACTS: dict[str, DatasetFacts] = {
    other: facts
    for name, facts in REGISTRY.items()
    for other in (name, name.removesuffix(_LONG_ENDING), *facts.aliases)
}


def image_keys(tree: Mapping[str, FeatureSpec]) -> list[str]:
    """What `image_key` can be: keys under steps/observation (else their path) of the colour images."""
    return list(_images(tree))


def _images(tree: Mapping[str, FeatureSpec]) -> dict[str, str]:
    return {
        path.removeprefix(OBSERVATION): path
        for path, spec in tree.items()
        if spec.kind == "image" and path.startswith(_STEPS) and spec.shape[-1:] in ((3,), (), (-1,))
    }


def image_path(name: str, tree: Mapping[str, FeatureSpec], image_key: str | None) -> str:
    """Path of the camera image: the key asked for, else the registry's, else a rule; DataError lists what is there.

    Rule: usual names first, then any colour image whose name does not say wrist, hand or gripper, then, with a warning,
    a wrist camera. Depth images (one channel, or named so) are never taken.
    """
    images = _images(tree)
    if image_key is not None:
        if image_key not in images:
            raise DataError(f"{name} has no camera {image_key!r}; wanted one of {sorted(images)}")
        return images[image_key]
    cameras = FACTS[name].cameras if name in FACTS else ()
    outside = [key for key in sorted(images) if not any(word in key for word in (*_NOT_OUTSIDE, "depth"))]
    wrist = {camera.key for camera in cameras if camera.role == "wrist"}
    candidates = [*(camera.key for camera in cameras if camera.role != "wrist"), *_PREFERRED_IMAGES, *outside]
    for key in candidates:
        if key in images and key not in wrist:
            return images[key]
    for key in (*(camera.key for camera in cameras), *sorted(images)):
        if key in images and "depth" not in key:
            log.warning("%s has wrist cameras only: taking %s", name, key)
            return images[key]
    raise DataError(
        f"{name} has no RGB images under steps/; found {sorted(tree)}: wanted an RLDS robot dataset"
    )


def instruction_path(tree: Mapping[str, FeatureSpec]) -> str | None:
    """Path of the language instruction, or None when the dataset has none as text."""
    for folder in (OBSERVATION, _STEPS):
        for key in _INSTRUCTION_NAMES:
            if folder + key in tree and tree[folder + key].kind == "text":
                return folder + key
    return None


def action_layout(name: str, tree: Mapping[str, FeatureSpec]) -> ActionLayout | None:
    """The layout of `name` whose features are all in the tree; None for a dataset that the registry does not know.

    DataError in one line where no end-effector motion can be had.
    """
    if name not in FACTS:
        return None
    facts = FACTS[name]
    for layout in facts.actions:
        if all(path in tree for path in layout.paths):
            return layout
    reason = facts.no_action or f"wanted {' or '.join(str(layout.paths) for layout in facts.actions)}"
    raise DataError(f"{name} has no end-effector motion to read ({reason}): read it without actions")


def action_paths(name: str, tree: Mapping[str, FeatureSpec]) -> list[str]:
    """Paths of the features that `actions.common_actions` needs; DataError when there is no end-effector motion.

    A dataset that the registry does not know needs three leaves as fractal20220817_data, or one flat leaf of 7.
    """
    layout = action_layout(name, tree)
    if layout is not None:
        return layout.paths
    parts = [f"steps/action/{key}" for key in _FRACTAL_ACTION]
    if all(part in tree for part in parts):
        return parts
    if "steps/action" in tree and tree["steps/action"].shape == (7,):
        return ["steps/action"]
    found = {path: spec.shape for path, spec in tree.items() if path.startswith("steps/action")}
    raise DataError(
        f"{name} has no 7-DoF action (found {found}); wanted {', '.join(parts)} or steps/action of 7: read it without actions"
    )
