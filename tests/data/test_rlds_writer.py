from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.data import rlds_writer
from genie_robot.data.open import open_dataset
from genie_robot.data.rlds import RldsDataset
from genie_robot.data.rlds_features import features_from_json, features_to_json, fractal_features
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError, DataError, DiskFullError, ImageError

Write = Callable[..., Path]
NewEpisode = Callable[..., dict[str, Any]]


def test_what_is_written_is_read_back(write: Write, new_episode: NewEpisode) -> None:
    dataset = open_dataset(write(train=[5, 1, 0, 9], val=[3]))
    assert dataset.splits == {"train": 4, "val": 1}
    assert dataset.dt_s == 0.2
    episodes = list(dataset.episodes("train", actions=True, state=True))
    assert [episode.num_frames for episode in episodes] == [5, 1, 0, 9]
    for number, episode in enumerate(episodes):
        wanted = new_episode(number, episode.num_frames)
        np.testing.assert_array_equal(episode.frames_TYXC, wanted["frames_TYXC"])
        assert episode.instruction == (wanted["instruction"] if episode.num_frames else "")
        assert episode.actions_TA is not None
        assert episode.actions_TA.shape == (episode.num_frames, 7)
        np.testing.assert_array_equal(episode.actions_TA[:-1], wanted["actions"])
        assert not episode.actions_TA[-1:].any()
        np.testing.assert_array_equal(episode.state_TS, wanted["state"])
        assert episode.source == f"toy/train/{number}"


def test_jpeg_is_near_and_png_is_exact(write: Write) -> None:
    png = next(open_dataset(write("png", train=[2])).episodes())
    jpeg_folder = write("jpg", encoding="jpeg", train=[2])
    jpeg = next(open_dataset(jpeg_folder).episodes())
    assert isinstance(dataset := open_dataset(jpeg_folder), RldsDataset)
    assert dataset.features["steps/observation/image"].encoding == "jpeg"
    difference = np.abs(png.frames_TYXC.astype(int) - jpeg.frames_TYXC)
    assert 0 < difference.mean() < 60  # noise is the worst case for JPEG


def test_shards_are_cut_by_size_and_named_like_tfds(write: Write) -> None:
    folder = write(shard_bytes=20_000, train=[4, 4, 4, 4, 4])
    names = sorted(path.name for path in folder.glob("*.tfrecord*"))
    assert len(names) > 1
    assert names[-1] == f"toy-train.tfrecord-{len(names) - 1:05d}-of-{len(names):05d}"
    info = json.loads((folder / "dataset_info.json").read_text())
    lengths = [int(length) for length in info["splits"][0]["shardLengths"]]
    assert sum(lengths) == 5
    sizes = sum(path.stat().st_size for path in folder.glob("*.tfrecord*"))
    assert int(info["splits"][0]["numBytes"]) == sizes - 16 * 5
    assert len(list(open_dataset(folder).episodes())) == 5


def test_the_feature_tree_is_the_one_of_rt1(shared_dataset: Callable[[str], Path]) -> None:
    content = json.loads(next(shared_dataset("rt1_rlds").glob("*/*/features.json")).read_text())
    assert features_to_json(fractal_features((256, 320), "jpeg")) == content
    assert features_from_json(content) == fractal_features((256, 320), "jpeg")


