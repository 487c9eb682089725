from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data.tfrecord import (
    BadRecord,
    Record,
    masked_crc32c,
    read_records,
    scan_records,
    write_record,
)
from genie_robot.errors import CorruptRecordError


def bitwise_crc32c(data: bytes) -> int:
    """The definition (RFC 3720, B.4), a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def framed(payloads: list[bytes]) -> bytes:
    file = io.BytesIO()
    for payload in payloads:
        write_record(file, payload)
    return file.getvalue()


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=2500))
def test_masked_crc_equals_its_definition(data: bytes) -> None:
    crc = bitwise_crc32c(data)
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_only_wanted_records_are_read_and_checked(tmp_path: Path) -> None:
    payloads = [bytes([number]) * 30 for number in range(6)]
    content = bytearray(framed(payloads))
    for number in (0, 3):
        content[46 * number + 20] ^= 1  # the payloads of records 0 and 3
    (tmp_path / "shard").write_bytes(content)
    found = list(scan_records(tmp_path / "shard", {1, 3, 5}))
    assert [(record.number, record.offset, type(record)) for record in found] == [
        (1, 46, Record),
        (3, 138, BadRecord),
        (5, 230, Record),
    ]


@settings(deadline=None, max_examples=40)
@given(payloads=st.lists(st.binary(max_size=300), max_size=6))
def test_round_trip(payloads: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("round") / "shard"
    path.write_bytes(framed(payloads))
    assert list(read_records(path)) == payloads


@settings(deadline=None, max_examples=60)
@given(payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=4), data=st.data())
def test_a_flipped_bit_is_always_noticed(
    payloads: list[bytes], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(framed(payloads))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("flip") / "shard"
    path.write_bytes(content)
    records = list(scan_records(path))
    assert sum(isinstance(record, BadRecord) for record in records) == 1
    good = [record.payload for record in records if isinstance(record, Record)]
    assert all(payload in payloads for payload in good)
    assert len(good) < len(payloads)
    with pytest.raises(CorruptRecordError, match="shard: record"):
        list(read_records(path))


@settings(deadline=None, max_examples=60)
@given(payloads=st.lists(st.binary(max_size=60), min_size=1, max_size=4), data=st.data())
def test_a_truncated_file_gives_the_whole_records_before_the_cut(
    payloads: list[bytes], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = framed(payloads)
    ends = np.cumsum([len(payload) + 16 for payload in payloads])
    size = data.draw(st.integers(0, len(content) - 1))
    path = tmp_path_factory.mktemp("cut") / "shard"
    path.write_bytes(content[:size])
    records = list(scan_records(path))
    whole = int((ends <= size).sum())
    assert [record.payload for record in records if isinstance(record, Record)] == payloads[:whole]
    at_border = size in {0, *ends.tolist()}
    assert any(isinstance(record, BadRecord) for record in records) != at_border


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_survived(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "shard"
    path.write_bytes(content)
    assert len(list(scan_records(path))) <= 1 + len(content) // 16


def test_error_names_file_record_and_offset(tmp_path: Path) -> None:
    content = bytearray(framed([b"first", b"second", b"third"]))
    content[21 + 12 + 2] ^= 0x40  # inside the payload of record 1, which begins at byte 21
    path = tmp_path / "toy-train.tfrecord-00000-of-00001"
    path.write_bytes(content)
    with pytest.raises(CorruptRecordError, match=r"toy-train\.tfrecord-00000-of-00001: record 1 at byte 21 "):
        list(read_records(path))
    kinds = [type(record).__name__ for record in scan_records(path)]
    assert kinds == ["Record", "BadRecord", "Record"]


def test_masked_crc_is_the_one_in_the_tfrecord_format() -> None:
    # bytes 8 to 12 of a TFRecord file that begins with a record of 0 bytes
    assert masked_crc32c(bytes(8)).to_bytes(4, "little").hex() == "29039807"
