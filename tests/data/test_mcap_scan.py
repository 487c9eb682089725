"""MCAP files front to back: the same messages as the library reads, and no crash on damaged ones."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data.bags.dataset import BagDataset
from genie_robot.data.bags.mcap_scan import Damage, McapMessage, scan_mcap
from genie_robot.errors import DataError
from tests.bags import CompressionMode, StoragePlugin, camera_messages, write_bag


def small_mcap(tmp_path: Path) -> bytes:
    path = tmp_path / "small"
    return next(
        write_bag(path, camera_messages(5), compression=CompressionMode.STORAGE).glob("*.mcap")
    ).read_bytes()


def plain(packed: bytes, name: str, size: int) -> bytes:
    from rosbags.rosbag2.storage_mcap import DECOMPRESSORS

    return DECOMPRESSORS[name](packed, size)


def test_our_scan_and_the_library_read_the_same_messages(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Reader

    file = next(write_bag(tmp_path / "bag", camera_messages(1000)).glob("*.mcap"))  # three chunks
    with Reader(file) as reader:
        theirs = [(connection.topic, time, bytes(data)) for connection, time, data in reader.messages()]
    with file.open("rb") as stream:
        items = [item for item in scan_mcap(stream, plain) if isinstance(item, McapMessage | Damage)]
    assert [(i.channel.topic, i.receive_ns, i.data) for i in items if isinstance(i, McapMessage)] == theirs
    assert not any(isinstance(item, Damage) for item in items)


@pytest.fixture(scope="module")
def mcap_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_mcap(tmp_path_factory.mktemp("mcap"))


@settings(max_examples=300)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0, 1) | st.just(1.0))
def test_a_mutated_mcap_never_crashes_the_scan(
    mcap_bytes: bytes, place: float, value: int, cut: float
) -> None:
    data = bytearray(mcap_bytes)
    data[int(place * (len(data) - 1))] = value
    items = list(scan_mcap(io.BytesIO(bytes(data[: int(cut * len(data))])), plain))
    assert sum(isinstance(item, McapMessage) for item in items) <= 5
    if cut < 0.5:
        assert any(isinstance(item, Damage) for item in items)


@settings(max_examples=60)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0.2, 1) | st.just(1.0))
def test_a_mutated_bag_is_read_or_refused(
    mcap_bytes: bytes, tmp_path_factory: pytest.TempPathFactory, place: float, value: int, cut: float
) -> None:
    """Through the whole reader: episodes or a DataError, never another exception."""
    data = bytearray(mcap_bytes)
    data[int(place * (len(data) - 1))] = value
    file = tmp_path_factory.mktemp("mutated") / "bag.mcap"
    file.write_bytes(bytes(data[: int(cut * len(data))]))
    try:
        dataset = BagDataset(file)
        frames = sum(episode.num_frames for episode in dataset.episodes(skip_bad=True))
    except DataError:
        return
    assert frames <= 5 + 5 * dataset.bad_records


def record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def without_chunks(checksum: bool) -> bytes:
    """As recorders write that store no chunks: an attachment, 3 messages, and (`checksum`) a CRC of all before the end."""
    data = b"\x89MCAP0\r\n" + record(1, text("ros2") + text("test"))
    data += record(3, struct.pack("<H", 1) + text("pkg/msg/A") + text("ros2msg") + text("int32 data"))
    data += record(4, struct.pack("<HH", 0, 1) + text("/a") + text("cdr") + text(""))
    data += record(9, bytes(3_000_000))
    for k in range(3):
        data += record(5, struct.pack("<HIQQ", 0, k, k, k) + bytes([k]) * 50)
    return data + record(15, struct.pack("<I", zlib.crc32(data) if checksum else 0))


def test_the_checksum_of_the_whole_data_is_compared() -> None:
    """As every MCAP library sums it up: from the first byte of the file to its end record."""
    whole = without_chunks(checksum=True)
    altered = bytearray(whole)
    altered[-40] ^= 1  # inside the last message
    for data, damages in ((whole, 0), (bytes(altered), 1), (without_chunks(checksum=False), 0)):
        items = list(scan_mcap(io.BytesIO(data), plain))
        assert sum(isinstance(item, McapMessage) for item in items) == 3
        assert [item.reason for item in items if isinstance(item, Damage)] == [
            "the data was altered: its checksum differs"
        ] * damages
    altered = bytearray(whole)
    altered[1_500_000] ^= 1  # inside the attachment, which nobody reads
    assert isinstance(list(scan_mcap(io.BytesIO(bytes(altered)), plain))[-1], Damage)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_cut_off_database_is_said_in_one_line(tmp_path: Path, share: float) -> None:
    whole = write_bag(tmp_path / "whole", camera_messages(40), StoragePlugin.SQLITE3)
    write_bag(tmp_path / "bags" / "a", camera_messages(4))
    content = next(whole.glob("*.db3")).read_bytes()
    (tmp_path / "bags" / "b.db3").write_bytes(content[: int(share * len(content))])
    dataset = BagDataset(tmp_path / "bags")
    with pytest.raises(DataError, match=r"b\.db3.*cannot be read") as caught:
        list(dataset.episodes())
    assert "\n" not in str(caught.value)
    assert next(dataset.episodes(skip_bad=True)).num_frames == 4
