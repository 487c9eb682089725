"""In: bags, LeRobot folders and other datasets to RLDS (`data import`), and back as what they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.data.conversion import convert_dataset, held_out
from genie_robot.data.episode import Episode
from genie_robot.data.open import open_dataset
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.data.summary import inspect_dataset
from genie_robot.errors import DataError
from tests.bags import film, write_camera_bag

pytest.importorskip("rosbags")

from genie_robot.data.bags import dataset as bag_dataset
from genie_robot.data.bags.dataset import BagDataset


def test_raw_images_become_lossless_on_request(tmp_path: Path) -> None:
    for number in range(4):
        write_camera_bag(tmp_path / "bags" / f"run_{number}", film(5 + number), jpeg=False)
    arguments = [
        str(tmp_path / "bags"),
        str(tmp_path / "out"),
        "--name",
        "kitchen",
        "--lossless",
        "--actions",
        "--state",
    ]
    report = tmp_path / "report.json"
    assert main(["data", "import", *arguments, "--val-share", "0.3", "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    assert content["splits"] == {"train": 3, "val": 1} and content["rate_hz"] == pytest.approx(10)
    dataset = open_dataset(tmp_path / "out" / "kitchen")
    episodes = [*dataset.episodes("train", True, True), *dataset.episodes("val", True, True)]
    for number, episode in enumerate(episodes):
        np.testing.assert_array_equal(episode.frames_TYXC, film(5 + number))
        assert episode.actions_TA is not None and episode.state_TS is not None
        np.testing.assert_allclose(episode.actions_TA[:-1, 0], 0.01 * np.arange(4 + number), atol=1e-6)
        np.testing.assert_array_equal(episode.actions_TA[:-1, 6], 1)
        np.testing.assert_array_equal(episode.state_TS[:, 1], -np.arange(5.0 + number))
    metadata = json.loads((Path(content["path"]) / "metadata.json").read_text())
    assert metadata["state_names"] == ["a", "b"] and metadata["converted_from"] == "bags"


def test_jpeg_keeps_its_bytes_unless_resized(tmp_path: Path) -> None:
    from genie_robot.data.example_proto import parse_example
    from genie_robot.data.tfrecord import read_records

    bag = write_camera_bag(tmp_path / "run", film(4), jpeg=True)
    folder, bad = convert_dataset(BagDataset(bag), tmp_path / "out")
    [payload] = read_records(next(folder.glob("*.tfrecord*")))
    key = "steps/observation/image"
    stored = parse_example(payload, {key})[key]
    assert stored == [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in film(4)] and bad == []
    small, _ = convert_dataset(BagDataset(bag), tmp_path / "small", image_hw=(16, 16))
    [episode] = open_dataset(small).episodes("train")
    assert episode.frames_TYXC.shape == (4, 16, 16, 3)


def test_other_datasets_keep_their_splits(tmp_path: Path, new_episode: Callable[..., dict[str, Any]]) -> None:
    plain = [{"frames_TYXC": new_episode(n, 3)["frames_TYXC"], "instruction": f"do {n}"} for n in range(3)]
    splits = {"train": plain[:2], "test": plain[2:]}
    source = write_dataset(tmp_path / "in", "toy", "0.1.0", splits, (24, 32), 5.0)
    folder, _ = convert_dataset(open_dataset(source), tmp_path / "out", lossless=True)
    made = open_dataset(folder)
    assert made.splits == {"train": 2, "test": 1}
    [episode] = made.episodes("test")
    np.testing.assert_array_equal(episode.frames_TYXC, plain[2]["frames_TYXC"])
    assert episode.instruction == "do 2"


IMPORTED = {
    "bridge_dataset": "its first step is left out, its gripper says how far open it is",
    "fractal20220817_data": "as our own files",
    "nyu_rot_dataset_converted_externally_to_rlds": "one flat action in roll, pitch and yaw",
    "jaco_play": "moves by measured poses",
    "droid": "has three cameras, none of them called image",
    "dobbe": "has no end-effector motion that can be read",
}


class Recorded:
    """A source under any name: 3 episodes with actions in the common convention, as every source gives them."""

    version, dt_s, folder, bad_records = "1.0.0", 0.1, "somewhere", 0
    splits, cameras = {"train": 3}, ("image",)

    def __init__(self, name: str) -> None:
        self.name = name
        self.bad: list[Any] = []

    def recordings(self, split: str) -> None:
        """Each episode by itself."""

    def episodes(
        self, split: str, actions: bool = False, *, numbers: Any = None, **_: Any
    ) -> Iterator[Episode]:
        for number in range(3):
            if numbers is None or number in numbers:
                rng = np.random.default_rng(number)
                values = rng.uniform(-1, 1, (9, 7)).astype(np.float32)
                source = f"{self.name}/{split}/{number}"
                yield Episode(film(9), self.dt_s, source, "go", values if actions else None, None)


@pytest.mark.parametrize("name", IMPORTED)
def test_what_is_imported_is_not_taken_for_the_original(name: str, tmp_path: Path) -> None:
    """What the registry knows of the original's files is not true of ours, even under the same name."""
    source: Any = Recorded(name)
    folder, _ = convert_dataset(source, tmp_path, actions=True, lossless=True)
    made = open_dataset(folder)
    assert made.name == name and made.splits == {"train": 2, "val": 1} and made.dt_s == pytest.approx(0.1)
    assert made.camera() == "image"
    back = [*made.episodes("train", actions=True), *made.episodes("val", actions=True)]
    for got, wanted in zip(back, source.episodes("train", True), strict=True):
        np.testing.assert_array_equal(got.frames_TYXC, wanted.frames_TYXC)
        np.testing.assert_array_equal(got.actions_TA, wanted.actions_TA)
    assert "taken as they are" in inspect_dataset(folder).actions


