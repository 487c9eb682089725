"""TFRecord framing: length, masked crc32c of the length, payload, masked crc32c of the payload. No TensorFlow.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord (section "TFRecords format details").
crc32c is the Castagnoli polynomial (RFC 3720, appendix B.4).
"""

from __future__ import annotations

import struct
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import google_crc32c

from genie_robot.errors import CorruptRecordError

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def masked_crc32c(data: bytes) -> int:
    """crc32c rotated right by 15 bits plus a constant, as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


class Record(NamedTuple):
    """One record of a shard: its number in the file, byte offset of its header, and payload."""

    number: int
    offset: int
    payload: bytes


class BadRecord(NamedTuple):
    """A record that cannot be used; `ends_file` says that nothing after it can be found either."""

    number: int
    offset: int
    reason: str
    ends_file: bool


def write_record(file: BinaryIO, payload: bytes) -> int:
    """Write one framed record; returns the bytes written."""
    length = struct.pack("<Q", len(payload))
    file.write(length + _FOOTER.pack(masked_crc32c(length)))
    file.write(payload)
    file.write(_FOOTER.pack(masked_crc32c(payload)))
    return len(payload) + 16


def scan_records(path: Path, wanted: Container[int] | None = None) -> Iterator[Record | BadRecord]:
    """Yield every record of a shard, a `BadRecord` in place of each broken one; never raises for bad content.

    With `wanted`, records of other numbers are stepped over unread, unless their length cannot be trusted.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        number, offset = 0, 0
        while offset < size:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                yield BadRecord(number, offset, "file ends inside the record header", True)
                return
            length, length_crc = _HEADER.unpack(header)
            if masked_crc32c(header[:8]) != length_crc:
                yield BadRecord(number, offset, "crc32c of the record length does not match", True)
                return
            end = offset + _HEADER.size + length + _FOOTER.size
            if end > size:
                yield BadRecord(number, offset, f"file ends {end - size} bytes before the record does", True)
                return
            if wanted is not None and number not in wanted:
                file.seek(end)
                number, offset = number + 1, end
                continue
            payload = file.read(length)
            (payload_crc,) = _FOOTER.unpack(file.read(_FOOTER.size))
            if masked_crc32c(payload) == payload_crc:
                yield Record(number, offset, payload)
            else:
                yield BadRecord(number, offset, "crc32c of the record does not match", False)
            number, offset = number + 1, end


def corrupt_record_error(path: Path, number: int, offset: int, reason: str) -> CorruptRecordError:
    """The one-line error that names file, record and offset."""
    return CorruptRecordError(
        f"{path}: record {number} at byte {offset} cannot be read ({reason}); fetch the shard again, or skip bad records"
    )


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the payload of every record; raises CorruptRecordError naming file, record number and offset."""
    for record in scan_records(path):
        if isinstance(record, BadRecord):
            raise corrupt_record_error(path, record.number, record.offset, record.reason)
        yield record.payload
