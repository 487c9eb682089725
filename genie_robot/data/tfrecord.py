"""TFRecord framing: length, masked crc32c of the length, payload, masked crc32c of the payload. No TensorFlow.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord (section "TFRecords format details").
crc32c is the Castagnoli polynomial (RFC 3720, appendix B.4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from genie_robot.errors import CorruptRecordError

_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
_ROW_BYTES = 256
_BLOCK_BYTES = 4096 * _ROW_BYTES  # what the processor's cache takes at once
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def _byte_table() -> np.ndarray:
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(_POLYNOMIAL), crc >> 1).astype(np.uint32)
    return crc


_BYTE_TABLE = _byte_table()
_BYTE_LIST: list[int] = _BYTE_TABLE.tolist()


@lru_cache(maxsize=1)
def _word_table() -> np.ndarray:
    """Table that advances a crc by two bytes at once (65,536 entries)."""
    first = _BYTE_TABLE[np.arange(65536) & 0xFF] ^ (np.arange(65536, dtype=np.uint32) >> 8)
    return (_BYTE_TABLE[first & 0xFF] ^ (first >> 8)).astype(np.uint32)


@lru_cache(maxsize=64)
def _shift_tables(level: int) -> np.ndarray:
    """Four byte tables (4, 256) of the linear map 'append _ROW_BYTES * 2**level zero bytes to the message'."""
    if level == 0:
        basis = (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(np.uint32)
        for _ in range(_ROW_BYTES):
            basis = _BYTE_TABLE[basis & 0xFF] ^ (basis >> 8)
    else:
        half = _shift_tables(level - 1)
        basis = _apply(half, _apply(half, (np.uint32(1) << np.arange(32, dtype=np.uint32)).astype(np.uint32)))
    tables = np.zeros((4, 256), np.uint32)
    for byte in range(4):
        for bit in range(8):
            tables[byte] ^= np.where(np.arange(256) >> bit & 1, basis[8 * byte + bit], 0).astype(np.uint32)
    return tables


def _apply(tables: np.ndarray, crc: np.ndarray) -> np.ndarray:
    return (
        tables[0][crc & 0xFF]
        ^ tables[1][crc >> 8 & 0xFF]
        ^ tables[2][crc >> 16 & 0xFF]
        ^ tables[3][crc >> 24]
    )


def _crc_of_rows(rows: np.ndarray) -> np.ndarray:
    """Crc, from zero, of each row of _ROW_BYTES bytes: all rows advance together, two bytes at a time."""
    columns = rows.view("<u2").reshape(-1, _ROW_BYTES // 2).T.astype(np.uint32, order="C")
    crc, table = np.zeros(columns.shape[1], np.uint32), _word_table()
    for column in columns:
        crc ^= column
        crc = table.take(crc & 0xFFFF) ^ (crc >> 16)
    return crc


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """crc32c of `data` (about 400 MB per CPU-second: rows of 256 bytes side by side, joined as a tree)."""
    if len(data) < 4 * _ROW_BYTES:
        crc = 0xFFFFFFFF
        for byte in bytes(data):
            crc = _BYTE_LIST[(crc ^ byte) & 0xFF] ^ (crc >> 8)
        return crc ^ 0xFFFFFFFF
    num_rows = -(-len(data) // _ROW_BYTES)
    rows = np.zeros(
        num_rows * _ROW_BYTES, np.uint8
    )  # zero bytes in front do not change a crc that starts at zero
    start = len(rows) - len(data)
    rows[start:] = np.frombuffer(data, np.uint8)
    rows[start : start + 4] ^= 0xFF  # the same as starting the crc at 0xFFFFFFFF
    crc = np.concatenate(
        [_crc_of_rows(rows[i : i + _BLOCK_BYTES]) for i in range(0, len(rows), _BLOCK_BYTES)]
    )
    level = 0
    while len(crc) > 1:
        if len(crc) % 2:
            crc = np.concatenate([np.zeros(1, np.uint32), crc])
        crc = _apply(_shift_tables(level), crc[0::2]) ^ crc[1::2]
        level += 1
    return int(crc[0]) ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | bytearray | memoryview) -> int:
    """crc32c rotated right by 15 bits plus a constant, as TFRecord stores it."""
    crc = crc32c(data)
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


def scan_records(path: Path) -> Iterator[Record | BadRecord]:
    """Yield every record of a shard, a `BadRecord` in place of each broken one; never raises for bad content."""
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
