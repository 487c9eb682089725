"""Small LeRobotDataset folders, written as the format is (v2.1 and v3.0; AV1, H.264 and embedded pictures), then read."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.lerobot.dataset import LeRobotDataset, is_lerobot
from genie_robot.data.open import open_dataset
from genie_robot.data.resample import combine_actions
from genie_robot.errors import CorruptRecordError, DataError
from tests.lerobot import (
    FPS,
    HEIGHT,
    TOP,
    WIDTH,
    WRIST,
    WRITERS,
    mark_of,
    marked_frame,
    write_v21,
    write_v30,
    write_video,
)

av = pytest.importorskip("av")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from genie_robot.data.lerobot import files  # noqa: E402 - pyarrow is an extra


@pytest.fixture(
    params=[("v2.1", "libx264"), ("v2.1", "libsvtav1"), ("v3.0", "libx264"), ("v3.0", "libsvtav1")]
)
def video_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    version, codec = request.param
    return WRITERS[version](tmp_path / "my-robot", [7, 5, 9], codec)


def test_every_frame_is_the_right_one(video_folder: Path) -> None:
    dataset = open_dataset(video_folder)
    assert is_lerobot(video_folder)
    assert dataset.splits == {"train": 3} and dataset.dt_s == 1 / FPS and dataset.name == "my_robot"
    episodes = list(dataset.episodes("train"))
    marks = [[mark_of(frame) for frame in episode.frames_TYXC] for episode in episodes]
    assert marks == [list(range(7)), list(range(7, 12)), list(range(12, 21))]
    assert [episode.instruction for episode in episodes] == ["task 0", "task 1", "task 0"]
    assert [episode.source for episode in episodes] == [f"my_robot/train/{n}" for n in range(3)]
    assert episodes[0].frames_TYXC.shape == (7, HEIGHT, WIDTH, 3)
    assert all(episode.actions_TA is None and episode.state_TS is None for episode in episodes)


def test_camera_choice(video_folder: Path) -> None:
    dataset = LeRobotDataset(video_folder)
    assert dataset.camera() == TOP  # the gripper's camera stands first in info.json
    for key in ("wrist", WRIST):
        frame = next(dataset.episodes("train", image_key=key)).frames_TYXC[0]
        assert frame[HEIGHT - 6, 8].mean() > 120  # its hue bit
    with pytest.raises(DataError, match=r"no camera 'depth'; wanted one of: .*wrist, .*top"):
        dataset.episodes("train", image_key="depth")


def test_numbers_parts_and_copies(video_folder: Path) -> None:
    dataset = LeRobotDataset(video_folder)
    assert dataset.parts("train") == [range(3)]
    twin = copy.copy(dataset)
    first, second = dataset.episodes("train"), twin.episodes("train", numbers=range(2, 3))
    assert next(first).source.endswith("/0")
    episode = next(second)
    assert episode.source.endswith("/2") and mark_of(episode.frames_TYXC[0]) == 12
    assert mark_of(next(first).frames_TYXC[0]) == 7
    with pytest.raises(DataError, match="no split 'test'"):
        dataset.parts("test")


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_embedded_pictures_are_exact(write: Any, tmp_path: Path) -> None:
    dataset = LeRobotDataset(write(tmp_path / "set", [4, 3, 5], "libx264", images=True))
    got = np.concatenate([e.frames_TYXC for e in dataset.episodes("train")])
    np.testing.assert_array_equal(got, np.stack([marked_frame(k) for k in range(12)]))
    assert dataset.stored_encoding() == "png"
    encoded = [image for e in dataset.encoded_episodes("train") for image in e["encoded"]]
    assert encoded == [cv2.imencode(".png", marked_frame(k))[1].tobytes() for k in range(12)]


def test_thinning_keeps_the_nearest_frames_and_sums_their_actions(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", [8, 21], "libx264")
    full = next(LeRobotDataset(folder).episodes("train", True, True, numbers=range(1, 2)))
    thin = next(LeRobotDataset(folder, rate_hz=2.5).episodes("train", True, True, numbers=range(1, 2)))
    assert [mark_of(f) - 8 for f in thin.frames_TYXC] == [0, 4, 8, 12, 16, 20] and thin.dt_s == 0.4
    assert full.actions_TA is not None and thin.actions_TA is not None and thin.state_TS is not None
    np.testing.assert_allclose(thin.actions_TA[0, :3], full.actions_TA[:4, :3].sum(axis=0), atol=1e-6)
    assert full.state_TS is not None
    np.testing.assert_array_equal(thin.state_TS, full.state_TS[::4])
    np.testing.assert_array_equal(thin.actions_TA[-1], 0)
    with pytest.raises(DataError, match="10 frames per second; got rate_hz=11"):
        LeRobotDataset(folder, rate_hz=11)


def test_a_stride_is_applied_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = LeRobotDataset(write_v30(tmp_path / "set", [8, 21], "libx264", images=True))
    full = next(dataset.episodes("train", True, True, numbers={1}))
    decoded: list[int] = []
    original = files.decode_image
    monkeypatch.setattr(files, "decode_image", lambda encoded: decoded.append(1) or original(encoded))
    episode = next(dataset.episodes("train", True, True, numbers={1}, stride=4))
    assert len(decoded) == 6
    assert episode.source == full.source and episode.dt_s == pytest.approx(4 * full.dt_s)
    np.testing.assert_array_equal(episode.frames_TYXC, full.frames_TYXC[::4])
    assert full.actions_TA is not None and full.state_TS is not None and episode.state_TS is not None
    np.testing.assert_array_equal(episode.state_TS, full.state_TS[::4])
    np.testing.assert_array_equal(episode.actions_TA, combine_actions(full.actions_TA, 4))


def test_copies_do_not_take_each_others_files_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads in turn in two files: each file is read once."""
    dataset = LeRobotDataset(write_v30(tmp_path / "set", [3, 4, 5], "libx264", images=True))
    opened: list[str] = []
    original = files._open
    monkeypatch.setattr(files, "_open", lambda path: opened.append(path.name) or original(path))
    twin = copy.copy(dataset)
    for number in (0, 1):
        assert next(dataset.episodes(numbers={number})).num_frames == 3 + number
        assert next(twin.episodes(numbers={2})).num_frames == 5
    # once for the numbers and once for the pictures
    assert sorted(opened) == ["file-000.parquet"] * 2 + ["file-001.parquet"] * 2


