from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.data import clip_parts
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.clips import ClipCache, Windows
from genie_robot.data.loader import ClipLoader
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError, CorruptRecordError, DataError

Write = Callable[..., Path]
LENGTHS = [5, 9, 4, 3, 7, 6, 8, 5, 4, 6]

KILLED = """
import os, signal, sys
from genie_robot.data import clip_builder
from genie_robot.data import clip_parts
where, count, done = sys.argv[3], int(sys.argv[4]), []
def dying(owner, name):
    original = getattr(owner, name)
    def wrapped(*arguments):
        if len(done) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        done.append(name)
        return result
    setattr(owner, name, wrapped)
if where == "parts":
    dying(clip_parts, "_make_part")
else:
    dying(clip_parts.shutil, "copyfileobj")  # while joining
clip_builder.build_clip_cache(sys.argv[1], sys.argv[2], 24, 32, workers=int(sys.argv[5]))
"""


@pytest.fixture
def sharded(write: Write) -> Path:
    """Ten episodes in ten shards."""
    folder = write(train=LENGTHS, val=[3], shard_bytes=1)
    assert len(list(folder.glob("*-train*"))) == 10
    return folder


def starts(cache: ClipCache, num_frames: int, **how: float) -> np.ndarray:
    windows = Windows(cache, num_frames, **how)  # type: ignore[arg-type]
    return windows.first_frames(np.arange(len(windows)))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_and_threads_change_nothing(sharded: Path, tmp_path: Path, write: Write) -> None:
    many = build_clip_cache(sharded, tmp_path / "many", 24, 32, workers=4)
    one = build_clip_cache(write("one", train=LENGTHS, val=[3]), tmp_path / "one", 24, 32, workers=1)
    assert len(many) == len(one) == 10
    for number in range(10):
        np.testing.assert_array_equal(many.clip(number), one.clip(number))
    np.testing.assert_array_equal(starts(many, 4), starts(one, 4))
    batches = [next(ClipLoader(cache, 4, 30, seed=3)).video_BTYXC for cache in (many, one)]
    np.testing.assert_array_equal(batches[0], batches[1])


