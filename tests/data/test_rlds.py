from __future__ import annotations

import json
import logging
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.data import example_proto, rlds
from genie_robot.data.example_proto import find_features, parse_example, serialize_example
from genie_robot.data.open import open_dataset
from genie_robot.data.rlds import RldsDataset, decode_image
from genie_robot.data.tfrecord import masked_crc32c, read_records, write_record
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError, ImageError

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
    assert first.frames_TYXC.shape == (10, 64, 64, 3)
    assert first.actions_TA is not None
    assert first.actions_TA.shape == (10, 7)
    assert first.state_TS is not None
    assert first.state_TS.shape == (10, 7)
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
from genie_robot.data.clips import build_clip_cache
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


def test_grey_and_transparent_and_16_bit_images_become_rgb() -> None:
    grey = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
    np.testing.assert_array_equal(decode_image(encoded(".png", grey)), np.repeat(grey[..., None], 3, axis=2))
    rgba = np.dstack([grey, grey + 1, grey + 2, grey * 0 + 128])
    np.testing.assert_array_equal(decode_image(encoded(".png", rgba)), np.dstack([grey + 2, grey + 1, grey]))
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encoded(".png", deep))[..., 0], grey)


def test_numbers_where_images_belong_are_an_image_error(write: Write) -> None:
    folder = write(train=[4, 5, 6])
    rewrite(only_shard(folder), lambda f: f.update({"steps/observation/image": np.zeros(4, np.float32)}))
    with pytest.raises(ImageError, match="holds numbers"):
        list(open_dataset(folder).episodes())


def test_frames_are_resized_on_request(write: Write) -> None:
    episode = next(open_dataset(write(train=[4])).episodes(image_hw=(16, 16)))
    assert episode.frames_TYXC.shape == (4, 16, 16, 3)


def test_the_folder_above_works_and_two_datasets_do_not(write: Write, tmp_path: Path) -> None:
    folder = write("one", train=[3])
    assert (
        open_dataset(tmp_path).name
        == open_dataset(folder).name
        == open_dataset(str(folder.parent)).name
        == "one"
    )
    write("two", train=[3])
    with pytest.raises(DatasetNotFoundError, match=r"2 datasets \(data/one/0.1.0, data/two/0.1.0\)"):
        open_dataset(tmp_path)


def test_places_without_a_dataset_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="nowhere does not exist"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(DatasetNotFoundError, match="holds nothing"):
        open_dataset(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(DatasetNotFoundError, match=r"holds photo\.jpg"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetNotFoundError, match="is not a folder"):
        open_dataset(tmp_path / "photo.jpg")


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
        open_dataset(folder)


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


def test_mutated_shards_never_crash(write: Write, tmp_path: Path) -> None:
    """Random damage with right checksums: an episode, or one of our errors."""
    folder = write(train=[2, 3])
    payloads = list(read_records(only_shard(folder)))
    rng = np.random.default_rng(0)
    kinds: set[str] = set()
    for attempt in range(90):
        broken = bytearray(payloads[attempt % 2])
        # half of the damage hits the small header part, where keys and lengths are
        places = rng.integers(0, len(broken) if attempt % 3 else 400, 1 + attempt % 5)
        for place in places:
            broken[place] = rng.integers(0, 256)
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        with only_shard(copy).open("wb") as file:
            write_record(file, bytes(broken))
            write_record(file, payloads[1])
        try:
            list(open_dataset(copy).episodes(actions=True, state=True))
            kinds.add("read")
        except (CorruptRecordError, ImageError) as error:
            kinds.add(type(error).__name__)
        good, bad = count_good(copy)
        assert good + bad == 2
        shutil.rmtree(copy)
    assert kinds == {"read", "CorruptRecordError", "ImageError"}


def test_a_length_as_long_as_the_machine_is_refused_without_memory(write: Write) -> None:
    folder = write(train=[2, 3])
    header = struct.pack("<Q", 2**60)
    only_shard(folder).write_bytes(header + struct.pack("<I", masked_crc32c(header)) + b"x" * 50)
    with pytest.raises(CorruptRecordError, match="file ends"):
        list(open_dataset(folder).episodes())
