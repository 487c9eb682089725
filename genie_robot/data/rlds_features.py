"""What the features of an RLDS dataset are: the fractal20220817_data tree, and features.json read and written.

The tree is copied from the TFDS catalog page of fractal20220817_data 0.1.0 (RT-1). TFDS stores every leaf of an
episode under its path joined by '/', e.g. `steps/observation/image`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genie_robot.errors import DataError

_PREFIX = "tensorflow_datasets.core.features."


@dataclass(frozen=True)
class FeatureSpec:
    """One leaf: `kind` image, text or tensor; `shape` of one step (-1 for unknown); dtype name; image encoding."""

    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    encoding: str = ""


def _flag() -> FeatureSpec:
    return FeatureSpec("tensor", (), "bool")


_ATTRIBUTES = ("collection_mode", "data_type", "env", "location", "objects_family", "task_family")
_ACTION_SHAPES: dict[str, tuple[int, ...]] = {
    "base_displacement_vector": (2,),
    "base_displacement_vertical_rotation": (1,),
    "gripper_closedness_action": (1,),
    "rotation_delta": (3,),
    "world_vector": (3,),
}
_OBSERVATION_SHAPES: dict[str, tuple[int, ...]] = {
    "base_pose_tool_reached": (7,),
    "gripper_closed": (1,),
    "gripper_closedness_commanded": (1,),
    "height_to_bottom": (1,),
    "natural_language_embedding": (512,),
    "orientation_box": (2, 3),
    "orientation_start": (4,),
    "robot_orientation_positions_box": (3, 3),
    "rotation_delta_to_go": (3,),
    "src_rotation": (4,),
    "vector_to_go": (3,),
    "workspace_bounds": (3, 3),
}


def fractal_features(
    image_hw: tuple[int, int], encoding: str = "jpeg", state_size: int = 0
) -> dict[str, FeatureSpec]:
    """Leaves of fractal20220817_data with this image size, plus `steps/observation/state` when state_size > 0."""
    names = ("already_success", "feasible", "has_aspects", "success", "undesirable")
    tree = {f"aspects/{name}": _flag() for name in names}
    for name in _ATTRIBUTES:
        tree[f"attributes/{name}"] = FeatureSpec("tensor", (), "int64")
        tree[f"attributes/{name}_name"] = FeatureSpec("text")
    tree |= {f"steps/action/{name}": FeatureSpec("tensor", shape) for name, shape in _ACTION_SHAPES.items()}
    tree["steps/action/terminate_episode"] = FeatureSpec("tensor", (3,), "int32")
    tree |= {f"steps/{name}": _flag() for name in ("is_first", "is_last", "is_terminal")}
    tree |= {f"steps/observation/{name}": FeatureSpec("tensor", s) for name, s in _OBSERVATION_SHAPES.items()}
    tree["steps/observation/image"] = FeatureSpec("image", (*image_hw, 3), "uint8", encoding)
    tree["steps/observation/natural_language_instruction"] = FeatureSpec("text")
    tree["steps/reward"] = FeatureSpec("tensor")
    if state_size:
        tree["steps/observation/state"] = FeatureSpec("tensor", (state_size,))
    return tree


def _leaf_json(path: str, spec: FeatureSpec) -> dict[str, Any]:
    shape: dict[str, Any] = {"dimensions": [str(size) for size in spec.shape]} if spec.shape else {}
    if spec.kind == "text":
        return {"pythonClassName": _PREFIX + "text_feature.Text", "text": {}}
    if spec.kind == "image":
        image = {"dtype": "uint8", "encodingFormat": spec.encoding, "shape": shape}
        return {"pythonClassName": _PREFIX + "image_feature.Image", "image": image}
    class_name = "scalar.Scalar" if path == "steps/reward" else "tensor_feature.Tensor"
    return {
        "pythonClassName": _PREFIX + class_name,
        "tensor": {"dtype": spec.dtype, "encoding": "none", "shape": shape},
    }


def _dict_json(children: dict[str, Any]) -> dict[str, Any]:
    return {
        "featuresDict": {"features": children},
        "pythonClassName": _PREFIX + "features_dict.FeaturesDict",
    }


def features_to_json(tree: Mapping[str, FeatureSpec]) -> dict[str, Any]:
    """Leaves -> the content of features.json as TFDS writes it; `steps` becomes a Dataset feature."""
    nested: dict[str, Any] = {}
    for path, spec in tree.items():
        node = nested
        *folders, name = path.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = _leaf_json(path, spec)

    def build(node: dict[str, Any], top: bool) -> dict[str, Any]:
        children: dict[str, Any] = {}
        for name in sorted(node):
            child = node[name] if "pythonClassName" in node[name] else build(node[name], False)
            if top and name == "steps":
                class_name = _PREFIX + "dataset_feature.Dataset"
                child = {"pythonClassName": class_name, "sequence": {"feature": child, "length": "-1"}}
            children[name] = child
        return _dict_json(children)

    return build(nested, True)


def features_from_json(content: Mapping[str, Any]) -> dict[str, FeatureSpec]:
    """Content of features.json -> leaves by path; DataError when it is not a TFDS feature tree.

    Kinds other than image, text and tensor keep their TFDS class name, so that they can be listed and ignored.
    """
    tree: dict[str, FeatureSpec] = {}

    def shape_of(node: Mapping[str, Any]) -> tuple[int, ...]:
        return tuple(int(size) for size in node.get("shape", {}).get("dimensions", ()))

    def walk(node: Mapping[str, Any], path: str) -> None:
        if "featuresDict" in node:
            for name, child in node["featuresDict"]["features"].items():
                walk(child, f"{path}/{name}" if path else name)
        elif "sequence" in node:
            walk(node["sequence"]["feature"], path)
        elif "image" in node:
            image = node["image"]
            tree[path] = FeatureSpec("image", shape_of(image), "uint8", image.get("encodingFormat", ""))
        elif "text" in node:
            tree[path] = FeatureSpec("text")
        elif "tensor" in node:
            tensor = node["tensor"]
            kind = "text" if tensor.get("dtype") == "string" else "tensor"
            tree[path] = FeatureSpec(kind, shape_of(tensor), tensor.get("dtype", "float32"))
        else:
            tree[path] = FeatureSpec(str(node.get("pythonClassName", "unknown")).rsplit(".", 1)[-1])

    try:
        walk(content, "")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"features.json is not a TFDS feature tree ({error!r}); fetch the file again"
        ) from error
    return tree
