"""What a dataset's own files do not say: camera to use and control rate, by dataset name; keys found by rule.

Rates and cameras: the Open X-Embodiment dataset sheet and the configurations of Octo and openvla. Only
fractal20220817_data and bridge_dataset were opened with this code; the others are taken from those lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genie_robot.data.rlds_features import FeatureSpec
from genie_robot.errors import DataError

_OBSERVATION = "steps/observation/"
_INSTRUCTION_NAMES = ("natural_language_instruction", "language_instruction", "instruction")
_PREFERRED_IMAGES = (
    "image",
    "image_0",
    "image_1",
    "image_primary",
    "rgb",
    "rgb_static",
    "front_rgb",
    "agentview_rgb",
)
DEFAULT_RATE_HZ = 5.0


@dataclass(frozen=True)
class DatasetFacts:
    """Camera key under steps/observation ("" = by rule) and control rate in Hz."""

    image_key: str
    rate_hz: float


FACTS: dict[str, DatasetFacts] = {
    "fractal20220817_data": DatasetFacts("image", 3.0),
    "bridge_dataset": DatasetFacts("image_0", 5.0),
    "bridge": DatasetFacts("image", 5.0),
    "kuka": DatasetFacts("image", 10.0),
    "taco_play": DatasetFacts("rgb_static", 15.0),
    "jaco_play": DatasetFacts("image", 10.0),
    "berkeley_cable_routing": DatasetFacts("image", 10.0),
    "roboturk": DatasetFacts("front_rgb", 10.0),
    "viola": DatasetFacts("agentview_rgb", 20.0),
    "berkeley_autolab_ur5": DatasetFacts("image", 5.0),
    "toto": DatasetFacts("image", 30.0),
    "language_table": DatasetFacts("rgb", 10.0),
    "bc_z": DatasetFacts("image", 10.0),
    "droid": DatasetFacts("exterior_image_1_left", 15.0),
}


def image_path(name: str, tree: Mapping[str, FeatureSpec], image_key: str | None) -> str:
    """Path of the camera image: the key asked for, else the registry's, else a rule; DataError lists what is there.

    Rule: usual names first, then any three-channel image whose name does not say wrist, hand, gripper or depth.
    """
    images = {
        path.removeprefix(_OBSERVATION): path
        for path, spec in tree.items()
        if spec.kind == "image" and path.startswith("steps/") and spec.shape[-1:] in ((3,), ())
    }
    if image_key is not None:
        if image_key not in images:
            raise DataError(f"{name} has no camera {image_key!r}; wanted one of {sorted(images)}")
        return images[image_key]
    known = FACTS[name].image_key if name in FACTS else ""
    usual = [key for key in (known, *_PREFERRED_IMAGES) if key in images]
    outside = [
        key for key in sorted(images) if not any(w in key for w in ("wrist", "hand", "gripper", "depth"))
    ]
    for key in (*usual, *outside, *sorted(images)):
        return images[key]
    raise DataError(
        f"{name} has no RGB images under steps/; found {sorted(tree)}: wanted an RLDS robot dataset"
    )


def instruction_path(tree: Mapping[str, FeatureSpec]) -> str | None:
    """Path of the language instruction, or None when the dataset has none as text."""
    for folder in (_OBSERVATION, "steps/"):
        for key in _INSTRUCTION_NAMES:
            if folder + key in tree and tree[folder + key].kind == "text":
                return folder + key
    return None


def action_paths(name: str, tree: Mapping[str, FeatureSpec]) -> list[str]:
    """Paths whose values, side by side, are the 7-DoF action: three leaves as in fractal, or one flat leaf of 7.

    Values are not converted: the gripper number is the dataset's own (fractal: +1 close, -1 open; bridge: 1 open, 0 closed).
    """
    parts = [f"steps/action/{key}" for key in ("world_vector", "rotation_delta", "gripper_closedness_action")]
    if all(part in tree for part in parts):
        return parts
    if "steps/action" in tree and tree["steps/action"].shape == (7,):
        return ["steps/action"]
    found = {path: spec.shape for path, spec in tree.items() if path.startswith("steps/action")}
    raise DataError(
        f"{name} has no 7-DoF action (found {found}); wanted {', '.join(parts)} or steps/action of 7: read it without actions"
    )
