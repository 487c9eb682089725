from __future__ import annotations

import json
import logging
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.data import example_proto, registry
from genie_robot.data.example_proto import find_features, parse_example, serialize_example
from genie_robot.data.open import open_dataset
from genie_robot.data.rlds import RldsDataset
from genie_robot.data.tfrecord import masked_crc32c, read_records, write_record
from genie_robot.errors import CorruptRecordError, DataError, ImageError

Write = Callable[..., Path]
Spans = Callable[[Path], list[tuple[int, int]]]
Shared = Callable[[str], Path]


def only_shard(folder: Path, split: str = "train") -> Path:
    (shard,) = folder.glob(f"*-{split}.tfrecord*")
    return shard


def rewrite(shard: Path, change: Callable[[dict[str, Any]], None], number: int = 1) -> None:
    """Change the features of one record and write the shard again, with right checksums."""
    payloads = list(read_records(shard))
    features = parse_example(payloads[number])
    change(features)
    payloads[number] = serialize_example(features)
    with shard.open("wb") as file:
        for payload in payloads:
            write_record(file, payload)


def count_good(folder: Path, **more: Any) -> tuple[int, int]:
    dataset = open_dataset(folder)
    return len(list(dataset.episodes(skip_bad=True, **more))), dataset.bad_records


def test_rt1_reads(shared_dataset: Shared) -> None:
    dataset = open_dataset(shared_dataset("rt1_rlds"))
    assert (dataset.name, dataset.splits) == ("fractal20220817_data", {"train": 3})
    assert dataset.dt_s == pytest.approx(1 / 3)
    episodes = list(dataset.episodes(actions=True))
    assert [episode.frames_TYXC.shape for episode in episodes] == [(t, 256, 320, 3) for t in (57, 29, 22)]
    assert [episode.instruction for episode in episodes][:2] == [
        "place apple into bottom drawer",
        "pick brown chip bag",
    ]
    assert [episode.actions_TA.shape for episode in episodes if episode.actions_TA is not None] == [
        (t, 7) for t in (57, 29, 22)
    ]
    warm = episodes[0].frames_TYXC.mean(axis=(0, 1, 2))
    assert warm[0] > warm[2] + 10  # the scene is brownish: red and blue are not swapped


def test_bridge_reads_with_its_main_camera(shared_dataset: Shared) -> None:
    dataset = open_dataset(shared_dataset("bridge_octo_rlds"))
    assert (dataset.splits, dataset.dt_s) == ({"train": 13}, 0.2)
    first = next(dataset.episodes(actions=True, state=True))
    assert first.frames_TYXC.shape == (9, 64, 64, 3)
    assert first.actions_TA is not None
    assert first.actions_TA.shape == (9, 7)
    assert first.state_TS is not None
    assert first.state_TS.shape == (9, 7)
    other = next(dataset.episodes(image_key="image_1"))
    assert np.abs(other.frames_TYXC.astype(int) - first.frames_TYXC).mean() > 5
    with pytest.raises(DataError, match=r"no camera 'image_9'; wanted one of \['image_0'"):
        dataset.episodes(image_key="image_9")


def test_actions_and_state_are_none_unless_asked_for(write: Write) -> None:
    episode = next(open_dataset(write(train=[4])).episodes())
    assert episode.actions_TA is None
    assert episode.state_TS is None


def test_no_action_byte_is_parsed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(write(train=[4, 5]))
    assert isinstance(dataset, RldsDataset)
    payload = next(read_records(only_shard(dataset.folder)))
    decode, decoded = example_proto.decode_feature, []

    def spy(feature: memoryview) -> Any:
        decoded.append(bytes(feature))
        return decode(feature)

    monkeypatch.setattr(example_proto, "decode_feature", spy)
    next(dataset.episodes())
    names = {bytes(value): key for key, value in find_features(payload).items()}
    assert {names[feature] for feature in decoded} == {
        "steps/observation/image",
        "steps/observation/natural_language_instruction",
    }
    decoded.clear()
    next(dataset.episodes(actions=True))
    assert {names[feature] for feature in decoded} >= {"steps/action/world_vector"}


