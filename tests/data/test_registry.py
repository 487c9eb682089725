from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import re
from pathlib import Path

import pytest

from genie_robot.cli import main
from genie_robot.data.mixture import MIXTURES
from genie_robot.data.registry import (
    FACTS,
    REGISTRY,
    action_paths,
    feature_path,
    image_path,
    instruction_path,
)
from genie_robot.data.rlds_features import FeatureSpec
from genie_robot.errors import DataError

NAMES = sorted(REGISTRY)
FLAGS = {"simulated", "wrist_only", "no_pictures", "no_motion", "navigation", "human", "broken"}
UNREGISTERED = {
    "droid",
    "bridge_dataset",
    "language_table",
    "furniture_bench_dataset_converted_externally_to_rlds",
    "cmu_playing_with_food",
    "robo_net",
}
RGB = FeatureSpec("image", (64, 64, 3), "uint8", "png")
DEPTH = FeatureSpec("image", (64, 64, 1), "uint16", "png")


def cameras(*keys: str, **more: FeatureSpec) -> dict[str, FeatureSpec]:
    return {f"steps/observation/{key}": spec for key, spec in (dict.fromkeys(keys, RGB) | more).items()}


def registered_in_tfds() -> dict[str, str]:
    """Name -> folder below the bucket, from the source text of TFDS (importing it would import TensorFlow)."""
    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        pytest.skip("TFDS is not installed: pip install 'genie_robot[data]'")
    text = (Path(spec.origin).parent / "robotics" / "rtx" / "rtx.py").read_text()
    return dict(
        re.findall(r'"""DatasetBuilder for `(\w+)` dataset.*?return \'(\S+/\d+\.\d+\.\d+)\'', text, re.DOTALL)
        or pytest.fail("no class found in rtx.py")
    )


def test_all_that_tfds_registers_and_six_more() -> None:
    theirs = registered_in_tfds()
    renamed = {"fractal_20220817_data": "fractal20220817_data"}  # a slip in TFDS's own docstring
    theirs = {renamed.get(name, name): path for name, path in theirs.items()}
    assert len(theirs) >= 64
    ours = {facts.name for facts in REGISTRY.values() if facts.tfds}
    assert len(ours) == 64
    assert set(REGISTRY) - ours == UNREGISTERED
    others = {path for name, path in theirs.items() if name not in ours}
    paths = {facts.path for facts in REGISTRY.values()}
    assert others <= paths | {"bridge_data_v2/0.0.1"}
    for name, path in theirs.items():
        if name in ours and name != "bridge":  # TFDS's `bridge` is bridge_data_v2: an alias here
            assert REGISTRY[name].path == path


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_is_whole_and_possible(name: str) -> None:
    facts = REGISTRY[name]
    assert facts.about
    assert facts.licence
    assert re.fullmatch(r"\w+/\d+\.\d+\.\d+", facts.path)
    assert facts.server.startswith("https://")
    assert facts.rate_hz is None or 0.5 < facts.rate_hz < 100
    assert facts.code in ("", "jpeg", "png")
    assert facts.gib is None or 0 < facts.gib < 3000
    assert set(facts.flags) <= FLAGS
    assert set(facts.shards) <= set(facts.episodes)
    assert all(
        facts.shards[split] <= count for split, count in facts.episodes.items() if split in facts.shards
    )
    roles = [camera.role for camera in facts.cameras]
    assert set(roles) <= {"primary", "second", "wrist"}
    assert (("wrist_only" in facts.flags) == (set(roles) == {"wrist"})) or not roles
    assert roles == sorted(
        roles, key=["primary", "second", "wrist"].index
    )  # the first is the one that is used
    assert bool(facts.actions) != bool(facts.no_action)
    for layout in facts.actions:
        assert layout.kind in ("delta", "pose", "target")
        assert layout.sure in ("documented", "inferred")
        kinds = ("vector", "rpy", "zxy", "yaw", "xyzw", "wxyz", "matrix_rows", "matrix_columns")
        assert layout.rotation_as in kinds
        assert layout.gripper_as in ("step", "closed", "open", "close_positive", "open_positive")
        assert all(re.fullmatch(r"[\w/]+(\[\d+(:\d+)?\])?", place) for place in layout.places)
        assert all(feature_path(place).startswith("steps/") for place in layout.places)