def test_tfds_knows_imported_data_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    from genie_robot.data.tfds_door import TfdsDataset

    source: Any = Recorded("bridge_dataset")
    folder, _ = convert_dataset(source, tmp_path, actions=True, lossless=True)
    got = next(TfdsDataset(str(folder)).episodes("train", actions=True))
    wanted = next(source.episodes("train", True))
    np.testing.assert_array_equal(got.actions_TA, wanted.actions_TA)
    assert got.num_frames == 9


def test_actions_that_were_not_imported_are_not_zero(tmp_path: Path) -> None:
    source: Any = Recorded("kitchen")
    folder, _ = convert_dataset(source, tmp_path)
    assert next(open_dataset(folder).episodes("train")).num_frames == 9
    with pytest.raises(DataError, match=r"kitchen was imported without actions; .*again with --actions"):
        open_dataset(folder).episodes("train", actions=True)


def test_real_bridge_comes_back_as_it_is(shared_dataset: Callable[[str], Path], tmp_path: Path) -> None:
    source = open_dataset(shared_dataset("bridge_octo_rlds"))
    folder, _ = convert_dataset(source, tmp_path, actions=True, val_share=0)
    split = next(iter(source.splits))
    for got, wanted in zip(
        open_dataset(folder).episodes(split, actions=True), source.episodes(split, actions=True), strict=True
    ):
        assert got.num_frames == wanted.num_frames
        assert got.actions_TA is not None and wanted.actions_TA is not None
        np.testing.assert_array_equal(got.actions_TA[:-1], wanted.actions_TA[:-1])


