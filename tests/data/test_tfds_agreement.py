"""The oracle: what TFDS with TensorFlow makes of the same files. Skips where TensorFlow is not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from genie_robot.data.example_proto import parse_example
from genie_robot.data.open import open_dataset
from genie_robot.data.registry import FACTS, image_path
from genie_robot.data.rlds import RldsDataset
from genie_robot.data.tfrecord import read_records, write_record
from genie_robot.errors import CorruptRecordError, DatasetNotFoundError

if importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("tensorflow_datasets") is None:
    pytest.skip("TensorFlow is not installed: pip install 'genie_robot[data]'", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # TensorFlow's own


@pytest.fixture(params=["rt1_rlds", "bridge_octo_rlds", "toy png", "toy jpeg"])
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param.startswith("toy"):
        write = request.getfixturevalue("write")
        encoding = request.param.split()[1]
        return write(encoding=encoding, shard_bytes=20_000, train=[5, 1, 7, 3], val=[2])
    root = request.getfixturevalue("shared_dataset")(request.param)
    return next(root.glob("*/*/dataset_info.json")).parent


def tfds_episodes(folder: Path, split: str, **options: Any) -> Any:
    import tensorflow_datasets as tfds

    read_config = tfds.ReadConfig(interleave_cycle_length=1)
    builder: Any = tfds.builder_from_directory(str(folder))
    return builder.as_dataset(split=split, shuffle_files=False, read_config=read_config, **options)


def test_every_byte_and_pixel_is_the_one_of_tfds(folder: Path) -> None:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    dataset = open_dataset(folder)
    assert isinstance(dataset, RldsDataset)
    camera = image_path(dataset.name, dataset.features, None).removeprefix("steps/observation/")
    decoders = {"steps": tfds.decode.SkipDecoding()}
    dropped = FACTS[dataset.name].drop_first if dataset.name in FACTS else 0
    has_state = "steps/observation/state" in dataset.features
    for split in dataset.splits:
        ours = dataset.episodes(split, actions=True, state=has_state)
        for episode, record in zip(ours, tfds_episodes(folder, split, decoders=decoders), strict=True):
            images = record["steps"]["observation"][camera].numpy()[dropped:]
            assert len(images) == episode.num_frames
            for image, frame in zip(images, episode.frames_TYXC, strict=True):
                # TFDS decodes JPEG with TensorFlow's fast, inexact transform; OpenCV and PIL with the exact one
                if image.startswith(b"\xff\xd8"):
                    wanted = tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")
                else:
                    wanted = tf.io.decode_png(image, channels=3)
                np.testing.assert_array_equal(frame, wanted.numpy())
            check_numbers(episode, record["steps"], dropped)


@pytest.mark.parametrize("name", ["rt1_rlds", "bridge_octo_rlds"])
def test_all_cameras_of_all_real_episodes_are_those_of_tensorflow(
    shared_dataset: Callable[[str], Path], name: str
) -> None:
    import tensorflow as tf

    dataset = open_dataset(shared_dataset(name))
    assert isinstance(dataset, RldsDataset)
    dropped, frames = FACTS[dataset.name].drop_first, 0
    for split in dataset.splits:
        for camera in dataset.cameras:
            ours = dataset.episodes(split, image_key=camera)
            payloads = [payload for shard in dataset.shards(split) for payload in read_records(shard.path)]
            for episode, payload in zip(ours, payloads, strict=True):
                images = parse_example(payload)[f"steps/observation/{camera}"][dropped:]
                wanted = [tf.io.decode_jpeg(i, dct_method="INTEGER_ACCURATE").numpy() for i in images]
                np.testing.assert_array_equal(episode.frames_TYXC, wanted)
                frames += len(wanted)
    assert frames == {"rt1_rlds": 108, "bridge_octo_rlds": 4 * 117}[name]


def check_numbers(episode: Any, steps: Any, dropped: int) -> None:
    action = steps["action"]
    if isinstance(action, dict):
        names = ("world_vector", "rotation_delta", "gripper_closedness_action")
        action = np.concatenate([action[name].numpy() for name in names], axis=1)
    action = np.asarray(action)
    if episode.source.startswith("bridge_dataset/"):  # angles and "1 = open" become the common convention
        turn = Rotation.from_euler("xyz", action[:, 3:6]).as_rotvec()
        action = np.concatenate([action[:, :3], turn, 1 - 2 * np.clip(action[:, 6:], 0, 1)], axis=1)
    np.testing.assert_allclose(episode.actions_TA, action[dropped:], rtol=0, atol=1e-7)
    if episode.state_TS is not None:
        np.testing.assert_array_equal(episode.state_TS, steps["observation"]["state"].numpy()[dropped:])
    texts = steps.get("language_instruction", steps["observation"].get("natural_language_instruction"))
    assert episode.instruction == texts.numpy()[0].decode()


def test_the_other_door_gives_the_same_episodes(folder: Path) -> None:
    from genie_robot.data.tfds_door import TfdsDataset

    dataset, other = open_dataset(folder), TfdsDataset(str(folder))
    assert (other.name, other.version, other.splits) == (dataset.name, dataset.version, dataset.splits)
    assert isinstance(dataset, RldsDataset)
    assert other.features == dataset.features
    for split in dataset.splits:
        pairs = zip(dataset.episodes(split, actions=True), other.episodes(split, actions=True), strict=True)
        for one, two in pairs:
            assert (one.source, one.instruction) == (two.source, two.instruction)
            np.testing.assert_array_equal(one.frames_TYXC, two.frames_TYXC)
            np.testing.assert_array_equal(one.actions_TA, two.actions_TA)
        chosen = [episode.source for episode in other.episodes(split)][:1]
        for source in (dataset, other):
            for episode in source.episodes(split, actions=chosen.__contains__):
                assert (episode.actions_TA is not None) == (episode.source in chosen)


def test_what_we_write_decodes_whole_in_tfds(
    write: Callable[..., Path], new_episode: Callable[..., Any]
) -> None:
    folder = write(shard_bytes=20_000, train=[5, 1, 0, 7], val=[2])
    for number, record in enumerate(tfds_episodes(folder, "train")):
        steps = list(record["steps"])
        wanted = new_episode(number, len(steps))
        assert record["aspects"]["success"].numpy() == wanted["success"]
        assert record["attributes"]["env"].numpy() == -number
        assert record["attributes"]["task_family_name"].numpy() == b"push"
        for step, got in enumerate(steps):
            last = step == len(steps) - 1
            np.testing.assert_array_equal(got["observation"]["image"].numpy(), wanted["frames_TYXC"][step])
            text = got["observation"]["natural_language_instruction"].numpy().decode()
            assert (text, got["reward"].numpy()) == (wanted["instruction"], step)
            assert (got["is_first"].numpy(), got["is_last"].numpy()) == (step == 0, last)
            assert got["is_terminal"].numpy() == last
            assert got["action"]["terminate_episode"].numpy().tolist() == [int(last), int(not last), 0]
            vector = np.zeros(3) if last else wanted["actions"][step, :3]
            np.testing.assert_array_equal(got["action"]["world_vector"].numpy(), vector.astype(np.float32))
            assert got["observation"]["natural_language_embedding"].shape == (512,)


def test_framing_is_the_one_of_tensorflow(tmp_path: Path) -> None:
    import tensorflow as tf

    payloads = [b"", b"x", np.random.default_rng(0).bytes(3001)]
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for payload in payloads:
            writer.write(payload)
    with (tmp_path / "ours").open("wb") as file:
        for payload in payloads:
            write_record(file, payload)
    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()
    assert list(read_records(tmp_path / "theirs")) == payloads


def test_a_name_with_its_data_beside_opens_without_network(shared_dataset: Callable[[str], Path]) -> None:
    root = shared_dataset("rt1_rlds")
    dataset = open_dataset(f"tfds:fractal20220817_data:0.1.0?data_dir={root}")
    assert dataset.splits == {"train": 3}
    assert dataset.dt_s == pytest.approx(1 / 3)


def test_what_tfds_cannot_open_is_one_line() -> None:
    with pytest.raises(DatasetNotFoundError, match="TFDS cannot open tfds:no_such_dataset") as caught:
        open_dataset("tfds:no_such_dataset")
    assert "\n" not in str(caught.value)


def test_numbers_parts_and_broken_records_are_those_of_the_reader_without_tensorflow(
    write: Callable[..., Path], record_spans: Callable[[Path], list[tuple[int, int]]]
) -> None:
    from genie_robot.data.tfds_door import TfdsDataset

    folder = write(shard_bytes=30_000, train=[1, 1, 1, 4, 1, 1, 1, 1, 1, 1, 6])
    ours, theirs = open_dataset(folder), TfdsDataset(str(folder))
    parts = theirs.parts("train")
    assert parts == ours.parts("train")
    assert len(parts) > 2
    for numbers in (range(2, 7), range(1, 99, 3), range(0)):
        sources = [[e.source for e in one.episodes(numbers=numbers)] for one in (ours, theirs)]
        assert sources[0] == sources[1] == [f"toy/train/{n}" for n in range(11) if n in numbers]
    shards = sorted(folder.glob("*.tfrecord*"))
    long = next(number for number, part in enumerate(parts) if len(part) > 3)
    content, spans = bytearray(shards[long].read_bytes()), record_spans(shards[long])
    content[spans[0][0] + 20] ^= 1  # one payload
    content[spans[2][0] - 12] ^= 1  # one length: the rest of the shard is lost
    shards[long].write_bytes(content)
    for source in (ours, theirs):
        with pytest.raises(CorruptRecordError):
            list(source.episodes())
    good = [[episode.source for episode in one.episodes(skip_bad=True)] for one in (ours, theirs)]
    assert good[0] == good[1]
    assert ours.bad_records == theirs.bad_records == len(theirs.bad) == 11 - len(good[0]) > 2
    assert f"toy/train/{parts[long].start} cannot be read (DataLossError" in str(theirs.bad[0])
