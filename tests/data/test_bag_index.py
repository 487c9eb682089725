"""Bags are looked through once: what was found is kept in the cache folder, and used while the bag is as it was."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bags import SECOND, StoragePlugin, camera_messages, frame_of, raw, wanted_frames, write_bag

pytest.importorskip("rosbags")
from genie_robot.data.bags import dataset as bag_dataset
from genie_robot.data.bags.dataset import BagDataset
from genie_robot.data.bags.file import BagFile
from genie_robot.errors import CorruptRecordError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENIE_ROBOT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What of bags is opened: their names, and their topics where messages are read."""
    done: list[str] = []
    open_bag, messages = BagFile.__init__, BagFile.messages

    def opening(bag: BagFile, path: Path) -> None:
        done.append(path.name)
        open_bag(bag, path)

    def reading(bag: BagFile, names: Any) -> Iterator[Any]:
        done.append(f"{bag.path.name} {sorted(names)}")
        return messages(bag, names)

    monkeypatch.setattr(BagFile, "__init__", opening)
    monkeypatch.setattr(BagFile, "messages", reading)
    return done


def aged(folder: Path, seconds: float = 60) -> Path:
    """The folder with all files changed so long ago."""
    for path in folder.rglob("*"):
        changed = time.time() - seconds
        os.utime(path, (changed, changed))
    return folder


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_second_opening_reads_no_bag(
    plugin: StoragePlugin, cache: Path, opened: list[str], tmp_path: Path
) -> None:
    for number in range(2):
        write_bag(tmp_path / "bags" / f"run_{number}", camera_messages(5 + number), plugin)
    aged(tmp_path / "bags")
    first = BagDataset(tmp_path / "bags")
    assert opened and len(list(cache.rglob("*.npz"))) == 2
    opened.clear()
    again = BagDataset(tmp_path / "bags")
    known = ("name", "version", "dt_s", "splits", "records", "cameras", "image_key")
    assert [getattr(again, name) for name in known] == [getattr(first, name) for name in known]
    assert again.parts("train") == first.parts("train") == again.recordings("train")
    assert opened == []
    [episode] = again.episodes(numbers={1})
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames(range(6)))
    assert opened == ["run_1", "run_1 ['/camera/image_raw']"]


def test_a_changed_bag_is_looked_through_again(cache: Path, opened: list[str], tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bags" / "run", camera_messages(5))
    other = write_bag(tmp_path / "other", camera_messages(7))
    BagDataset(aged(bag))
    for source, target in zip(sorted(other.iterdir()), sorted(bag.iterdir()), strict=True):
        target.write_bytes(source.read_bytes())
    aged(bag, 30)
    assert BagDataset(bag).records == {"train": 7}


def test_a_bag_that_is_being_written_is_not_remembered(cache: Path, tmp_path: Path) -> None:
    BagDataset(write_bag(tmp_path / "bag", camera_messages(5)))
    assert not list(cache.rglob("*.npz"))


def test_damage_and_missing_stamps_are_told_each_time(
    cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [raw("/cam", 0, frame_of(k), k * SECOND // 5 + 1) for k in range(6)]
    messages[3][3].step = 5
    bag = aged(write_bag(tmp_path / "bag", messages))
    for _ in range(2):
        caplog.clear()
        dataset = BagDataset(bag)
        assert caplog.text.count("taking the times of recording") == 1
        with pytest.raises(CorruptRecordError, match=r"message 3 of /cam: .*step 5"):
            list(dataset.episodes())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense" * 99])
def test_a_broken_memory_costs_another_look(
    content: bytes, cache: Path, opened: list[str], tmp_path: Path
) -> None:
    bag = aged(write_bag(tmp_path / "bag", camera_messages(5)))
    BagDataset(bag)
    [place] = cache.rglob("*.npz")
    place.write_bytes(content)
    opened.clear()
    assert BagDataset(bag).splits == {"train": 1} and opened
    opened.clear()
    assert BagDataset(bag).splits == {"train": 1} and not opened


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GENIE_ROBOT_CACHE", str(tmp_path / "file"))
    bag = aged(write_bag(tmp_path / "bag", camera_messages(5)))
    for _ in range(2):
        [episode] = BagDataset(bag).episodes()
        assert episode.num_frames == 5


def test_a_bag_is_one_recording_whatever_its_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bag_dataset, "MAX_EPISODE_FRAMES", 8)
    for number, count in enumerate((20, 5, 9)):
        write_bag(tmp_path / f"run_{number}", camera_messages(count))
    (tmp_path / "run_3.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(5))  # holds nothing
    dataset = BagDataset(tmp_path)
    assert dataset.splits == {"train": 6}
    assert dataset.recordings("train") == [range(3), range(3, 4), range(4, 6)]