@pytest.mark.parametrize("kind", ["garbage", "absent", "wrong length"])
def test_broken_actions_do_not_matter_to_a_reader_of_video(write: Write, kind: str) -> None:
    folder = write(train=[4, 5, 6])
    wanted = [episode.frames_TYXC for episode in open_dataset(folder).episodes()]
    shard = only_shard(folder)
    if kind == "garbage":
        payloads = [bytearray(payload) for payload in read_records(shard)]
        for payload in payloads:
            for key, feature in find_features(bytes(payload)).items():
                if "action" in key:
                    start = bytes(payload).index(bytes(feature))
                    payload[start : start + len(feature)] = b"\xff" * len(feature)
        with shard.open("wb") as file:
            for payload in payloads:
                write_record(file, bytes(payload))
    else:

        def change(features: dict[str, Any]) -> None:
            for key in [key for key in features if "action" in key]:
                if kind == "absent":
                    del features[key]
                else:
                    features[key] = np.zeros(5, np.float32)

        for number in range(3):
            rewrite(shard, change, number)
    got = [episode.frames_TYXC for episode in open_dataset(folder).episodes()]
    assert all(np.array_equal(one, other) for one, other in zip(got, wanted, strict=True))
    with pytest.raises(CorruptRecordError, match="record 0 "):
        list(open_dataset(folder).episodes(actions=True))


def test_reading_imports_no_tensorflow(write: Write) -> None:
    folder = write(train=[4])
    code = """
import sys
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.loader import ClipLoader
from genie_robot.data.open import open_dataset
assert len(list(open_dataset(sys.argv[1]).episodes(actions=True, state=True))) == 1
next(ClipLoader(build_clip_cache(sys.argv[1], sys.argv[2], 16, 16), 2, 2))
print(sorted(m for m in sys.modules if m.split(".")[0] in ("tensorflow", "tensorflow_datasets", "mujoco")))
"""
    arguments = [sys.executable, "-c", code, str(folder), str(folder.parent / "cache")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_a_flipped_byte_is_named_and_can_be_skipped(write: Write, record_spans: Spans) -> None:
    folder = write(train=[4, 5, 6])
    shard = only_shard(folder)
    content = bytearray(shard.read_bytes())
    start, length = record_spans(shard)[1]
    content[start + length // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptRecordError, match=f"{shard.name}: record 1 at byte {start - 12} "):
        list(open_dataset(folder).episodes())
    assert count_good(folder) == (2, 1)


def test_a_broken_length_loses_the_rest_and_counts_it(write: Write, record_spans: Spans) -> None:
    folder = write(train=[4, 5, 6, 7])
    shard = only_shard(folder)
    content = bytearray(shard.read_bytes())
    content[record_spans(shard)[1][0] - 12] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptRecordError, match=r"record 1 .*length"):
        list(open_dataset(folder).episodes())
    assert count_good(folder) == (1, 3)


@pytest.mark.parametrize("where", ["inside", "border"])
def test_a_truncated_shard_is_noticed_also_at_a_record_border(
    write: Write, record_spans: Spans, where: str
) -> None:
    folder = write(train=[4, 5, 6])
    shard = only_shard(folder)
    start = record_spans(shard)[2][0] - 12
    shard.write_bytes(shard.read_bytes()[: start + (100 if where == "inside" else 0)])
    with pytest.raises(CorruptRecordError, match=f"record 2 at byte {start} .*file ends"):
        list(open_dataset(folder).episodes())
    assert count_good(folder) == (2, 1)


def test_skipping_keeps_the_numbers_of_the_other_episodes(write: Write, record_spans: Spans) -> None:
    folder = write(shard_bytes=1, train=[4, 5, 6])
    shard = sorted(folder.glob("*.tfrecord*"))[1]
    shard.write_bytes(shard.read_bytes()[:50])
    sources = [episode.source for episode in open_dataset(folder).episodes(skip_bad=True)]
    assert sources == ["toy/train/0", "toy/train/2"]


def test_a_missing_shard_is_named_before_anything_is_read(write: Write) -> None:
    folder = write(shard_bytes=1, train=[4, 5, 6])
    shard = sorted(folder.glob("*.tfrecord*"))[2]
    shard.unlink()
    for skip_bad in (False, True):
        with pytest.raises(DataError, match=f"{shard.name} is missing"):
            open_dataset(folder).episodes(skip_bad=skip_bad)


def encoded(kind: str, frame: np.ndarray) -> bytes:
    return cv2.imencode(kind, frame)[1].tobytes()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "begins with b''"),
        (b"GIF89a..........", "wanted PNG or JPEG"),
        (encoded(".webp", np.zeros((24, 32, 3), np.uint8)), "wanted PNG or JPEG"),
        (encoded(".png", np.zeros((24, 32, 3), np.uint8))[:40], "does not decode"),
        (encoded(".jpg", np.zeros((24, 32, 3), np.uint8))[:20], "does not decode"),
        (encoded(".png", np.zeros((32, 24, 3), np.uint8)), r"\(32, 24\) pixels; wanted \(24, 32\)"),
    ],
)
def test_wrong_images_are_named_and_can_be_skipped(write: Write, image: bytes, message: str) -> None:
    folder = write(train=[4, 5, 6])

    def change(features: dict[str, Any]) -> None:
        features["steps/observation/image"][2] = image

    rewrite(only_shard(folder), change)
    with pytest.raises(ImageError, match=f"record 1: .*{message}"):
        list(open_dataset(folder).episodes())
    assert count_good(folder) == (2, 1)