def test_resize_goes_through_the_one_rule(tmp_path: Path) -> None:
    dataset = LeRobotDataset(write_v21(tmp_path / "set", [3], "libx264"))
    episode = next(dataset.episodes("train", image_hw=(32, 32)))
    assert episode.frames_TYXC.shape == (3, 32, 32, 3)


def break_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


@pytest.mark.parametrize("kind", ["data", "videos"])
def test_a_broken_file_is_named_and_can_be_passed_over(kind: str, tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", [4, 4, 4], "libx264")
    pattern = "*_000001.parquet" if kind == "data" else f"{TOP}/*_000001.mp4"
    broken = next((folder / kind).rglob(pattern))
    break_file(broken)
    dataset = LeRobotDataset(folder)
    with pytest.raises(CorruptRecordError, match=r"episode 1: .*_000001"):
        list(dataset.episodes("train"))
    sources = [e.source for e in dataset.episodes("train", skip_bad=True)]
    assert sources == ["set/train/0", "set/train/2"]
    assert dataset.bad_records == 1 and "episode_000001" in str(dataset.bad[0])
    broken.unlink()
    with pytest.raises(CorruptRecordError, match="is missing; fetch it again"):
        list(dataset.episodes("train"))


def test_a_video_that_is_too_short_is_no_episode(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", [4, 6], "libx264")
    path = folder / f"videos/{TOP}/chunk-000/file-001.mp4"
    write_video(path, [marked_frame(4 + k) for k in range(3)], "libx264")
    dataset = LeRobotDataset(folder)
    assert [e.source for e in dataset.episodes("train", skip_bad=True)] == ["set/train/0"]
    assert "cut off or not the right video" in str(dataset.bad[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codebase_version": "v1.6"}, "of LeRobotDataset v1.6; wanted v2.0, v2.1 or v3.0"),
        ({"fps": 0}, "says 0.0 frames per second"),
        ({"features": None}, "cannot be read"),
        ({"splits": {"train": "all"}}, "split 'train' is 'all'"),
        ({"data_path": "{nonsense}.parquet"}, "is not complete"),
    ],
)
def test_wrong_info_is_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_v21(tmp_path / "set", [3], "libx264")
    path = folder / "meta" / "info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=message) as caught:
        assert LeRobotDataset(folder).splits
    assert "\n" not in str(caught.value)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 100))
def test_thinning_property(length: int, tenths_hz: int) -> None:
    """Slots are ascending, at most as many as frames, begin with the first and come as close to the end as a step."""
    dataset = object.__new__(LeRobotDataset)
    dataset.dt_s, dataset._period_s = 10.0 / tenths_hz, 1 / FPS
    stamps = (np.arange(length) / FPS).astype(np.float32).astype(np.float64)
    files = type("Files", (), {"numbers": staticmethod(lambda *_: {"timestamp": stamps})})
    dataset._files = files  # type: ignore[assignment]
    rows, times, _, _ = dataset._values(None, None, False)
    assert rows[0] == 0 and (np.diff(rows) >= 1).all() and len(rows) <= length
    assert stamps[-1] - times[-1] < dataset.dt_s + 0.5 / FPS
    assert np.abs(times - np.arange(len(rows)) * dataset.dt_s).max() <= 0.5 / FPS + 1e-5


def test_training_reads_a_folder_directly(tmp_path: Path) -> None:
    folder = write_v30(tmp_path / "set", [5, 6, 7], "libx264")
    cache = build_clip_cache(folder, tmp_path / "cache", HEIGHT, WIDTH, label_share=1.0, workers=2)
    assert cache.num_frames == 11  # the last episode is held out


def test_opening_needs_no_pyarrow_until_there_is_a_dataset() -> None:
    code = "import sys, genie_robot.data.lerobot.dataset as m; m.is_lerobot('.'); print('pyarrow' in sys.modules, 'av' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
