"""Bags written with rosbags (sqlite3 and MCAP, ROS 1), read as episodes; damage, several cameras, alignment by stamp."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.data.bags import dataset as bag_dataset
from genie_robot.data.bags.dataset import BagDataset, is_bag
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError
from tests.bags import (
    HW,
    IMAGE,
    SECOND,
    START_NS,
    STORE,
    CompressionMode,
    Message,
    StoragePlugin,
    camera_messages,
    compressed,
    frame_of,
    jpeg_of,
    raw,
    robot_action,
    wanted_frames,
    write_bag,
)

pytest.importorskip("rosbags")
from rosbags.rosbag1 import Writer as Rosbag1Writer
from rosbags.typesys import Stores, get_typestore

from genie_robot.data.bags.file import ROBOT_ACTION_DEFINITION, BagFile

REPOSITORY = Path(__file__).resolve().parents[2]


STORAGES = {
    "mcap": {},
    "mcap, chunks compressed": {"compression": CompressionMode.STORAGE},
    "sqlite3": {"plugin": StoragePlugin.SQLITE3},
    "sqlite3, messages compressed": {"plugin": StoragePlugin.SQLITE3, "compression": CompressionMode.MESSAGE},
    "sqlite3, file compressed": {"plugin": StoragePlugin.SQLITE3, "compression": CompressionMode.FILE},
}


@pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)
def test_every_storage_gives_the_same_frames(storage: dict[str, Any], tmp_path: Path) -> None:
    dataset = BagDataset(write_bag(tmp_path / "demo-1", camera_messages(9), **storage))
    assert is_bag(tmp_path) and is_bag(tmp_path / "demo-1")
    assert (dataset.name, dataset.splits, dataset.dt_s) == ("demo_1", {"train": 1}, pytest.approx(0.1))
    [episode] = dataset.episodes()
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames(range(9)))
    assert (episode.source, episode.dt_s, episode.instruction) == ("demo_1/train/0", dataset.dt_s, "")
    assert episode.actions_TA is None and episode.state_TS is None


@pytest.mark.parametrize("suffix", ["mcap", "db3"])
def test_single_files_need_no_metadata(suffix: str, tmp_path: Path) -> None:
    plugin = StoragePlugin.MCAP if suffix == "mcap" else StoragePlugin.SQLITE3
    folder = write_bag(tmp_path / "bag", camera_messages(4), plugin)
    (folder / "metadata.yaml").unlink()  # what a killed recorder leaves
    for place in (folder, next(folder.glob(f"*.{suffix}"))):
        [episode] = BagDataset(place).episodes()
        np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames(range(4)))


def test_ros1_bags_are_read_too(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    with Rosbag1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/camera", IMAGE, typestore=store)
        for k in range(5):
            stamp = types["builtin_interfaces/msg/Time"](k + 1, 0)
            head = types["std_msgs/msg/Header"](seq=k, stamp=stamp, frame_id="camera")
            frame = frame_of(k)
            message = types[IMAGE](head, *HW, "rgb8", 0, HW[1] * 3, frame.reshape(-1))
            writer.write(connection, (k + 1) * SECOND, store.serialize_ros1(message, IMAGE))
    dataset = BagDataset(tmp_path / "old.bag")
    [episode] = dataset.episodes()
    assert dataset.dt_s == 1.0
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames(range(5)))


def test_a_folder_of_bags(tmp_path: Path) -> None:
    for number, count in ((2, 3), (10, 4), (1, 5)):
        write_bag(tmp_path / f"run_{number}", camera_messages(count))
    dataset = BagDataset(tmp_path)
    assert dataset.parts("train") == [range(1), range(1, 2), range(2, 3)]
    assert [e.num_frames for e in dataset.episodes()] == [5, 3, 4]  # run_2 before run_10
    twin = copy.copy(dataset)
    [last] = twin.episodes(numbers=range(2, 3))
    assert last.num_frames == 4 and last.source.endswith("/2")
    with pytest.raises(DataError, match="no split 'val'; wanted 'train'"):
        dataset.episodes("val")


def test_numbers_open_only_their_bags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        write_bag(tmp_path / f"run_{number}", camera_messages(3))
    dataset = BagDataset(tmp_path)
    opened: list[str] = []
    original = BagFile.messages

    def spy(bag: BagFile, names: Any) -> Iterator[Any]:
        opened.append(bag.path.name)
        return original(bag, names)

    monkeypatch.setattr(BagFile, "messages", spy)
    assert len(list(dataset.episodes(numbers=range(1, 2)))) == 1
    assert opened == ["run_1"]


def test_no_bag_is_said(tmp_path: Path) -> None:
    assert not is_bag(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="holds no bag; wanted a rosbag2 folder"):
        BagDataset(tmp_path)
    write_bag(
        tmp_path / "silent", [("/speed", "std_msgs/msg/Int32", 5, STORE.types["std_msgs/msg/Int32"](3))]
    )
    with pytest.raises(DataError, match=r"no camera; found /speed \(std_msgs/msg/Int32\)"):
        BagDataset(tmp_path)


# --- cameras -----------------------------------------------------------------------------------------------------


def two_cameras(count: int = 12) -> list[Message]:
    messages = camera_messages(count, "/wrist/image_raw", SECOND // 20)
    for k in range(count // 2):
        stamp = START_NS + k * SECOND // 10
        messages.append(
            compressed("/front/image_raw/compressed", stamp, jpeg_of(frame_of(100 + k, (48, 64))))
        )
        messages.append(
            raw(
                "/depth",
                stamp,
                np.zeros((24, 32, 3), np.uint8),
                encoding="16UC1",
                step=64,
                data=np.zeros(24 * 64, np.uint8),
            )
        )
    return messages


def test_the_outside_colour_camera_is_the_default(tmp_path: Path) -> None:
    dataset = BagDataset(write_bag(tmp_path / "bag", two_cameras()))
    assert dataset.image_key == "/front/image_raw/compressed" and dataset.dt_s == pytest.approx(0.1)
    [episode] = dataset.episodes()
    expected: Any = cv2.imdecode(np.frombuffer(jpeg_of(frame_of(103, (48, 64))), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(episode.frames_TYXC[3], expected[..., ::-1])
    [small] = dataset.episodes(image_hw=(12, 16))
    assert small.frames_TYXC.shape == (6, 12, 16, 3)


def test_a_grey_camera_is_better_than_none(tmp_path: Path) -> None:
    grey = [
        raw(
            "/ir",
            START_NS + k * SECOND // 5,
            frame_of(k),
            encoding="mono8",
            step=32,
            data=frame_of(k)[..., 0].reshape(-1),
        )
        for k in range(4)
    ]
    [episode] = BagDataset(write_bag(tmp_path / "bag", grey)).episodes()
    np.testing.assert_array_equal(episode.frames_TYXC, np.repeat(wanted_frames(range(4))[..., :1], 3, axis=3))


def test_another_camera_is_read_at_the_same_times(tmp_path: Path) -> None:
    dataset = BagDataset(write_bag(tmp_path / "bag", two_cameras()))
    [episode] = dataset.episodes(image_key="/wrist/image_raw")
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames([0, 2, 4, 6, 8, 10]))
    message = "no camera '/left'; wanted one of: /wrist/image_raw, /front/image_raw/compressed, /depth"
    with pytest.raises(DataError, match=message):
        dataset.episodes(image_key="/left")


def test_a_camera_that_stops_early_is_no_view_of_the_episode(tmp_path: Path) -> None:
    messages = [*camera_messages(20), *camera_messages(5, "/side")]
    dataset = BagDataset(write_bag(tmp_path / "bag", messages))
    assert dataset.image_key == "/camera/image_raw"
    with pytest.raises(CorruptRecordError, match="/side has no image within"):
        list(dataset.episodes(image_key="/side"))
    assert list(dataset.episodes(image_key="/side", skip_bad=True)) == [] and dataset.bad_records == 20


def test_jpeg_bytes_are_handed_on_unchanged(tmp_path: Path) -> None:
    dataset = BagDataset(write_bag(tmp_path / "bag", two_cameras()))
    [episode] = dataset.encoded_episodes()
    assert episode["encoded"] == [jpeg_of(frame_of(100 + k, (48, 64))) for k in range(6)]
    assert dataset.stored_encoding() == "jpeg" and dataset.stored_encoding("/wrist/image_raw") is None


# --- stamps, gaps and rates --------------------------------------------------------------------------------------


def test_order_duplicates_and_gaps(tmp_path: Path) -> None:
    messages = camera_messages(12)
    messages[3], messages[4] = messages[4], messages[3]  # out of order
    messages.insert(
        7, raw("/camera/image_raw", START_NS + 6 * SECOND // 10, frame_of(999))
    )  # a repeated stamp
    late = [raw("/camera/image_raw", START_NS + k * SECOND // 10, frame_of(k)) for k in range(16, 20)]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*messages, *late]))
    first, second = dataset.episodes()
    np.testing.assert_array_equal(first.frames_TYXC, wanted_frames(range(12)))
    np.testing.assert_array_equal(second.frames_TYXC, wanted_frames(range(16, 20)))


def test_a_dropped_frame_is_held_and_no_cut(tmp_path: Path) -> None:
    messages = camera_messages(10)
    del messages[5]
    [episode] = BagDataset(write_bag(tmp_path / "bag", messages)).episodes()
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames([0, 1, 2, 3, 4, 4, 6, 7, 8, 9]))


@pytest.mark.parametrize("stamp", [lambda k: 0, lambda k: START_NS], ids=["zero", "stuck"])
def test_missing_stamps_fall_back_to_receive_times(
    stamp: Callable[[int], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [raw("/cam", stamp(k), frame_of(k), START_NS + k * SECOND // 5) for k in range(6)]
    dataset = BagDataset(write_bag(tmp_path / "bag", messages))
    [episode] = dataset.episodes()
    assert dataset.dt_s == pytest.approx(0.2)
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames(range(6)))
    assert caplog.text.count("taking the times of recording") == 1


def test_rate(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "bag", camera_messages(31))
    dataset = BagDataset(path, rate_hz=3.0)
    [episode] = dataset.episodes()
    assert episode.dt_s == pytest.approx(1 / 3)
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames([0, 3, 7, 10, 13, 17, 20, 23, 27, 30]))
    with pytest.raises(DataError, match="gives 10 Hz; got rate_hz=20: ask for less"):
        BagDataset(path, rate_hz=20)


def test_a_long_recording_becomes_several_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bag_dataset, "MAX_EPISODE_FRAMES", 8)
    dataset = BagDataset(write_bag(tmp_path / "bag", camera_messages(20)))
    episodes = list(dataset.episodes())
    assert [e.num_frames for e in episodes] == [7, 7, 6]
    np.testing.assert_array_equal(np.concatenate([e.frames_TYXC for e in episodes]), wanted_frames(range(20)))


# --- damage ------------------------------------------------------------------------------------------------------


def many_chunks(path: Path, count: int = 12) -> Path:
    """Images of 300 kB, so that each chunk of the file holds four."""
    messages = [raw("/cam", START_NS + k * SECOND // 10, frame_of(k, (250, 400))) for k in range(count)]
    return next(write_bag(path, messages).glob("*.mcap"))


def test_a_truncated_mcap_gives_what_is_whole(tmp_path: Path) -> None:
    file = many_chunks(tmp_path / "bag")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])
    dataset = BagDataset(file)
    with pytest.raises(
        CorruptRecordError, match=r"bag.mcap: at byte \d+: a record of \d+ bytes is cut off after"
    ):
        list(dataset.episodes())
    [episode] = dataset.episodes(skip_bad=True)
    np.testing.assert_array_equal(episode.frames_TYXC[3], frame_of(3, (250, 400)))
    assert episode.num_frames == 4 and dataset.bad_records == 1 == len(dataset.bad)
    list(dataset.episodes(skip_bad=True))
    assert dataset.bad_records == 1  # counted anew


def test_a_bag_whose_recorder_was_killed(tmp_path: Path) -> None:
    """No metadata.yaml, no index, no end record, but every chunk is whole."""
    file = many_chunks(tmp_path / "bag")
    data = file.read_bytes()
    file.write_bytes(data[: data.rindex(b"\x0c", 0, data.index(b"rosbag2", 100))])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    dataset = BagDataset(tmp_path / "bag")
    [episode] = dataset.episodes(skip_bad=True)
    assert episode.num_frames == 12 and "ends before its end record" in str(dataset.bad[0])


def damaged(content: Any, cut: int) -> bytes:
    return bytes(STORE.serialize_cdr(content, IMAGE))[:-cut]


def test_damaged_messages_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    messages = camera_messages(10)
    topic, msgtype, receive_ns, content = messages[4]
    messages[4] = topic, msgtype, receive_ns, damaged(content, 100)
    content = messages[7][3]
    content.step = 5
    dataset = BagDataset(write_bag(tmp_path / "bag", messages))
    with pytest.raises(CorruptRecordError, match="message 4 of /camera/image_raw: no sensor_msgs/msg/Image"):
        list(dataset.episodes())
    [episode] = dataset.episodes(skip_bad=True)
    np.testing.assert_array_equal(episode.frames_TYXC, wanted_frames([0, 1, 2, 3, 3, 5, 6, 6, 8, 9]))
    assert dataset.bad_records == 2 and "step 5" in str(dataset.bad[1])
    assert dataset.records == {"train": 10}


def test_a_cut_off_jpeg_is_no_frame(tmp_path: Path) -> None:
    """A decoder would fill the missing half with grey."""
    images = [jpeg_of(frame_of(k)) for k in range(10)]
    images[2] = images[2][: len(images[2]) // 2]
    images[6] = b"GIF89a" + images[6]
    messages = [compressed("/cam", START_NS + k * SECOND // 10, image) for k, image in enumerate(images)]
    dataset = BagDataset(write_bag(tmp_path / "bag", messages))
    [episode] = dataset.episodes(skip_bad=True)
    assert dataset.bad_records == 2 and episode.num_frames == 10
    np.testing.assert_array_equal(episode.frames_TYXC[2], episode.frames_TYXC[1])


def test_a_broken_bag_among_whole_ones(tmp_path: Path) -> None:
    write_bag(tmp_path / "a", camera_messages(3))
    (tmp_path / "b.db3").write_bytes(b"SQLite format 3\x00" + bytes(100))
    (tmp_path / "c.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(5))  # opens, and holds nothing
    write_bag(tmp_path / "d", camera_messages(4))
    dataset = BagDataset(tmp_path)
    with pytest.raises(CorruptRecordError, match=r"b.db3 cannot be read as a bag"):
        list(dataset.episodes())
    assert len(list(dataset.episodes(skip_bad=True))) == 2 and dataset.bad_records == 2
    assert dataset.parts("train") == [range(1), range(1, 2)]
    told: list[int] = []
    for part in dataset.parts("train"):  # each damage is told by one part
        assert len(list(dataset.episodes(skip_bad=True, numbers=part))) == 1
        told.append(len(dataset.bad))
    assert told == [2, 0]


# --- the rest ----------------------------------------------------------------------------------------------------


def test_our_definition_is_the_one_of_the_ros_package() -> None:
    text = (REPOSITORY / "ros2_ws/src/genie_robot_interfaces/msg/RobotAction.msg").read_text()
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    assert [line for line in lines if line] == ROBOT_ACTION_DEFINITION.splitlines()


def test_a_bag_without_definitions_is_read_with_the_standard_ones(tmp_path: Path) -> None:
    """As ROS 2 Humble and older record: sqlite3 without the table message_definitions."""
    import sqlite3

    messages = [*camera_messages(4), robot_action(START_NS, [0.5, 0, 0, 0, 0, 0, 1])]
    folder = write_bag(tmp_path / "bag", messages, StoragePlugin.SQLITE3)
    with sqlite3.connect(next(folder.glob("*.db3"))) as database:
        database.execute("DELETE FROM message_definitions")
    database.close()
    [episode] = BagDataset(folder).episodes(actions=True)
    assert episode.actions_TA is not None and episode.actions_TA[0, 0] == 0.5


def test_looking_for_a_bag_needs_no_rosbags() -> None:
    code = "import sys, genie_robot.data.bags.dataset as m; m.is_bag('docs'); print('rosbags' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "False"


def test_training_reads_bags_directly(tmp_path: Path) -> None:
    """The clip cache of a folder of bags, in two threads, with actions."""
    for number in range(3):
        commands = [
            robot_action(START_NS + k * SECOND // 10, [0.01 * number, 0, 0, 0, 0, 0, 1]) for k in range(8)
        ]
        write_bag(tmp_path / "bags" / f"run_{number}", [*camera_messages(8), *commands])
    cache = build_clip_cache(tmp_path / "bags", tmp_path / "cache", *HW, label_share=1.0, workers=2)
    assert cache.num_frames == 16  # the last bag is held out