def test_numbers_where_images_belong_are_an_image_error(write: Write) -> None:
    folder = write(train=[4, 5, 6])
    rewrite(only_shard(folder), lambda f: f.update({"steps/observation/image": np.zeros(4, np.float32)}))
    with pytest.raises(ImageError, match="holds numbers"):
        list(open_dataset(folder).episodes())


def test_frames_are_resized_on_request(write: Write) -> None:
    episode = next(open_dataset(write(train=[4])).episodes(image_hw=(16, 16)))
    assert episode.frames_TYXC.shape == (4, 16, 16, 3)


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize(
    "content", ["", "[]", '{"splits": 3, "featuresDict": 3}', '{"splits": [{}], "x": 1}', None]
)
def test_broken_json_files_are_named(write: Write, name: str, content: str | None) -> None:
    folder = write(train=[3])
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(DataError):
        list(open_dataset(folder).episodes())


def test_unknown_split_and_file_format(write: Write) -> None:
    folder = write(train=[3], val=[2])
    with pytest.raises(DataError, match=r"no split 'test'; wanted one of \['train', 'val'\]"):
        open_dataset(folder).episodes("test")
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    with pytest.raises(DataError, match="holds array_record files; wanted tfrecord"):
        RldsDataset(folder)


def test_an_unknown_rate_is_said_and_can_be_given(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    folder = write(train=[3])
    (folder / "metadata.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert open_dataset(folder).dt_s == 0.2
    assert "rate of dataset toy is not known" in caplog.text
    assert open_dataset(folder, rate_hz=8).dt_s == 0.125


def test_the_door_is_said_in_one_line(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="genie_robot.data.open"):
        open_dataset(write(train=[3]))
    assert len(caplog.records) == 1
    assert "without TensorFlow" in caplog.text


def test_a_dataset_without_actions_or_state_says_so(write: Write) -> None:
    folder = write(train=[3])
    features = json.loads((folder / "features.json").read_text())
    step = features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    del step["action"]
    del step["observation"]["featuresDict"]["features"]["state"]
    (folder / "features.json").write_text(json.dumps(features))
    dataset = open_dataset(folder)
    with pytest.raises(DataError, match="no 7-DoF action"):
        dataset.episodes(actions=True)
    with pytest.raises(DataError, match="no steps/observation/state"):
        dataset.episodes(state=True)
    assert len(list(dataset.episodes())) == 1


def test_a_length_as_long_as_the_machine_is_refused_without_memory(write: Write) -> None:
    folder = write(train=[2, 3])
    header = struct.pack("<Q", 2**60)
    only_shard(folder).write_bytes(header + struct.pack("<I", masked_crc32c(header)) + b"x" * 50)
    with pytest.raises(CorruptRecordError, match="file ends"):
        list(open_dataset(folder).episodes())


def test_bad_says_what_was_passed_over_in_the_last_pass(write: Write, record_spans: Spans) -> None:
    folder = write(train=[4, 5, 6, 7])
    shard, dataset = only_shard(folder), open_dataset(folder)
    content, spans = bytearray(shard.read_bytes()), record_spans(shard)
    content[spans[1][0] + 9] ^= 1
    shard.write_bytes(content[: spans[3][0] + 5])
    assert [episode.source for episode in dataset.episodes(skip_bad=True)] == ["toy/train/0", "toy/train/2"]
    assert all(isinstance(error, CorruptRecordError) for error in dataset.bad)
    places = [f"{shard}: record {n} at byte {spans[n][0] - 12} " for n in (1, 3)]
    assert [str(error)[: len(place)] for error, place in zip(dataset.bad, places, strict=True)] == places
    assert dataset.bad_records == 2
    list(dataset.episodes(skip_bad=True, numbers=range(0, 4, 2)))
    assert (dataset.bad, dataset.bad_records) == ([], 0)


def test_more_records_than_the_metadata_knows_are_not_episodes(write: Write) -> None:
    folder = write(train=[4, 5])
    with only_shard(folder).open("ab") as file:
        write_record(file, next(read_records(only_shard(folder))))
    with pytest.raises(CorruptRecordError, match=r"record 2 .*there are 2 records"):
        list(open_dataset(folder).episodes())
    dataset = open_dataset(folder)
    assert len(list(dataset.episodes(skip_bad=True))) == 2
    assert (dataset.bad_records, len(dataset.bad)) == (0, 1)  # said, but nothing is lost


def test_the_first_steps_that_the_registry_names_are_left_out(
    shared_dataset: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = shared_dataset("bridge_octo_rlds")
    cut = list(open_dataset(place).episodes(actions=True, state=True))
    facts = registry.FACTS["bridge_dataset"]
    assert facts.drop_first == 1  # its first step does not move
    monkeypatch.setitem(registry.FACTS, "bridge_dataset", replace(facts, drop_first=0))
    for short, whole in zip(cut, open_dataset(place).episodes(actions=True, state=True), strict=True):
        for name in ("frames_TYXC", "actions_TA", "state_TS"):
            np.testing.assert_array_equal(getattr(short, name), getattr(whole, name)[1:])


def test_a_stride_decodes_every_such_frame_only(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    from genie_robot.data import assemble
    from genie_robot.data.resample import combine_actions

    dataset = open_dataset(write(train=[11, 4, 1]))
    whole = list(dataset.episodes(actions=True, state=True))
    decoded: list[int] = []
    original = assemble.decode_frames
    monkeypatch.setattr(assemble, "decode_frames", lambda e, *r: (decoded.append(len(e)), original(e, *r))[1])
    for got, episode in zip(dataset.episodes(actions=True, state=True, stride=3), whole, strict=True):
        assert (got.dt_s, got.source) == (3 * episode.dt_s, episode.source)
        assert episode.actions_TA is not None and episode.state_TS is not None
        np.testing.assert_array_equal(got.frames_TYXC, episode.frames_TYXC[::3])
        np.testing.assert_array_equal(got.actions_TA, combine_actions(episode.actions_TA, 3))  # type: ignore[arg-type]
        np.testing.assert_array_equal(got.state_TS, episode.state_TS[::3])  # type: ignore[arg-type]
    assert decoded == [4, 2, 1]
