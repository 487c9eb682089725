from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data import example_proto
from genie_robot.data.example_proto import (
    FeatureValue,
    ProtoError,
    decode_feature,
    find_features,
    parse_example,
    serialize_example,
)

INT64 = st.integers(-(2**63), 2**63 - 1)
VALUES = st.one_of(
    st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20).map(
        lambda x: np.array(x, np.float32)
    ),
    st.lists(INT64, min_size=1, max_size=20).map(lambda x: np.array(x, np.int64)),
)
EXAMPLES = st.dictionaries(st.text(max_size=30), VALUES, max_size=6)


def same(one: FeatureValue, other: FeatureValue) -> bool:
    if isinstance(one, list) or isinstance(other, list):
        return isinstance(one, list) and isinstance(other, list) and one == other
    return one.dtype == other.dtype and np.array_equal(one, other)


@settings(deadline=None, max_examples=40)
@given(EXAMPLES)
def test_round_trip(features: dict[str, FeatureValue]) -> None:
    parsed = parse_example(serialize_example(features))
    assert parsed.keys() == features.keys()
    assert all(same(parsed[key], features[key]) for key in features)


@settings(deadline=None)
@given(EXAMPLES, st.data())
def test_only_wanted_keys_are_returned(features: dict[str, FeatureValue], data: st.DataObject) -> None:
    wanted = data.draw(st.sets(st.sampled_from(sorted(features)) if features else st.text(max_size=3)))
    parsed = parse_example(serialize_example(features), wanted)
    assert parsed.keys() == wanted & features.keys()


@settings(deadline=None, max_examples=150)
@given(EXAMPLES, st.data())
def test_mutated_bytes_never_crash(features: dict[str, FeatureValue], data: st.DataObject) -> None:
    content = bytearray(serialize_example(features))
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for mutated in (bytes(content), bytes(content[:cut])):
        try:
            parsed = parse_example(mutated)
        except ProtoError:
            continue
        assert all(isinstance(value, list | np.ndarray) for value in parsed.values())


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=120))
def test_any_bytes_never_crash(content: bytes) -> None:
    try:
        parsed = parse_example(content)
    except ProtoError:
        return
    assert all(isinstance(value, list | np.ndarray) for value in parsed.values())


def delimited(field: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([field << 3 | 2, len(body)]) + body


def test_lists_that_are_not_packed_are_read_too() -> None:
    floats = delimited(2, b"".join(b"\x0d" + struct.pack("<f", x) for x in (1.5, -2.0)))
    ints = delimited(3, b"\x08\x05\x08\xac\x02")
    assert decode_feature(memoryview(floats)).tolist() == [1.5, -2.0]  # type: ignore[union-attr]
    assert decode_feature(memoryview(ints)).tolist() == [5, 300]  # type: ignore[union-attr]


def test_value_before_key_and_unknown_fields_are_read() -> None:
    feature = delimited(1, delimited(1, b"hello"))
    entry = delimited(2, feature) + b"\x18\x07" + delimited(1, b"key")
    assert parse_example(delimited(1, delimited(1, entry))) == {"key": [b"hello"]}


def test_values_that_are_not_wanted_are_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    features: dict[str, FeatureValue] = {
        "steps/action/world_vector": np.arange(6, dtype=np.float32),
        "steps/observation/image": [b"one", b"two"],
        "steps/action": np.arange(7, dtype=np.float32),
    }
    payload = serialize_example(features)
    decoded: list[bytes] = []

    def spy(feature: memoryview) -> FeatureValue:
        decoded.append(bytes(feature))
        return decode_feature(feature)

    monkeypatch.setattr(example_proto, "decode_feature", spy)
    parsed = parse_example(payload, {"steps/observation/image"})
    assert parsed == {"steps/observation/image": [b"one", b"two"]}
    assert decoded == [bytes(find_features(payload)["steps/observation/image"])]


def test_garbage_in_values_that_are_not_wanted_does_not_matter() -> None:
    payload = bytearray(serialize_example({"action": [b"A" * 40], "image": [b"picture"]}))
    start = bytes(payload).index(b"A" * 40)
    # from the tag of the Feature's list on: a feature that cannot be decoded
    payload[start - 4 : start + 40] = b"\xff" * 44
    assert parse_example(bytes(payload), {"image"}) == {"image": [b"picture"]}
    with pytest.raises(ProtoError):
        parse_example(bytes(payload), {"action"})


def test_equal_content_gives_equal_bytes_whatever_the_order() -> None:
    one = serialize_example({"a": [b"1"], "b": np.array([1.0], np.float32)})
    assert one == serialize_example({"b": np.array([1.0], np.float32), "a": [b"1"]})


def test_a_dtype_that_no_feature_holds_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        serialize_example({"a": np.zeros(2, complex)})
