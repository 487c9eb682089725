"""Ways to damage a record, for test_fuzz.py: in its framing (a checksum can tell), and in a payload with a right checksum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from genie_robot.data.example_proto import parse_example, serialize_example
from genie_robot.data.tfrecord import masked_crc32c

Rng = np.random.Generator
Value = list[bytes] | list[str] | np.ndarray
IMAGE = "steps/observation/image"
TEXT = "steps/observation/natural_language_instruction"
MOVE = "steps/action/world_vector"
STATE = "steps/observation/state"


def framed(payload: bytes, length: int | None = None) -> bytes:
    """A whole record; `length` lies about its size, with a right checksum of the lie."""
    header = struct.pack("<Q", len(payload) if length is None else length)
    crc = [struct.pack("<I", masked_crc32c(part)) for part in (header, payload)]
    return header + crc[0] + payload + crc[1]


def flip(content: bytes, rng: Rng, first: int = 0, end: int | None = None, most: int = 4) -> bytes:
    """One to `most` different bits of content[first:end] turned over."""
    end = len(content) if end is None else min(end, len(content))
    broken = bytearray(content)
    for bit in rng.choice(8 * (end - first), rng.integers(1, most + 1), replace=False):
        broken[first + bit // 8] ^= 1 << bit % 8
    return bytes(broken)


def _swap_ends(payload: bytes) -> bytes:
    half = len(payload) // 2
    return payload[half:] + payload[:half]


# Each takes a payload and gives the bytes of a file that a checksum or the file's end shows to be broken.
FRAMING: dict[str, Callable[[bytes, Rng], bytes]] = {
    "empty file": lambda payload, rng: b"",
    "cut off": lambda payload, rng: framed(payload)[: int(rng.integers(1, len(payload) + 15))],
    "bits of the length": lambda payload, rng: flip(framed(payload), rng, 0, 8),
    "bits of its checksum": lambda payload, rng: flip(framed(payload), rng, 8, 12),
    "bits of the payload": lambda payload, rng: flip(framed(payload), rng, 12, 12 + len(payload)),
    "bits of the last checksum": lambda payload, rng: flip(framed(payload), rng, 12 + len(payload)),
    "halves exchanged": lambda payload, rng: (
        framed(payload)[:12] + _swap_ends(payload) + framed(payload)[-4:]
    ),
    "a length of 2^63": lambda payload, rng: framed(payload, 2**63 + int(rng.integers(0, 9))),
    "the longest length": lambda payload, rng: framed(payload, 2**64 - 1 - int(rng.integers(0, 30))),
    "a length too long by some": lambda payload, rng: framed(
        payload, len(payload) + int(rng.integers(1, 99))
    ),
    "a length too short": lambda payload, rng: framed(payload, len(payload) - int(rng.integers(1, 99))),
    "noise": lambda payload, rng: rng.bytes(int(rng.integers(1, 400))),
}


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _delimited(field: int, body: bytes, length: int | None = None) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body) if length is None else length) + body


def _entry(key: bytes, feature: bytes) -> bytes:
    return _delimited(1, _delimited(1, _delimited(1, key) + _delimited(2, feature)))


_parsed = lru_cache(maxsize=8)(parse_example)


def _with(payload: bytes, **changes: Value) -> bytes:
    """The example with other values for `image`, `text`, `move` or `state`."""
    paths = {"image": IMAGE, "text": TEXT, "move": MOVE, "state": STATE}
    features: dict[str, Value] = {**_parsed(payload), **{paths[key]: changes[key] for key in changes}}
    return serialize_example(features)


def _images(payload: bytes) -> list[bytes]:
    images = _parsed(payload)[IMAGE]
    assert isinstance(images, list)
    return images


def lying_png(image: bytes, height: int, width: int) -> bytes:
    """The same PNG with another size in its header, and a right checksum of that."""
    header = b"IHDR" + struct.pack(">II", width, height) + image[24:29]
    return image[:12] + header + struct.pack(">I", zlib.crc32(header)) + image[33:]


def lying_jpeg(image: bytes, height: int, width: int) -> bytes:
    """The same JPEG with another size in its frame header."""
    place = image.index(b"\xff\xc0") + 5
    return image[:place] + struct.pack(">HH", height, width) + image[place + 4 :]


def lying(image: bytes, rng: Rng) -> bytes:
    """The same image with another size in its header: random, none, or as large as it goes."""
    sizes = [tuple(rng.integers(1, 300, 2).tolist()), (0, 0), (65_500, 65_500), (20_000, 20_000)]
    change = lying_jpeg if image.startswith(b"\xff\xd8") else lying_png
    return change(image, *sizes[rng.integers(len(sizes))])


@lru_cache(maxsize=1)
def bomb() -> bytes:
    """A PNG of 9,000 x 9,000 pixels in 240 kB."""
    return cv2.imencode(".png", np.zeros((9000, 9000, 3), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[
        1
    ].tobytes()


def _one_image_changed(payload: bytes, rng: Rng, change: Callable[[bytes], bytes]) -> bytes:
    images = _images(payload)
    number = rng.integers(len(images))
    return _with(payload, image=[*images[:number], change(images[number]), *images[number + 1 :]])


def _other_wire_type(payload: bytes, rng: Rng) -> bytes:
    """The tag of a feature's list, of its key or of the map entry with another wire type."""
    place = payload.index(IMAGE.encode())
    tags = [0, place - 2, place + len(IMAGE)]
    broken = bytearray(payload)
    tag = tags[rng.integers(3)]
    broken[tag] = broken[tag] & ~7 | int(rng.choice([0, 1, 3, 4, 5, 6, 7]))
    return bytes(broken)


