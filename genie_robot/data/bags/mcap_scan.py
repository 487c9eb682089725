"""Read an MCAP file from front to back, so that a file whose end is missing or whose middle is damaged is still read.

Library readers start from the index at the end, which a killed recorder never wrote, and stop at the first damaged
chunk. Here each damaged chunk and a missing end become one `Damage`, and everything else is yielded in file order. Files
without chunks may have a checksum over all of their data instead: a wrong one is a `Damage` too, at the end.
Format: https://mcap.dev/spec (little endian; a record is an opcode, a uint64 length, and that many bytes).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MAGIC = b"\x89MCAP0\r\n"
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_BLOCK_BYTES = 1 << 20

#: (compressed bytes, name of the compression, uncompressed size) -> bytes; may raise anything on damaged bytes
Decompress = Callable[[bytes, str, int], bytes]


@dataclass(frozen=True)
class McapChannel:
    """A topic: its message type, how messages are encoded ("cdr", "ros1", ...), and the type's definition."""

    topic: str
    msgtype: str
    encoding: str
    definition: str
    definition_format: str


@dataclass(frozen=True)
class McapMessage:
    """One message: its channel, receive time [ns], place of its record (its chunk's, if it lies in one), content."""

    channel: McapChannel
    receive_ns: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Damage:
    """Something that could not be read: where (byte offset in the file) and why."""

    offset: int
    reason: str


class _Tables:
    """Schemas and channels seen so far, by their ids."""

    def __init__(self) -> None:
        self.schemas: dict[int, tuple[str, str, str]] = {}
        self.channels: dict[int, McapChannel] = {}


def scan_mcap(file: BinaryIO, decompress: Decompress) -> Iterator[McapChannel | McapMessage | Damage]:
    """Yield the channels, messages and damages of an MCAP file in file order.

    Never raises for damaged content: a chunk with a wrong checksum or an impossible length is one `Damage`, and so is a
    file that ends before its end record, or whose data as a whole has another checksum than its end record says.
    """
    size = file.seek(0, 2)
    file.seek(0)
    stream = _Stream(file)
    if stream.read(len(_MAGIC)) != _MAGIC:
        yield Damage(0, "does not begin as an MCAP file")
        return
    tables, offset, sound = _Tables(), len(_MAGIC), True
    while offset + 9 <= size:
        checksum = stream.checksum
        opcode, length = struct.unpack("<BQ", stream.read(9))
        if length > size - offset - 9:
            yield Damage(offset, f"a record of {length} bytes is cut off after {size - offset - 9}")
            return
        if opcode == _DATA_END:
            # 0 means that the writer has not summed up; a damaged chunk has been told already
            wanted = int.from_bytes(stream.read(min(length, 4)), "little")
            if sound and wanted not in (0, checksum):
                yield Damage(offset, "the data was altered: its checksum differs")
            return
        items: Iterator[McapChannel | McapMessage | Damage] = iter(())
        if opcode == _CHUNK:
            items = _chunk(stream.read(length), offset, tables, decompress)
        elif opcode in (_SCHEMA, _CHANNEL, _MESSAGE):
            items = _record(opcode, memoryview(stream.read(length)), offset, tables)
        else:
            stream.skip(length)
        for item in items:
            sound = sound and not isinstance(item, Damage)
            yield item
        offset += 9 + length
    yield Damage(offset, "the file ends before its end record")


class _Stream:
    """A file read from front to back, and the CRC-32 of what has been read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.checksum = 0

    def read(self, count: int) -> bytes:
        data = self._file.read(count)
        self.checksum = zlib.crc32(data, self.checksum)
        return data

    def skip(self, count: int) -> None:
        """Read past so many bytes, in blocks: an attachment may be larger than the memory."""
        while count > 0 and (data := self.read(min(count, _BLOCK_BYTES))):
            count -= len(data)


def _chunk(
    body: bytes, offset: int, tables: _Tables, decompress: Decompress
) -> Iterator[McapChannel | McapMessage | Damage]:
    try:
        _, _, size, checksum, name_length = struct.unpack_from("<QQQII", body)
        name = body[32 : 32 + name_length].decode("ascii")
        (length,) = struct.unpack_from("<Q", body, 32 + name_length)
        packed = body[40 + name_length : 40 + name_length + length]
        records = memoryview(decompress(packed, name, size) if name else packed)
    except Exception as error:  # struct.error, and whatever a decompressor raises on damaged bytes
        yield Damage(offset, f"a chunk cannot be unpacked ({error})")
        return
    if len(records) != size or (checksum and zlib.crc32(records) != checksum):
        yield Damage(offset, "a chunk was altered: its size or checksum differs")
        return
    start = 0
    while start < size:
        if start + 9 > size:
            yield Damage(offset, "a chunk ends within a record")
            return
        opcode, length = struct.unpack_from("<BQ", records, start)
        if length > size - start - 9:
            yield Damage(offset, "a chunk ends within a record")
            return
        yield from _record(opcode, records[start + 9 : start + 9 + length], offset, tables)
        start += 9 + length


def _record(
    opcode: int, body: memoryview, offset: int, tables: _Tables
) -> Iterator[McapChannel | McapMessage | Damage]:
    try:
        if opcode == _SCHEMA:
            (key,) = struct.unpack_from("<H", body)
            name, encoding, definition = _strings(body, 2, 3)
            tables.schemas[key] = (name, encoding, definition)
        elif opcode == _CHANNEL:
            key, schema = struct.unpack_from("<HH", body)
            topic, encoding = _strings(body, 4, 2)
            msgtype, definition_format, definition = tables.schemas.get(schema, ("", "", ""))
            channel = McapChannel(topic, msgtype, encoding, definition, definition_format)
            if tables.channels.setdefault(key, channel) is channel:
                yield channel
        elif opcode == _MESSAGE:
            key, _, receive_ns = struct.unpack_from("<HIQ", body)
            if key not in tables.channels or len(body) < 22:
                yield Damage(offset, f"a message of {len(body)} bytes belongs to no channel")
            else:
                yield McapMessage(tables.channels[key], receive_ns, offset, bytes(body[22:]))
    except (struct.error, UnicodeDecodeError) as error:
        yield Damage(offset, f"a record cannot be read ({error})")


def _strings(body: memoryview, start: int, count: int) -> list[str]:
    """`count` length-prefixed strings from `start`; struct.error when one is cut off."""
    texts = []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", body, start)
        if length > len(body) - start - 4:
            raise struct.error(f"a text of {length} bytes in a record of {len(body)}")
        texts.append(bytes(body[start + 4 : start + 4 + length]).decode("utf-8"))
        start += 4 + length
    return texts