def test_weights_are_those_of_the_soup() -> None:
    weights = {name: facts.soup_weight for name, facts in REGISTRY.items() if facts.soup_weight}
    assert weights["fractal20220817_data"] == pytest.approx(0.54087122203)
    assert weights["language_table"] == 0.1
    assert len(weights) == 23  # openvla's oxe_magic_soup without the three that it leaves out
    assert not {"bc_z", "uiuc_d3field", "nyu_door_opening_surprising_effectiveness", "droid"} & set(weights)


def test_short_and_other_names_are_the_same_data() -> None:
    assert FACTS["nyu_rot_dataset"] is REGISTRY["nyu_rot_dataset_converted_externally_to_rlds"]
    assert FACTS["bridge_data_v2"] is REGISTRY["bridge"]
    assert FACTS["spoc"] is REGISTRY["spoc_robot"]


@pytest.mark.parametrize("name", NAMES)
def test_the_registry_camera_is_chosen_among_all_of_them(name: str) -> None:
    facts = REGISTRY[name]
    if not facts.cameras:
        pytest.skip("its pictures are not stored as images")
    keys = sorted(camera.key for camera in facts.cameras)
    tree = cameras(*keys, a_depth=DEPTH)
    assert image_path(name, tree, None) == f"steps/observation/{facts.image_key}"
    asked = f"steps/observation/{keys[-1]}"
    assert image_path(name, tree, keys[-1]) == asked


def test_a_wrist_or_depth_camera_is_never_taken_silently(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert image_path("mine", cameras("hand_image", "scene"), None).endswith("/scene")
        assert image_path("taco_play", cameras("rgb_gripper", "zoom"), None).endswith("/zoom")
        # an outside camera of the registry is missing: its known wrist camera is still the last choice
        assert image_path("jaco_play", cameras("image_wrist", "other"), None).endswith("/other")
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        assert image_path("dobbe", cameras("wrist_image"), None).endswith("/wrist_image")
    assert "dobbe has wrist cameras only: taking wrist_image" in caplog.text
    for tree in (cameras(image=DEPTH), cameras("depth_colour"), {}):
        with pytest.raises(DataError, match="mine has no RGB images"):
            image_path("mine", tree, None)
    with pytest.raises(DataError, match=r"no camera 'depth'; wanted one of \['image'\]"):
        image_path("mine", cameras("image", depth=DEPTH), "depth")


def test_the_instruction_is_a_text_or_nothing() -> None:
    text, codes = FeatureSpec("text"), FeatureSpec("tensor", (512,), "int32")
    assert instruction_path({"steps/observation/instruction": codes}) is None
    both = {"steps/language_instruction": text, "steps/observation/natural_language_instruction": text}
    assert instruction_path(both) == "steps/observation/natural_language_instruction"
    assert instruction_path({"steps/language_embedding": codes}) is None


def test_actions_that_the_files_lack_are_one_line() -> None:
    flat = {"steps/action": FeatureSpec("tensor", (7,))}
    assert action_paths("mine", flat) == ["steps/action"]
    assert action_paths("bridge", flat) == ["steps/action"]  # the newer files of the same name
    for name, tree, message in (
        ("droid", flat, "droid has no end-effector motion to read .wanted"),
        ("robo_set", flat, "joint positions"),
        ("mine", {"steps/action": FeatureSpec("tensor", (8,))}, "mine has no 7-DoF action"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            action_paths(name, tree)
        assert "\n" not in str(caught.value)


def test_list_prints_every_data_set_and_mixture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    table = capsys.readouterr().out
    assert all(name.removesuffix("_converted_externally_to_rlds") in table for name in REGISTRY)
    assert all(name in table for name in MIXTURES)
    assert "own licence unknown" in table  # said, not left out
    page = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    assert table.partition("\n\n")[0] in page


def test_list_shows_all_that_is_known_of_a_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "list.json"
    assert main(["data", "list", "FRACTAL", "--json", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "CC BY 4.0" in shown
    assert "train 87,212 in 1024 shards" in shown
    content = json.loads(target.read_text())
    assert list(content["datasets"]) == ["fractal20220817_data"]
    assert content["datasets"]["fractal20220817_data"]["rate_hz"] == 3
    assert main(["data", "list", "no such thing"]) == 1


def test_the_table_and_its_reader_agree_on_the_keys() -> None:
    text = inspect.getdoc(importlib.import_module("genie_robot.data.registry")) or ""
    source = (Path(__file__).parents[2] / "genie_robot" / "data" / "datasets.toml").read_text()
    used = set(re.findall(r"^(\w+) =", source, re.MULTILINE))
    explained = {key for line in text.splitlines() for key in re.findall(r"\w+", line)}
    assert used <= explained
