"""10,000 damaged records through the reader: each is an episode that is right, or counted; none crashes, hangs or grows.

What a checksum covers (framing, and the inside of a PNG) never gives a wrong frame. A JPEG has no checksum of its own: of
a record whose crc32c was made again after the damage, its size is all that can be trusted.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data.decode import decode_frames, decode_image
from genie_robot.data.example_proto import ProtoError, parse_example, serialize_example
from genie_robot.data.rlds import RldsDataset
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.data.tfrecord import read_records
from genie_robot.errors import CorruptRecordError, ImageError
from tests.data.conftest import STATE_NAMES, make_episodes
from tests.data.mutations import FRAMING, PAYLOAD, bomb, framed, lying, lying_jpeg, lying_png

HW = (24, 32)
NAME = "fractal20220817_data"
Folder = Callable[[str], Path]


@pytest.fixture
def healthy(tmp_path: Path) -> Folder:
    """A dataset of three short episodes with PNG or JPEG images."""

    def write(encoding: str) -> Path:
        episodes = {"train": make_episodes([3, 2, 4])}
        return write_dataset(
            tmp_path / encoding, NAME, "0.1.0", episodes, HW, 3.0, encoding=encoding, state_names=STATE_NAMES
        )

    return write


def shard_files(folder: Path, contents: list[bytes]) -> None:
    """Make the dataset consist of these shards, each said to hold one record."""
    for shard in folder.glob("*.tfrecord-*"):
        shard.unlink()
    for number, content in enumerate(contents):
        (folder / f"{NAME}-train.tfrecord-{number:05d}-of-{len(contents):05d}").write_bytes(content)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = ["1"] * len(contents)
    (folder / "dataset_info.json").write_text(json.dumps(info))


def one_shard(folder: Path, payloads: list[bytes]) -> None:
    """Make the dataset consist of one shard with these payloads and right checksums."""
    shard_files(folder, [b"".join(framed(payload) for payload in payloads)])
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = [str(len(payloads))]
    (folder / "dataset_info.json").write_text(json.dumps(info))


def payloads_and_episodes(folder: Path) -> tuple[list[bytes], list[Any]]:
    (shard,) = folder.glob("*.tfrecord-*")
    return list(read_records(shard)), list(RldsDataset(folder).episodes())


def test_what_a_checksum_covers_never_becomes_a_wrong_episode(healthy: Folder) -> None:
    """4,000 records with broken framing, and 400 whole ones among them."""
    folder, rng, count = healthy("jpeg"), np.random.default_rng(0), 4400
    payloads, episodes = payloads_and_episodes(folder)
    kinds = list(FRAMING)
    whole = set(range(0, count, 11))
    contents = [
        framed(payloads[number % 3])
        if number in whole
        else FRAMING[kinds[number % len(kinds)]](payloads[number % 3], rng)
        for number in range(count)
    ]
    shard_files(folder, contents)
    dataset = RldsDataset(folder)
    got = {
        int(episode.source.rsplit("/", 1)[1]): episode
        for episode in dataset.episodes(skip_bad=True, actions=True)
    }
    assert got.keys() == whole
    assert dataset.bad_records == count - len(whole) == 4000
    for number, episode in got.items():
        np.testing.assert_array_equal(episode.frames_TYXC, episodes[number % 3].frames_TYXC)
    said = {str(error).split(" cannot be read")[0].rsplit("-train.tfrecord-")[1] for error in dataset.bad}
    assert {f"{n:05d}-of-04400: record 0 at byte 0" for n in range(count) if n not in whole} <= said


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_payloads_with_a_right_checksum_are_episodes_or_counted(healthy: Folder, encoding: str) -> None:
    """3,000 records of each encoding, read with actions and state."""
    folder, rng, count = healthy(encoding), np.random.default_rng(1), 3000
    payloads, episodes = payloads_and_episodes(folder)
    known = {frame.tobytes() for episode in episodes for frame in episode.frames_TYXC}
    kinds = list(PAYLOAD)
    one_shard(
        folder, [PAYLOAD[kinds[number % len(kinds)]](payloads[number % 3], rng) for number in range(count)]
    )
    dataset, results = RldsDataset(folder), Counter[str]()
    begin = time.process_time()
    for episode in dataset.episodes(skip_bad=True, actions=True, state=True):
        number = int(episode.source.rsplit("/", 1)[1])
        results[kinds[number % len(kinds)]] += 1
        assert episode.frames_TYXC.shape[1:] == (*HW, 3)
        if encoding == "png":
            assert all(frame.tobytes() in known for frame in episode.frames_TYXC), kinds[number % len(kinds)]
    assert time.process_time() - begin < 30
    assert sum(results.values()) + dataset.bad_records == count
    assert len(dataset.bad) == dataset.bad_records > count / 3
    assert results["text that is no text"] == results["keys that are no text"] > 0  # these hurt nobody
    assert not {"an image too large", "an image of nothing", "lengths"} & results.keys()
    assert results["bits of an image"] == 0 or encoding == "jpeg"


def test_without_skip_bad_each_is_one_of_our_errors(healthy: Folder) -> None:
    folder, rng = healthy("png"), np.random.default_rng(2)
    payloads, _ = payloads_and_episodes(folder)
    raised, text = Counter[str](), "record 0"
    for kind in PAYLOAD:
        one_shard(folder, [PAYLOAD[kind](payloads[0], rng)])
        try:
            raised["read"] += len(list(RldsDataset(folder).episodes(actions=True, state=True)))
        except (CorruptRecordError, ImageError) as error:
            raised[type(error).__name__] += 1
            text = str(error)
        assert "record 0" in text and "\n" not in text
    assert raised.keys() == {"read", "CorruptRecordError", "ImageError"}


def test_memory_stays_small_whatever_a_record_says(healthy: Folder) -> None:
    folder = healthy("png")
    payloads, _ = payloads_and_episodes(folder)
    features = json.loads((folder / "features.json").read_text())
    observation = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"][
        "features"
    ]["observation"]["featuresDict"]["features"]
    observation["image"]["image"]["shape"] = {"dimensions": ["-1", "-1", "3"]}  # any size is allowed
    (folder / "features.json").write_text(json.dumps(features))
    example = parse_example(payloads[0])
    (image, *_), key = example["steps/observation/image"], "steps/observation/image"
    bad = [
        {**example, key: [bomb()]},
        {**example, key: [image] + [b""] * 100_000},
        {**example, key: [lying_png(image, 8192, 8192)]},
        {**example, key: [lying_png(image, 2**31 - 1, 2**31 - 1)]},
        {**example, key: [lying_png(image, 8192, 8192)] * 200},
    ]
    huge = [framed(payloads[0], 2**63), framed(payloads[0], 2**40)]
    one_shard(folder, [serialize_example(features) for features in bad])
    dataset = RldsDataset(folder)
    tracemalloc.start()
    assert list(dataset.episodes(skip_bad=True)) == []
    assert dataset.bad_records == len(bad)
    for content in huge:
        shard_files(folder, [content])
        assert list(RldsDataset(folder).episodes(skip_bad=True)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 450e6  # one frame of 8192 x 8192 that turns out to be none is the most


PLAIN = np.full((*HW, 3), 77, np.uint8)
IMAGES = [cv2.imencode(kind, PLAIN)[1].tobytes() for kind in (".png", ".jpg")]


@settings(deadline=None, max_examples=300)
@given(image=st.sampled_from(IMAGES), data=st.data())
def test_any_image_decodes_to_its_size_or_is_an_image_error(image: bytes, data: st.DataObject) -> None:
    content = bytearray(image)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for mutated in (bytes(content), bytes(content[:cut])):
        try:
            frame = decode_image(mutated, (*HW, 3))
        except ImageError:
            continue
        assert frame.shape == (*HW, 3)
        assert mutated.startswith(b"\xff\xd8") or (frame == 77).all()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=80), st.sampled_from(["", "png", "jpeg"]))
def test_any_bytes_are_an_image_error(content: bytes, kind: str) -> None:
    start = {"": b"", "png": IMAGES[0][:8], "jpeg": IMAGES[1][:3]}[kind]
    with pytest.raises(ImageError):
        decode_frames([start + content])


@settings(deadline=None, max_examples=300)
@given(payload=st.binary(max_size=200), entry=st.binary(max_size=60))
def test_any_payload_is_an_example_or_a_proto_error(payload: bytes, entry: bytes) -> None:
    key = b"\x0a\x05image\x12" + bytes([len(entry)]) + entry
    wrapped = bytes([0x0A, len(key) + 2, 0x0A, len(key)]) + key
    for content in (payload, wrapped, wrapped + payload):
        try:
            values = parse_example(content, {"image"})
        except ProtoError:
            continue
        assert all(isinstance(value, list | np.ndarray) for value in values.values())


def test_a_lie_about_the_size_is_found_before_memory_is_taken() -> None:
    rng = np.random.default_rng(3)
    for image in IMAGES:
        change = lying_jpeg if image.startswith(b"\xff\xd8") else lying_png
        with pytest.raises(ImageError, match=r"\(30, 40\) pixels; wanted \(24, 32\)"):
            decode_image(change(image, 30, 40), (*HW, 3))
        with pytest.raises(ImageError, match="wanted at most"):
            decode_image(change(image, 60_000, 60_000))
        for _ in range(20):
            with pytest.raises(ImageError):
                decode_image(lying(image, rng), (*HW, 3))
