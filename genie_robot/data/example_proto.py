"""tf.train.Example on the wire, without protobuf: write the three list kinds, read only the keys asked for.

Schema: Example{1: Features}, Features{1: map<string, Feature>}, map entry {1: key, 2: Feature},
Feature{1: BytesList | 2: FloatList | 3: Int64List}, each list {1: repeated value}, floats and ints packed or not
(tensorflow/core/example/example.proto, feature.proto). A reader that wants the images of an episode never looks
at the bytes of any other feature: `find_features` steps over them by their length.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

FeatureValue = list[bytes] | np.ndarray
_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


class ProtoError(ValueError):
    """The bytes are not a tf.train.Example (internal: readers turn it into CorruptRecordError)."""


def _read_varint(buffer: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(buffer):
            raise ProtoError(f"ends inside a number at byte {position}")
        byte = buffer[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
        if shift > 63:
            raise ProtoError(f"number longer than 10 bytes at byte {position}")


def _fields(buffer: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (field number, wire type, value) of a message; a length-delimited value is a view, not looked at."""
    position, size = 0, len(buffer)
    while position < size:
        tag, position = _read_varint(buffer, position)
        field, wire = tag >> 3, tag & 7
        if field == 0:
            raise ProtoError(f"field number 0 at byte {position}")
        if wire == 0:
            value, position = _read_varint(buffer, position)
            yield field, wire, value
            continue
        if wire == 2:
            length, position = _read_varint(buffer, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ProtoError(f"unknown wire type {wire} at byte {position}")
        if length > size - position:
            raise ProtoError(f"field of {length} bytes at byte {position} where {size - position} are left")
        yield field, wire, buffer[position : position + length]
        position += length


def _messages(buffer: memoryview, wanted: int) -> Iterator[memoryview]:
    for field, _, value in _fields(buffer):
        if field == wanted:
            if not isinstance(value, memoryview):
                raise ProtoError(f"field {field} is a number where a message belongs")
            yield value


def find_features(
    payload: bytes | memoryview, wanted: Collection[str] | None = None
) -> dict[str, memoryview]:
    """Key -> undecoded Feature, for the wanted keys only (None: all). Values of other keys are stepped over."""
    keys = None if wanted is None else {key.encode() for key in wanted}
    found: dict[str, memoryview] = {}
    for features in _messages(memoryview(payload), 1):
        for entry in _messages(features, 1):
            key, feature = b"", memoryview(b"")
            for field, _, value in _fields(entry):
                if field in (1, 2) and not isinstance(value, memoryview):
                    raise ProtoError("map entry holds a number where bytes belong")
                if field == 1:
                    key = bytes(value)
                elif field == 2 and isinstance(value, memoryview):
                    feature = value
            if keys is None or key in keys:
                found[key.decode("utf-8", errors="replace")] = feature
    return found


def decode_feature(feature: memoryview) -> FeatureValue:
    """Feature -> list of bytes, float32 array, or int64 array; an unset Feature is an empty list."""
    result: FeatureValue = []
    for kind, _, body in _fields(feature):
        if kind not in (_BYTES_LIST, _FLOAT_LIST, _INT64_LIST):
            continue
        if not isinstance(body, memoryview):
            raise ProtoError("a feature holds a number where a list belongs")
        if kind == _BYTES_LIST:
            result = _decode_bytes(body)
        elif kind == _FLOAT_LIST:
            result = _decode_floats(body)
        else:
            result = _decode_ints(body)
    return result


def _decode_bytes(body: memoryview) -> list[bytes]:
    """The values of a BytesList; as `_messages` without a generator: this loop runs once for every image of a dataset."""
    values: list[bytes] = []
    position, size = 0, len(body)
    while position < size and body[position] == 0x0A:  # field 1, length-delimited
        length, position = _read_varint(body, position + 1)
        if length > size - position:
            raise ProtoError(f"value of {length} bytes at byte {position} where {size - position} are left")
        values.append(bytes(body[position : position + length]))
        position += length
    return values + [bytes(value) for value in _messages(body[position:], 1)]


def _decode_floats(body: memoryview) -> np.ndarray:
    parts: list[np.ndarray] = []
    for field, wire, value in _fields(body):
        if field != 1:
            continue
        if wire not in (2, 5) or len(value) % 4:  # type: ignore[arg-type]
            raise ProtoError("a float list is not a whole number of 4-byte floats")
        parts.append(np.frombuffer(value, "<f4"))  # type: ignore[arg-type]
    return np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)


def _decode_ints(body: memoryview) -> np.ndarray:
    parts: list[np.ndarray] = []
    for field, wire, value in _fields(body):
        if field != 1:
            continue
        if isinstance(value, int):
            parts.append(np.array([value], np.uint64))
        elif wire == 2:
            parts.append(_decode_packed(value))
        else:
            raise ProtoError("an integer list holds a fixed-width number")
    return np.concatenate(parts).view(np.int64) if parts else np.zeros(0, np.int64)


def _decode_packed(packed: memoryview) -> np.ndarray:
    """Numbers one behind the other, seven bits a byte, the lowest first -> uint64; memory stays near the size of the input."""
    content = np.frombuffer(packed, np.uint8)
    ends = np.flatnonzero(content < 0x80)
    if len(content) and (not len(ends) or ends[-1] != len(content) - 1):
        raise ProtoError("ends inside a number of an integer list")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > 10:
        raise ProtoError("number longer than 10 bytes in an integer list")
    values = np.zeros(len(ends), np.uint64)
    for byte in range(longest):
        has = lengths > byte
        values[has] |= (content[starts[has] + byte] & 0x7F).astype(np.uint64) << np.uint64(7 * byte)
    return values


def parse_example(
    payload: bytes | memoryview, wanted: Collection[str] | None = None
) -> dict[str, FeatureValue]:
    """Decode the wanted features (None: all) of a serialised tf.train.Example; ProtoError if it is not one."""
    return {key: decode_feature(feature) for key, feature in find_features(payload, wanted).items()}


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _delimited(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def encode_feature(value: FeatureValue | list[str]) -> bytes:
    """List of bytes or str, float array, or integer/bool array (any shape, flattened) -> serialised Feature."""
    if isinstance(value, list):
        items = [item.encode() if isinstance(item, str) else item for item in value]
        return _delimited(_BYTES_LIST, b"".join(_delimited(1, item) for item in items))
    flat = np.asarray(value).reshape(-1)
    if flat.dtype.kind == "f":
        packed = flat.astype("<f4").tobytes()
        return _delimited(_FLOAT_LIST, _delimited(1, packed) if packed else b"")
    if flat.dtype.kind not in "iub":
        raise TypeError(
            f"no tf.train.Feature holds dtype {flat.dtype}; wanted float, integer, bool or a list of bytes"
        )
    if flat.size and (flat.dtype == bool or (flat.min() >= 0 and flat.max() < 128)):
        packed = flat.astype(np.uint8).tobytes()
    else:
        packed = b"".join(_varint(int(number) & 0xFFFFFFFFFFFFFFFF) for number in flat)
    return _delimited(_INT64_LIST, _delimited(1, packed) if packed else b"")


def serialize_example(features: Mapping[str, FeatureValue | list[str]]) -> bytes:
    """Key -> value mapping -> serialised tf.train.Example (keys in sorted order, so equal inputs give equal bytes)."""
    entries = []
    for key in sorted(features):
        entry = _delimited(1, key.encode()) + _delimited(2, encode_feature(features[key]))
        entries.append(_delimited(1, entry))
    return _delimited(1, b"".join(entries))