def _absurd_length(payload: bytes, rng: Rng) -> bytes:
    """A feature whose list says that it is 2^63 bytes, or one more than there are, or does not stop saying."""
    lengths = [2**63, 2**64 - 1, 2**32, 500]
    pick = int(rng.integers(5))
    if pick == 4:
        return payload + _entry(IMAGE.encode(), b"\x0a" + b"\xff" * int(rng.integers(9, 40)))
    return payload + _entry(IMAGE.encode(), _delimited(1, b"abc", lengths[pick]))


def _wrong_kind(payload: bytes, rng: Rng) -> bytes:
    """A feature of another list kind, or of as many numbers as do not fit."""
    numbers = np.arange(rng.integers(0, 30))
    return [
        _with(payload, image=numbers),
        _with(payload, image=numbers.astype(np.float32)),
        _with(payload, text=numbers),
        _with(payload, move=[b"left", b"right"]),
        _with(payload, move=np.full(3 * len(_images(payload)), np.nan, np.float32)),
        _with(payload, state=np.arange(1000) + 2**40),
    ][rng.integers(6)]


def _other_count(payload: bytes, rng: Rng) -> bytes:
    images = _images(payload)
    return _with(payload, image=[images[:0], images[1:], images * 5, [b""] * 5000][rng.integers(4)])


def _doubled_key(payload: bytes, rng: Rng) -> bytes:
    """A key a second time: nothing, another order, or numbers; the last one counts, as in protobuf."""
    more = [[], _images(payload)[::-1], np.arange(5)][rng.integers(3)]
    return payload + serialize_example({IMAGE: more})


# Each takes a payload and gives another one, which goes into a record with right checksums.
PAYLOAD: dict[str, Callable[[bytes, Rng], bytes]] = {
    "bits anywhere": lambda payload, rng: flip(payload, rng, most=8),
    "bits at the front": lambda payload, rng: flip(payload, rng, 0, 400),
    "cut off": lambda payload, rng: payload[: rng.integers(0, len(payload))],
    "noise": lambda payload, rng: rng.bytes(int(rng.integers(0, 300))),
    "halves exchanged": lambda payload, rng: _swap_ends(payload),
    "wire types": _other_wire_type,
    "lengths": _absurd_length,
    "kinds": _wrong_kind,
    "counts": _other_count,
    "doubled keys": _doubled_key,
    "keys that are no text": lambda payload, rng: payload + _entry(rng.bytes(9), _delimited(1, b"")),
    "text that is no text": lambda payload, rng: _with(payload, text=[rng.bytes(20)] * 3),
    "bits of an image": lambda payload, rng: _one_image_changed(payload, rng, lambda image: flip(image, rng)),
    "an image cut off": lambda payload, rng: _one_image_changed(
        payload, rng, lambda image: image[: rng.integers(0, len(image))]
    ),
    "an image that lies": lambda payload, rng: _one_image_changed(
        payload, rng, lambda image: lying(image, rng)
    ),
    "an image too large": lambda payload, rng: _one_image_changed(payload, rng, lambda image: bomb()),
    "an image of nothing": lambda payload, rng: _one_image_changed(
        payload, rng, lambda image: image[:8] + rng.bytes(60)
    ),
}