def kill(sharded: Path, out: Path, where: str, count: int, workers: int) -> None:
    words = [str(sharded), str(out), where, str(count), str(workers)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()


@pytest.mark.parametrize(
    ("where", "count", "workers"), [("parts", 3, 1), ("parts", 5, 4), ("join", 0, 1), ("join", 14, 2)]
)
def test_a_killed_build_goes_on_with_what_is_missing(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, count: int, workers: int
) -> None:
    out = tmp_path / "cache"
    kill(sharded, out, where, count, workers)
    made: list[int] = []
    original = clip_parts._make_part

    def spy(plan: Any, part: int, *rest: Any) -> None:
        made.append(part)
        original(plan, part, *rest)

    monkeypatch.setattr(clip_parts, "_make_part", spy)
    build_clip_cache(sharded, out, 24, 32, workers=1)
    assert len(made) <= 10 - count if where == "parts" else made == []
    build_clip_cache(sharded, tmp_path / "whole", 24, 32, workers=1)
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(tmp_path.glob(".cache.building*"))


def test_processes_that_want_the_same_cache_build_it_once(sharded: Path, tmp_path: Path) -> None:
    code = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
from genie_robot.data import clip_parts
from genie_robot.data.clip_builder import build_clip_cache
print(build_clip_cache(sys.argv[1], sys.argv[2], 24, 32).num_frames)
"""
    command = [sys.executable, "-c", code, str(sharded), str(tmp_path / "cache")]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0, 0]
    assert {answer[0].strip() for answer in answers} == {str(sum(LENGTHS))}
    assert sum("reusing" in answer[1] for answer in answers) == 2
    assert sorted(contents(tmp_path / "cache")) == ["changes.f32", "clips.npy", "frames.u8", "index.json"]


def test_held_out_episodes_are_not_decoded_for_the_others(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_robot.data import assemble

    folder, decoded = write(train=[2] * 40), []
    original = assemble.decode_frames
    monkeypatch.setattr(assemble, "decode_frames", lambda e, *r: (decoded.append(1), original(e, *r))[1])
    for split, count in (("train", 38), ("val", 2)):
        decoded.clear()
        build_clip_cache(folder, tmp_path / split, 8, 8, split)
        assert len(decoded) == count


def test_a_dataset_that_tensorflow_reads_becomes_the_same_cache(write: Write, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow_datasets")
    from genie_robot.data.tfds_door import TfdsDataset

    folder = write(train=[5, 4, 6], val=[3])
    plain = build_clip_cache(folder, tmp_path / "plain", 24, 32)
    through = build_clip_cache(TfdsDataset(str(folder)), tmp_path / "through", 24, 32)
    assert through.contents == plain.contents
    np.testing.assert_array_equal(through.frames_FYXC, plain.frames_FYXC)


def test_half_a_build_of_another_size_is_thrown_away(sharded: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    kill(sharded, out, "parts", 3, 1)
    assert len(list(tmp_path.glob(".cache.building-*"))) == 1
    build_clip_cache(sharded, out, 12, 16)
    assert not list(tmp_path.glob(".cache.building-*"))


def damage(folder: Path, shards: list[int]) -> None:
    for number in shards:
        path = sorted(folder.glob("*-train*"))[number]
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))


def test_bad_records_are_left_out_named_and_counted(sharded: Path, tmp_path: Path) -> None:
    damage(sharded, [2, 7])
    cache = build_clip_cache(sharded, tmp_path / "cache", 24, 32, max_bad_share=0.2)
    assert cache.rows["episode"].tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert cache.bad_records == 2
    for shard, line in zip((2, 7), cache.bad, strict=True):
        assert f"{shard:05d}-of-00010" in line and "record 0 at byte 0" in line
    assert ClipCache.open(tmp_path / "cache").bad == cache.bad


def test_too_many_bad_records_stop_the_build(sharded: Path, tmp_path: Path) -> None:
    damage(sharded, [2, 7, 8])
    with pytest.raises(
        CorruptRecordError, match=r"3 records cannot be read, more than .* allows \(2\).*byte 0"
    ):
        build_clip_cache(sharded, tmp_path / "cache", 24, 32, max_bad_share=0.2, workers=1)
    with pytest.raises(CorruptRecordError, match="record 0 at byte 0"):
        build_clip_cache(sharded, tmp_path / "cache", 24, 32)


def moving_episode(num_frames: int, step: int, number: int = 0) -> dict[str, Any]:
    """A bar that moves `step` columns a frame over grey."""
    frames = np.full((num_frames, 24, 32, 3), 60, np.uint8)
    for frame in range(num_frames):
        frames[frame, :, (frame * step) % 32] = 255
        frames[frame, 0, 0] = (number, frame, 7)
    return {"frames_TYXC": frames, "actions": np.full((num_frames, 7), 0.5, np.float32)}


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """15 Hz: an episode of 31 frames, and one of 20 with a cut before frame 11."""
    joined = moving_episode(20, 2, number=1)
    joined["frames_TYXC"][11:, 1:] = 255 - joined["frames_TYXC"][11:, 1:]
    episodes = {"train": [moving_episode(31, 2), joined], "val": [moving_episode(9, 2)]}
    return write_dataset(tmp_path / "data", "fast", "1.0.0", episodes, (24, 32), 15.0)


def test_a_common_rate_takes_every_kth_frame_and_adds_the_actions(fast: Path, tmp_path: Path) -> None:
    cache = build_clip_cache(fast, tmp_path / "cache", 24, 32, rate_hz=3, label_share=1.0)
    assert cache.dt_s == pytest.approx(1 / 3)
    assert cache.clip(0)[:, 0, 0, 1].tolist() == [0, 5, 10, 15, 20, 25, 30]
    assert cache.actions_FA is not None
    np.testing.assert_allclose(cache.actions_FA[:6, :3], 2.5)
    with pytest.raises(ConfigError, match="recorded at 15 Hz"):
        build_clip_cache(fast, tmp_path / "cache", 24, 32, rate_hz=30)


@pytest.mark.parametrize(("rate_hz", "stride"), [(15, 1), (7.5, 2), (3, 5)])
def test_each_frame_keeps_the_actions_that_lead_from_it_to_the_next(
    tmp_path: Path, rate_hz: float, stride: int
) -> None:
    """Every step's action is another one, and a frame says which step it is: off by one anywhere, and the sums are wrong."""
    rng = np.random.default_rng(5)
    episodes, stored = [], []
    for number, count in enumerate((31, 20, 47)):
        episode = moving_episode(count, 2, number)
        episode["frames_TYXC"][11:, 1:] = 255 - episode["frames_TYXC"][11:, 1:]  # a cut before frame 11
        actions = rng.uniform(-0.05, 0.05, (count, 7)).astype(np.float32)
        actions[:, 3:5] = 0  # turns about one axis add up
        actions[:, 6] = rng.choice([-1, 0, 0, 1], count)
        episodes.append({**episode, "actions": actions})
        stored.append(actions)
    splits = {"train": episodes, "val": [moving_episode(9, 2)]}
    folder = write_dataset(tmp_path / "data", "varied", "1.0.0", splits, (24, 32), 15.0)
    cache = build_clip_cache(folder, tmp_path / "cache", 24, 32, rate_hz=rate_hz, label_share=1.0)
    assert len(cache) == 6 and cache.actions_FA is not None
    for row in cache.rows:
        clip = slice(row["offset"], row["offset"] + row["num_frames"])
        frames, actions_TA = cache.frames_FYXC[clip], cache.actions_FA[clip]
        for frame, action in zip(frames[:-1], actions_TA[:-1], strict=True):
            number, step = int(frame[0, 0, 0]), int(frame[0, 0, 1])
            steps = stored[number][step : step + stride]
            np.testing.assert_allclose(action[:6], steps[:, :6].sum(axis=0), atol=1e-6)
            commands = steps[:, 6][steps[:, 6] != 0]
            assert action[6] == (commands[-1] if len(commands) else 0)
        assert np.isnan(actions_TA[-1]).all()  # no frame of the clip follows


def test_no_window_crosses_a_cut(fast: Path, tmp_path: Path) -> None:
    cache = build_clip_cache(fast, tmp_path / "cache", 24, 32)
    assert [(clip.source, clip.first, clip.num_frames) for clip in cache] == [
        ("fast/train/0", 0, 31),
        ("fast/train/1", 0, 11),
        ("fast/train/1", 11, 9),
    ]
    loader = ClipLoader(cache, 8, 4, seed=0)
    assert loader.num_windows == 24 + 4 + 2
    for _ in range(20):
        for clip in next(loader).video_BTYXC:
            frames = clip[:, 0, 0, 1].astype(int)
            assert np.diff(frames).tolist() == [1] * 7
            if clip[0, 0, 0, 0] == 1:
                assert not (frames[0] < 11 <= frames[-1])


@pytest.mark.parametrize(("share", "kept"), [(1.0, 35), (0.25, 8), (0.0, 0)])
def test_windows_in_which_nothing_moves_are_thinned(tmp_path: Path, share: float, kept: int) -> None:
    still = moving_episode(40, 0)
    still["frames_TYXC"][:, 0, 0] = 0
    episodes = {"train": [moving_episode(40, 2), still], "val": [moving_episode(9, 2)]}
    folder = write_dataset(tmp_path / "data", "lazy", "1.0.0", episodes, (24, 32), 5.0)
    cache = build_clip_cache(folder, tmp_path / "cache", 24, 32)
    firsts = starts(cache, 6, still_share=share)
    assert ((firsts < 40).sum(), (firsts >= 40).sum()) == (35, kept)


def test_a_cache_in_which_nothing_moves_says_so(tmp_path: Path) -> None:
    still = moving_episode(9, 0)
    still["frames_TYXC"][:, 0, 0] = 0
    folder = write_dataset(tmp_path / "data", "dead", "1.0.0", {"train": [still]}, (24, 32), 5.0)
    cache = build_clip_cache(folder, tmp_path / "cache", 24, 32)
    assert len(starts(cache, 4)) == 6
    with pytest.raises(DataError, match="nothing moves in any window of 4 frames"):
        starts(cache, 4, still_share=0)


def test_index_of_another_version_is_built_again(
    sharded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "cache"
    build_clip_cache(sharded, out, 24, 32)
    index = json.loads((out / "index.json").read_text())
    (out / "index.json").write_text(json.dumps({**index, "format": 1}))
    with caplog.at_level(logging.WARNING):
        build_clip_cache(sharded, out, 24, 32)
    assert "another version" in caplog.text
    assert ClipCache.open(out).num_frames == sum(LENGTHS)


def test_a_full_disk_is_said_and_nothing_half_is_left(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_robot.errors import DiskFullError

    def full(*_: Any) -> list[range]:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(clip_parts, "find_segments", full)
    with pytest.raises(DiskFullError, match="no space left"):
        build_clip_cache(sharded, tmp_path / "cache", 24, 32)
    assert not (tmp_path / "cache").exists()
    assert not list(tmp_path.rglob("*.u8*"))
