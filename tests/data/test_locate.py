"""Where a dataset is found, and which door reads it."""

from __future__ import annotations

import importlib.util
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.locate import Location, data_roots, facts_without_files, locate, registered
from genie_robot.data.open import open_dataset
from genie_robot.data.tfrecord import read_records
from genie_robot.errors import CorruptRecordError, DatasetNotFoundError

Write = Callable[..., Path]
HAS_TFDS = all(importlib.util.find_spec(name) for name in ("tensorflow_datasets", "array_record"))
needs_tfds = pytest.mark.skipif(not HAS_TFDS, reason="no TFDS here: pip install 'genie_robot[data]'")


@pytest.fixture(autouse=True)
def no_roots_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("GENIE_ROBOT_DATA", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def put(folder: Path, kind: str = "tfrecord") -> Path:
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": kind}))
    return folder


def test_the_folder_above_works_and_two_datasets_do_not(write: Write, tmp_path: Path) -> None:
    folder = write("one", train=[3])
    assert (
        open_dataset(tmp_path).name
        == open_dataset(folder).name
        == open_dataset(str(folder.parent)).name
        == "one"
    )
    write("two", train=[3])
    with pytest.raises(DatasetNotFoundError, match=r"2 datasets \(data/one/0.1.0, data/two/0.1.0\)"):
        open_dataset(tmp_path)


def test_places_without_a_dataset_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="nowhere does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match="holds nothing"):
        open_dataset(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(DatasetNotFoundError, match=r"holds photo\.jpg"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="is not a folder"):
        open_dataset(tmp_path / "photo.jpg")


def test_a_name_is_searched_in_the_roots_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / name for name in ("given", "own", "tfds")] + [tmp_path / "home/tensorflow_datasets"]
    monkeypatch.setenv("GENIE_ROBOT_DATA", str(places[1]))
    monkeypatch.setenv("TFDS_DATA_DIR", str(places[2]))
    assert data_roots(places[0]) == places
    for root in reversed(places):
        folder = put(root / "fractal20220817_data" / "0.1.0")
        assert locate("fractal20220817_data", places[0]) == Location(str(folder), False, "without TensorFlow")


def test_the_version_asked_for_else_the_registered_one_else_the_highest(tmp_path: Path) -> None:
    for name in ("bc_z", "mine"):
        for version in ("0.1.0", "0.2.0", "0.10.0", "notes"):
            put(tmp_path / name / version)

    def version_of(place: str) -> str:
        return Path(locate(place, tmp_path).place).name

    assert version_of("bc_z") == "0.1.0"  # the registry's
    assert version_of("mine") == "0.10.0"  # not the last in the alphabet
    assert version_of("mine:0.2.0") == version_of("mine/0.2.0") == "0.2.0"
    with pytest.raises(DatasetNotFoundError, match=r"mine:0\.3\.0 is no folder, no data set in"):
        locate("mine:0.3.0", tmp_path)


def test_every_name_of_a_dataset_finds_it(tmp_path: Path) -> None:
    folder = put(tmp_path / "nyu_rot_dataset_converted_externally_to_rlds" / "0.1.0")
    for name in ("nyu_rot_dataset", "nyu_rot_dataset_converted_externally_to_rlds"):
        assert locate(name, tmp_path).place == str(folder)


def test_configurations_are_told_apart(tmp_path: Path) -> None:
    folder = put(tmp_path / "mine" / "one" / "1.0.0")
    assert locate("mine", tmp_path).place == str(folder)
    put(tmp_path / "mine" / "two" / "1.0.0")
    with pytest.raises(
        DatasetNotFoundError, match=r"several forms: give one of .*mine/one/1.0.0, .*mine/two"
    ):
        locate("mine", tmp_path)


def test_a_folder_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "root" / "kuka" / "0.1.0")
    folder = put(tmp_path / "here" / "kuka" / "9.9.9")
    monkeypatch.chdir(tmp_path / "here")
    assert Path(locate("kuka", tmp_path / "root").place).resolve() == folder
    monkeypatch.chdir(tmp_path)
    assert locate("kuka", tmp_path / "root").place.endswith("0.1.0")


def test_a_registered_name_that_is_not_here_is_on_google_cloud(tmp_path: Path) -> None:
    found = locate("fractal20220817_data", tmp_path)
    assert (found.place, found.through_tfds) == ("gs://gresearch/robotics/fractal20220817_data/0.1.0", True)
    assert f"it is not in {tmp_path}, " in found.how
    assert locate("fractal20220817_data:0.0.1", tmp_path).place.endswith("/fractal20220817_data/0.0.1")
    with pytest.raises(
        DatasetNotFoundError, match="not on Google Cloud: `genie-robot data fetch bridge_dataset`"
    ):
        locate("bridge_dataset", tmp_path)


def test_an_unknown_name_says_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetNotFoundError, match=f"no data set in {tmp_path}, {tmp_path}/home/tensor.*list`"
    ):
        locate("fractal", tmp_path)


