"""Datasets as differently shaped as they come, from their feature trees: read by our reader and by TFDS."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from genie_robot.data.actions import common_actions
from genie_robot.data.example_proto import find_features, serialize_example
from genie_robot.data.open import open_dataset
from genie_robot.data.registry import DEFAULT_RATE_HZ, FACTS
from genie_robot.data.rlds import RldsDataset
from genie_robot.data.tfrecord import read_records, write_record
from genie_robot.errors import CorruptRecordError, DataError
from tests.data.layout_specs import CAMERAS, LAYOUTS

CLASS = "tensorflow_datasets.core.features."
LENGTHS = [4, 3]
IMAGES = ("image", "image16", "float_image")
IMAGE_DTYPES = {"image": "uint8", "image16": "uint16", "float_image": "float32"}


class Leaf(NamedTuple):
    """One line of a layout."""

    path: str
    kind: str
    shape: tuple[int, ...]
    encoding: str

    @property
    def stored(self) -> str:
        """The key in the record."""
        return self.path.replace("|", "/")


def leaves_of(name: str) -> list[Leaf]:
    leaves = []
    for line in LAYOUTS[name].split("\n"):
        if line.strip():
            path, kind, *rest = line.split()
            kind = rest.pop(0) if kind == "scalar" else kind
            encoding = rest.pop() if rest and not rest[-1].isdigit() else ""
            leaves.append(Leaf(path, kind, tuple(map(int, rest)), encoding))
    return leaves


def leaf_json(leaf: Leaf) -> dict[str, Any]:
    shape = {"dimensions": [str(size) for size in leaf.shape]} if leaf.shape else {}
    if leaf.kind in IMAGES:
        image = {"shape": shape, "dtype": IMAGE_DTYPES[leaf.kind]}
        image |= {"encodingFormat": leaf.encoding} if leaf.encoding else {}
        return {"pythonClassName": CLASS + "image_feature.Image", "image": image}
    if leaf.kind == "text":
        return {"pythonClassName": CLASS + "text_feature.Text", "text": {}}
    dtype = "string" if leaf.kind in ("string", "sequence") else leaf.kind
    tensor = {
        "pythonClassName": CLASS + "tensor_feature.Tensor",
        "tensor": {"shape": shape, "dtype": dtype, "encoding": "none"},
    }
    if leaf.kind == "sequence":
        sequence = {"feature": tensor, "length": "-1"}
        return {"pythonClassName": CLASS + "sequence_feature.Sequence", "sequence": sequence}
    return tensor


def features_json(leaves: list[Leaf]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for leaf in leaves:
        node = nested
        *folders, last = leaf.path.split("/")
        for folder in folders:
            node = node.setdefault(folder, {})
        node[last.replace("|", "/")] = leaf_json(leaf)

    def build(node: dict[str, Any]) -> dict[str, Any]:
        if "pythonClassName" in node:
            return node
        children = {key: build(child) for key, child in node.items()}
        return {
            "pythonClassName": CLASS + "features_dict.FeaturesDict",
            "featuresDict": {"features": children},
        }

    content = build(nested)
    steps = content["featuresDict"]["features"]
    sequence = {"feature": steps["steps"], "length": "-1"}
    steps["steps"] = {"pythonClassName": CLASS + "dataset_feature.Dataset", "sequence": sequence}
    return content


def colour_of(camera: int, episode: int, step: int) -> tuple[int, int, int]:
    """Of the whole picture, so that it says where it comes from."""
    return (30 + 40 * camera, 40 + 60 * episode, 50 + 40 * step)


def encode(leaf: Leaf, colour: tuple[int, int, int], rng: np.random.Generator) -> bytes:
    if leaf.kind == "image":
        picture = np.full(leaf.shape, colour, np.uint8)[..., ::-1]
    elif leaf.kind == "image16":
        picture = np.full(leaf.shape, rng.integers(9999), np.uint16)
    else:  # TFDS keeps the four bytes of a float as the four channels of a PNG
        picture = np.full(leaf.shape, rng.normal(), np.float32).view(np.uint8).reshape(*leaf.shape[:2], 4)
    suffix = ".jpg" if leaf.encoding == "jpeg" else ".png"
    return cv2.imencode(suffix, picture)[1].tobytes()


def values_of(leaf: Leaf, episode: int, num_steps: int, camera: int, rng: np.random.Generator) -> Any:
    if leaf.kind in IMAGES:
        return [encode(leaf, colour_of(camera, episode, step), rng) for step in range(num_steps)]
    if leaf.kind in ("text", "string"):
        return [f"{leaf.stored} {episode}".encode()] * num_steps
    size = (num_steps, *leaf.shape)
    if leaf.kind.startswith("float"):
        return rng.normal(size=size).astype(leaf.kind)
    return rng.integers(0, 2, size).astype(leaf.kind)


def episode_of(leaves: list[Leaf], number: int, num_steps: int) -> dict[str, Any]:
    """Key -> values, as TFDS stores them."""
    rng = np.random.default_rng(number)
    values: dict[str, Any] = {}
    cameras = [leaf for leaf in leaves if leaf.kind == "image"]
    for leaf in leaves:
        rows = num_steps if leaf.path.startswith("steps/") else 1
        if leaf.kind == "sequence":  # ragged: all words, and how many belong to each step
            values[f"{leaf.stored}/ragged_flat_values"] = [b"shelf", b"drawer"] * rows
            values[f"{leaf.stored}/ragged_row_lengths_0"] = np.full(rows, 2)
        else:
            camera = cameras.index(leaf) if leaf in cameras else 0
            values[leaf.stored] = values_of(leaf, number, rows, camera, rng)
    return values


def write(folder: Path, name: str, episodes: list[dict[str, Any]]) -> Path:
    version = FACTS[name].version if name in FACTS else "0.1.0"
    place = folder / name / version
    place.mkdir(parents=True)
    shard = place / f"{name}-train.tfrecord-00000-of-00001"
    with shard.open("wb") as file:
        size = sum(write_record(file, serialize_example(episode)) for episode in episodes)
    split = {
        "name": "train",
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "numBytes": str(size),
        "shardLengths": [str(len(episodes))],
    }
    info = {"name": name, "version": version, "fileFormat": "tfrecord", "splits": [split]}
    (place / "dataset_info.json").write_text(json.dumps(info))
    (place / "features.json").write_text(json.dumps(features_json(leaves_of(name))))
    return place


@pytest.fixture(params=LAYOUTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stored(name: str) -> list[dict[str, Any]]:
    return [episode_of(leaves_of(name), number, length) for number, length in enumerate(LENGTHS)]


@pytest.fixture
def folder(tmp_path: Path, name: str, stored: list[dict[str, Any]]) -> Path:
    return write(tmp_path, name, stored)


def instruction_of(name: str, episode: int) -> str:
    for leaf in leaves_of(name):
        if leaf.path.endswith(("/natural_language_instruction", "steps/language_instruction")):
            return f"{leaf.stored} {episode}"
    return ""


def dropped_of(name: str) -> int:
    return FACTS[name].drop_first if name in FACTS else 0


def has_actions(name: str) -> bool:
    return name not in FACTS or bool(FACTS[name].actions)


def test_camera_rate_and_instruction(name: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = open_dataset(folder)
        episodes = list(dataset.episodes())
    rate_hz = FACTS[name].rate_hz if name in FACTS else None
    assert dataset.dt_s == pytest.approx(1 / (rate_hz or DEFAULT_RATE_HZ))
    assert ("control rate" in caplog.text) == (rate_hz is None)
    assert ("wrist cameras only" in caplog.text) == (name.startswith("berkeley_mvp"))
    cameras = [leaf for leaf in leaves_of(name) if leaf.kind == "image"]
    used = next(leaf for leaf in cameras if leaf.path == f"steps/observation/{CAMERAS[name]}")
    dropped = dropped_of(name)
    assert len(episodes) == len(LENGTHS)
    for number, (episode, length) in enumerate(zip(episodes, LENGTHS, strict=True)):
        assert episode.frames_TYXC.shape == (length - dropped, *used.shape)
        wanted = [colour_of(cameras.index(used), number, step) for step in range(dropped, length)]
        np.testing.assert_allclose(episode.frames_TYXC.mean(axis=(1, 2)), wanted, atol=2)
        assert episode.instruction == instruction_of(name, number)
        assert episode.actions_TA is None


def test_actions_come_in_the_common_convention_or_not_at_all(
    name: str, folder: Path, stored: list[dict[str, Any]]
) -> None:
    dataset = open_dataset(folder)
    if not has_actions(name):
        with pytest.raises(DataError, match=f"{name} has no end-effector motion") as caught:
            dataset.episodes(actions=True)
        assert "\n" not in str(caught.value)
        return
    layouts = FACTS[name].actions if name in FACTS else ()
    for episode, values in zip(dataset.episodes(actions=True), stored, strict=True):
        paths = next((a.paths for a in layouts if set(a.paths) <= set(values)), ["steps/action"])
        narrow = {path: values[path].astype(np.float32) for path in paths}  # all that a record can hold
        wanted = common_actions(name, narrow)[dropped_of(name) :]
        assert episode.actions_TA is not None
        np.testing.assert_array_equal(episode.actions_TA, wanted)
        assert np.abs(wanted).max() > 0


def test_nothing_but_image_and_instruction_is_parsed(name: str, folder: Path) -> None:
    wanted = [(e.frames_TYXC, e.instruction) for e in open_dataset(folder).episodes()]
    (shard,) = folder.glob("*.tfrecord*")
    payloads = [bytearray(payload) for payload in read_records(shard)]
    poisoned = set()
    for payload in payloads:
        for key, feature in find_features(memoryview(payload)).items():
            if not key.endswith((f"observation/{CAMERAS[name]}", "language_instruction")):
                feature[:] = b"\xff" * len(feature)
                poisoned.add(key)
    assert any("action" in key for key in poisoned)
    with shard.open("wb") as file:
        for payload in payloads:
            write_record(file, bytes(payload))
    dataset = open_dataset(folder)
    for episode, (frames_TYXC, instruction) in zip(dataset.episodes(), wanted, strict=True):
        np.testing.assert_array_equal(episode.frames_TYXC, frames_TYXC)
        assert episode.instruction == instruction
    if has_actions(name):
        with pytest.raises(CorruptRecordError):
            next(dataset.episodes(actions=True))


def test_tfds_reads_the_same(name: str, folder: Path, stored: list[dict[str, Any]]) -> None:
    if not importlib.util.find_spec("tensorflow") or not importlib.util.find_spec("tensorflow_datasets"):
        pytest.skip("TensorFlow is not installed: pip install 'genie_robot[data]'")
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(str(folder))
    records = builder.as_dataset(split="train", shuffle_files=False)
    dropped, camera = dropped_of(name), CAMERAS[name].split("/")
    action = next(leaf for leaf in leaves_of(name) if leaf.path.startswith("steps/action"))
    for episode, record, values in zip(open_dataset(folder).episodes(), records, stored, strict=True):
        steps = list(record["steps"].as_numpy_iterator())
        frames = []
        for step in steps:
            node = step["observation"]
            for key in camera:
                node = node[key]
            frames.append(node)
        difference = np.abs(np.stack(frames)[dropped:].astype(int) - episode.frames_TYXC)
        assert difference.max() <= 1  # flat pictures: TensorFlow's quick JPEG transform rounds otherwise
        node = np.array([at(step, action.path) for step in steps]).reshape(len(steps), -1)
        want = values[action.stored]
        want = np.array(want).reshape(len(steps), -1) if not isinstance(want, list) else np.c_[want]
        if want.dtype.kind == "f":
            np.testing.assert_allclose(node, want, rtol=1e-6)
        else:
            np.testing.assert_array_equal(node, want)


def at(step: dict[str, Any], path: str) -> Any:
    node: Any = step
    for key in path.split("/")[1:]:
        node = node[key.replace("|", "/")]
    return node


def test_episodes_without_pictures_are_counted_not_shown(tmp_path: Path) -> None:
    leaves = leaves_of("taco_play")
    episodes = [episode_of(leaves, number, 3) for number in range(4)]
    episodes[1]["steps/observation/rgb_static"] = [b""] * 3  # as when a camera was off
    episodes[2]["steps/observation/rgb_static"] = []
    dataset = open_dataset(write(tmp_path, "taco_play", episodes))
    assert isinstance(dataset, RldsDataset)
    good = [episode.source for episode in dataset.episodes(skip_bad=True) if episode.num_frames]
    assert good == ["taco_play/train/0", "taco_play/train/3"]
    assert dataset.bad_records == 1  # the one without any step is short, not broken


def test_every_layout_is_covered() -> None:
    assert len(LAYOUTS) >= 10
    assert set(CAMERAS) == set(LAYOUTS)
    assert len(set(LAYOUTS) & set(FACTS)) >= 10