def test_metadata_is_kept(tmp_path: Path, new_episode: NewEpisode) -> None:
    episode = new_episode(0, 3)
    folder = write_dataset(
        tmp_path,
        "toy",
        "1.2.3",
        {"train": [episode]},
        (24, 32),
        7.5,
        state_names=("a", "b", "c"),
        metadata={"seed": 4},
    )
    dataset = open_dataset(folder)
    assert isinstance(dataset, RldsDataset)
    assert (dataset.name, dataset.version) == ("toy", "1.2.3")
    assert dataset.dt_s == pytest.approx(1 / 7.5)
    assert dataset.state_names == ["a", "b", "c"]
    assert dataset.metadata["seed"] == 4


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"frames_TYXC": np.zeros((4, 24, 30, 3), np.uint8)}, ImageError, "wanted uint8"),
        ({"frames_TYXC": np.zeros((4, 24, 32, 3), np.float32)}, ImageError, "float32"),
        ({"actions": np.zeros((2, 7))}, DataError, r"actions has shape \(2, 7\)"),
        ({"actions": np.full((4, 7), np.nan)}, DataError, "NaN"),
        ({"rewards": np.zeros(3)}, DataError, "rewards"),
        ({"state": np.zeros((4, 2))}, DataError, "state has shape"),
        ({"state": None}, DataError, "state_names were given"),
        ({"wrong_key": 1}, DataError, "wrong_key"),
        ({"attributes": {"colour": "red"}}, DataError, "colour"),
        ({"attributes": {"task_family_name": 3}}, DataError, "task_family_name=3"),
    ],
)
def test_episodes_that_do_not_fit_are_refused_and_leave_nothing(
    tmp_path: Path, new_episode: NewEpisode, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    episodes = [new_episode(0, 4), new_episode(1, 4, **changed)]
    with pytest.raises(error, match=message):
        write_dataset(
            tmp_path, "toy", "0.1.0", {"train": episodes}, (24, 32), 5.0, state_names=("a", "b", "c")
        )
    assert list((tmp_path / "toy").iterdir()) == []


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_encoded_images_are_stored_unchanged_or_refused(tmp_path: Path, suffix: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    encoded = cv2.imencode(suffix, frame)[1].tobytes()
    right, wrong = ("jpeg", "png") if suffix == ".jpg" else ("png", "jpeg")
    episode = {"encoded": [encoded, encoded]}
    folder = write_dataset(tmp_path, "right", "0.1.0", {"train": [episode]}, (24, 32), 5.0, encoding=right)
    assert next(folder.glob("*.tfrecord*")).read_bytes().count(encoded) == 2
    with pytest.raises(ImageError, match=f"wanted {wrong} bytes"):
        write_dataset(tmp_path, "wrong", "0.1.0", {"train": [episode]}, (24, 32), 5.0, encoding=wrong)
    with pytest.raises(ImageError, match=r"wanted \(25, 32\)"):
        write_dataset(tmp_path, "size", "0.1.0", {"train": [episode]}, (25, 32), 5.0, encoding=right)


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "a/b"},
        {"version": "1.0"},
        {"version": "1.0.x"},
        {"encoding": "gif"},
        {"rate_hz": 0.0},
        {"splits": {}},
        {"splits": {"tr-ain": []}},
        {"shard_bytes": 0},
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, new_episode: NewEpisode, changed: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {
        "name": "toy",
        "version": "0.1.0",
        "splits": {"train": [new_episode(0, 2)]},
        "image_hw": (24, 32),
        "rate_hz": 5.0,
        "state_names": ("a", "b", "c"),
    }
    with pytest.raises(ConfigError):
        write_dataset(tmp_path, **{**arguments, **changed})
    assert not list(tmp_path.rglob("*.tfrecord*"))


def test_a_split_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'train' has no episodes"):
        write_dataset(tmp_path, "toy", "0.1.0", {"train": []}, (24, 32), 5.0)


def test_an_existing_dataset_is_replaced_only_when_asked(tmp_path: Path) -> None:
    def go(value: int, **more: Any) -> Path:
        episode = {"frames_TYXC": np.full((2, 8, 8, 3), value, np.uint8)}
        return write_dataset(tmp_path, "toy", "0.1.0", {"train": [episode]}, (8, 8), 5.0, **more)

    folder = go(1)
    with pytest.raises(ConfigError, match="exists already"):
        go(2)
    assert next(open_dataset(folder).episodes()).frames_TYXC.max() == 1
    go(3, overwrite=True)
    assert next(open_dataset(folder).episodes()).frames_TYXC.max() == 3
    assert [path.name for path in folder.parent.iterdir()] == ["0.1.0"]


def test_a_failing_source_leaves_the_old_dataset(tmp_path: Path, new_episode: NewEpisode) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield new_episode(0, 3)
        raise KeyboardInterrupt

    def go(episodes: Any) -> Path:
        names = ("a", "b", "c")
        splits = {"train": episodes}
        return write_dataset(
            tmp_path, "toy", "0.1.0", splits, (24, 32), 5.0, state_names=names, overwrite=True
        )

    folder = go([new_episode(5, 4)])
    with pytest.raises(KeyboardInterrupt):
        go(broken())
    assert [episode.num_frames for episode in open_dataset(folder).episodes()] == [4]
    assert [path.name for path in folder.parent.iterdir()] == ["0.1.0"]


def test_a_full_disk_is_said_in_one_line(
    tmp_path: Path, new_episode: NewEpisode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(rlds_writer, "write_record", full)
    with pytest.raises(DiskFullError, match=r"no space left to write .*0\.1\.0"):
        write_dataset(
            tmp_path,
            "toy",
            "0.1.0",
            {"train": [new_episode(0, 2)]},
            (24, 32),
            5.0,
            state_names=("a", "b", "c"),
        )
    assert list((tmp_path / "toy").iterdir()) == []


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    kill = """
import os, signal, sys
import numpy as np
from genie_robot.data.rlds_writer import write_dataset
def episodes():
    yield {"frames_TYXC": np.zeros((2, 8, 8, 3), np.uint8)}
    os.kill(os.getpid(), signal.SIGKILL)
write_dataset(sys.argv[1], "toy", "0.1.0", {"train": episodes()}, (8, 8), 5.0)
"""
    subprocess.run([sys.executable, "-c", kill, str(tmp_path)], check=False)
    left = [path.name for path in (tmp_path / "toy").iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".0.1.0.partial-")
    with pytest.raises(DataError, match=r"wanted a folder with dataset_info\.json"):
        open_dataset(tmp_path)
    episode = {"frames_TYXC": np.zeros((2, 8, 8, 3), np.uint8)}
    write_dataset(tmp_path, "toy", "0.1.0", {"train": [episode]}, (8, 8), 5.0)
    assert [path.name for path in (tmp_path / "toy").iterdir()] == ["0.1.0"]