@pytest.mark.parametrize(
    ("lengths", "share", "train", "val"),
    [
        ([1] * 40, 0.05, range(38), range(38, 40)),
        (
            [10, 10, 10, 10],
            0.05,
            range(30),
            range(30, 40),
        ),  # a whole recording, though it is more than asked for
        ([5, 30, 1, 1], 0.05, range(35), range(35, 37)),
        ([40], 0.1, range(35), range(36, 40)),  # the guard, 35, is in neither
        ([3], 0.05, range(1), range(2, 3)),
        ([2], 0.5, range(2), range(0)),
        ([1, 1], 0.05, range(1), range(1, 2)),
    ],
)
def test_whole_recordings_are_held_out(lengths: list[int], share: float, train: range, val: range) -> None:
    starts = np.cumsum([0, *lengths]).tolist()
    recordings = [range(start, start + length) for start, length in zip(starts, lengths, strict=False)]
    assert held_out(recordings, share) == (train, val)


def test_one_long_recording_keeps_a_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame before the first held-out one is of the same second: it must not be trained on."""
    monkeypatch.setattr(bag_dataset, "MAX_EPISODE_FRAMES", 5)
    bag = write_camera_bag(tmp_path / "run", film(20), jpeg=False)
    made = open_dataset(convert_dataset(BagDataset(bag), tmp_path / "out", lossless=True)[0])
    assert made.splits == {"train": 2, "val": 1}
    train = np.concatenate([e.frames_TYXC for e in made.episodes("train")])
    val = np.concatenate([e.frames_TYXC for e in made.episodes("val")])
    np.testing.assert_array_equal(train, film(20)[:10])
    np.testing.assert_array_equal(val, film(20)[15:])


def test_an_episode_is_cut_where_an_action_is_lost(tmp_path: Path) -> None:
    bag = write_camera_bag(tmp_path / "run", film(9), jpeg=False, lost=4)
    folder, bad = convert_dataset(
        BagDataset(bag), tmp_path / "out", actions=True, lossless=True, skip_bad=True
    )
    before, behind = open_dataset(folder).episodes("train", actions=True)
    np.testing.assert_array_equal(before.frames_TYXC, film(9)[:5])
    np.testing.assert_array_equal(behind.frames_TYXC, film(9)[5:])
    assert before.actions_TA is not None and behind.actions_TA is not None and len(bad) == 1
    np.testing.assert_allclose(before.actions_TA[:, 0], [0, 0.01, 0.02, 0.03, 0], atol=1e-6)
    np.testing.assert_allclose(behind.actions_TA[:, 0], [0.05, 0.06, 0.07, 0], atol=1e-6)


def test_damage_is_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_camera_bag(tmp_path / "bags" / "a", film(4), jpeg=False)
    (tmp_path / "bags" / "b.mcap").write_bytes(b"\x89MCAP0\r\n" + b"\x00" * 5)
    arguments = ["data", "import", str(tmp_path / "bags"), str(tmp_path / "out")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "b.mcap" in error and error.count("\n") == 1
    assert main([*arguments, "--skip-bad", "--json", "-"]) == 0
    assert len(json.loads(capsys.readouterr().out)["bad"]) == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--size", "64"], 2, "--size is '64'; wanted height x width such as 96x128, or keep"),
        (["--val-share", "1"], 2, "a share from 0 to below 1"),
        (["--name", "my set"], 2, "got name 'my set'"),
        (["--image-key", "/left"], 1, "no camera '/left'; wanted one of: /cam"),
        (["--rate-hz", "50"], 1, "gives 10 Hz; got rate_hz=50"),
        (["--action-topic", "/joy"], 1, "no actions on '/joy'; wanted one of: /act"),
        (["--gripper", "open"], 2, "--gripper is open and"),
    ],
)
def test_wrong_use_is_one_line(
    options: list[str], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_camera_bag(tmp_path / "run", film(4), jpeg=False)
    assert main(["data", "import", str(bag), str(tmp_path / "out"), *options]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").rglob("*.json"))


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write_camera_bag(tmp_path / "run", film(4), jpeg=False)
    arguments = ["data", "import", str(bag), str(tmp_path / "out")]
    assert main(arguments) == 0 and main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--name", "run"]) == 0