def test_a_name_opens_like_its_folder(write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(train=[3, 4])
    with caplog.at_level(logging.INFO):
        by_name = open_dataset("toy", root=tmp_path / "data")
    assert [record.message for record in caplog.records] == [
        f"reading {folder} (toy 0.1.0) without TensorFlow"
    ]
    for one, two in zip(by_name.episodes(), open_dataset(folder).episodes(), strict=True):
        np.testing.assert_array_equal(one.frames_TYXC, two.frames_TYXC)


def as_array_record(folder: Path) -> Path:
    """The same dataset with array_record files."""
    from array_record.python.array_record_module import ArrayRecordWriter

    for shard in sorted(folder.glob("*.tfrecord-*")):
        writer = ArrayRecordWriter(
            str(folder / shard.name.replace("tfrecord", "array_record")), "group_size:1"
        )
        for payload in read_records(shard):
            writer.write(payload)
        writer.close()
        shard.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    return folder


@needs_tfds
def test_other_file_formats_go_through_tfds_and_say_so(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lengths = {"shard_bytes": 60_000, "train": [5, 1, 7, 3, 9], "val": [2]}
    wanted = list(open_dataset(write("one", **lengths)).episodes(actions=True, state=True))
    folder = as_array_record(write("two", **lengths))
    with caplog.at_level(logging.INFO, logger="genie_robot.data.open"):
        dataset = open_dataset(folder)
    assert "through TensorFlow Datasets, because its files are array_record" in caplog.text
    assert len(dataset.parts("train")) > 1
    for one, two in zip(wanted, dataset.episodes(actions=True, state=True), strict=True):
        assert (one.source.split("/")[1:], one.instruction) == (two.source.split("/")[1:], two.instruction)
        for name in ("frames_TYXC", "actions_TA", "state_TS"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert [e.source for e in dataset.episodes(numbers=range(1, 4, 2))] == ["two/train/1", "two/train/3"]


@needs_tfds
def test_a_broken_array_record_is_counted(write: Write) -> None:
    folder = as_array_record(write(train=[3, 4, 5]))
    shard = next(folder.glob("*-train.array_record-*"))
    content = bytearray(shard.read_bytes())
    content[12_000] ^= 1  # inside record 1: the three have about 8, 11 and 13 kB
    shard.write_bytes(content)
    dataset = open_dataset(folder)
    with pytest.raises(CorruptRecordError, match="toy/train/1 cannot be read"):
        list(dataset.episodes())
    assert [episode.source for episode in dataset.episodes(skip_bad=True)] == ["toy/train/0", "toy/train/2"]
    assert dataset.bad_records == len(dataset.bad) == 1


@pytest.mark.parametrize("inside", [(), ("notes.txt",)])
def test_a_folder_without_a_dataset_does_not_hide_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: tuple[str, ...]
) -> None:
    folder = put(tmp_path / "root" / "bridge_dataset" / "1.0.0")
    (tmp_path / "bridge_dataset").mkdir()
    for name in inside:
        (tmp_path / "bridge_dataset" / name).write_text("")
    monkeypatch.chdir(tmp_path)
    assert locate("bridge_dataset", tmp_path / "root").place == str(folder)
    with pytest.raises(DatasetNotFoundError, match="genie-robot data fetch bridge_dataset"):
        locate("bridge_dataset", tmp_path / "elsewhere")
    (tmp_path / "mine").mkdir()
    with pytest.raises(DatasetNotFoundError, match="mine holds nothing"):
        locate("mine", tmp_path / "root")


def test_a_registered_name_with_an_empty_folder_shows_the_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bridge_dataset").mkdir()
    (tmp_path / "kuka").mkdir()
    (tmp_path / "kuka" / "something").write_text("")
    monkeypatch.chdir(tmp_path)
    facts = facts_without_files("bridge_dataset", tmp_path / "root")
    assert facts is not None and facts.name == "bridge_dataset"
    assert facts_without_files("kuka", tmp_path / "root") is None


def test_registered_names_with_and_without_version() -> None:
    whole, same, other = (registered(f"bc_z{version}") for version in ("", ":0.1.0", "/0.2.0"))
    assert whole is not None and whole == same and whole.shards
    assert other is not None and (other.path, other.shards, other.gib) == ("bc_z/0.2.0", {}, None)
    assert registered("bags/kitchen") is None and registered("gs://gresearch/robotics/bc_z/0.1.0") is None


READ_ARRAY_RECORD = """
import sys
from genie_robot.data.open import open_dataset
assert sum(episode.num_frames for episode in open_dataset(sys.argv[1]).episodes(actions=True, state=True)) == 7
assert "tensorflow" not in sys.modules, "TensorFlow is there, and would take the memory of every GPU"
"""


@needs_tfds
def test_array_record_is_read_without_tensorflow_so_that_no_gpu_is_taken(write: Write) -> None:
    folder = as_array_record(write(train=[3, 4]))
    subprocess.run([sys.executable, "-c", READ_ARRAY_RECORD, str(folder)], check=True)


READ_TFRECORD = """
import sys
import tensorflow as tf
hidden = []
original = tf.config.set_visible_devices
tf.config.set_visible_devices = lambda *what: (hidden.append(what), original(*what))
from genie_robot.data.tfds_door import TfdsDataset
assert TfdsDataset(sys.argv[1]).splits == {"train": 2}
assert hidden == [([], "GPU")], hidden
"""


@needs_tfds
def test_tensorflow_gets_no_gpu(write: Write) -> None:
    pytest.importorskip("tensorflow")
    subprocess.run([sys.executable, "-c", READ_TFRECORD, str(write(train=[3, 4]))], check=True)
