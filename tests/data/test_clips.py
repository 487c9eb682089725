from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.data import clip_parts
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.clips import ClipCache
from genie_robot.data.open import open_dataset
from genie_robot.data.resize import resize_frame
from genie_robot.errors import ConfigError, CorruptRecordError, DataError, DatasetNotFoundError

Write = Callable[..., Path]


def numbers(cache: ClipCache) -> list[int]:
    return cache.rows["episode"].tolist()


def test_the_cache_holds_the_frames_of_the_reader(write: Write, tmp_path: Path) -> None:
    folder = write(train=[5, 1, 0, 9], val=[3])
    cache = build_clip_cache(folder, tmp_path / "cache", 16, 16)
    assert (len(cache), cache.num_frames, cache.height, cache.width, cache.dt_s) == (3, 15, 16, 16, 0.2)
    for number, episode in enumerate(e for e in open_dataset(folder).episodes() if e.num_frames):
        entry = cache[number]
        assert (entry.num_frames, entry.first, entry.source) == (episode.num_frames, 0, episode.source)
        assert entry.instruction == episode.instruction
        wanted = [resize_frame(frame, 16, 16) for frame in episode.frames_TYXC]
        assert cache.clip(number).shape == (episode.num_frames, 16, 16, 3)
        assert all(np.array_equal(one, other) for one, other in zip(cache.clip(number), wanted, strict=True))
        assert cache.clip(number).flags.writeable is False
    assert [entry.offset for entry in cache] == [0, 5, 6]


def test_the_folder_holds_its_files_and_nothing_is_left_beside(write: Write, tmp_path: Path) -> None:
    build_clip_cache(write(train=[4]), tmp_path / "caches" / "train", 16, 16)
    assert sorted(path.name for path in (tmp_path / "caches" / "train").iterdir()) == [
        "changes.f32",
        "clips.npy",
        "frames.u8",
        "index.json",
    ]
    assert sorted(path.name for path in (tmp_path / "caches").iterdir()) == [".train.lock", "train"]
    assert (tmp_path / "caches" / "train" / "frames.u8").stat().st_size == 4 * 16 * 16 * 3


def test_own_val_split_is_used(write: Write, tmp_path: Path) -> None:
    folder = write(train=[4, 4], val=[7])
    assert [entry.source for entry in build_clip_cache(folder, tmp_path / "v", 8, 8, "val")] == ["toy/val/0"]
    assert numbers(build_clip_cache(folder, tmp_path / "t", 8, 8, "train")) == [0, 1]
    other = write("other", train=[4, 4], validation=[7])
    cache = build_clip_cache(other, tmp_path / "o", 8, 8, "val")
    assert [entry.source for entry in cache] == ["other/validation/0"]


@pytest.mark.parametrize(("count", "held_out"), [(45, [19, 39]), (20, [19]), (3, [2]), (2, [1])])
def test_every_twentieth_episode_is_held_out_where_there_is_only_train(
    write: Write, tmp_path: Path, count: int, held_out: list[int]
) -> None:
    folder = write(train=[2] * count)
    val = numbers(build_clip_cache(folder, tmp_path / "val", 8, 8, "val"))
    train = numbers(build_clip_cache(folder, tmp_path / "train", 8, 8, "train"))
    assert val == held_out
    assert sorted(val + train) == list(range(count))


def test_one_episode_cannot_be_divided(write: Write, tmp_path: Path) -> None:
    folder = write(train=[4])
    assert numbers(build_clip_cache(folder, tmp_path / "train", 8, 8, "train")) == [0]
    with pytest.raises(DataError, match="1 training episode"):
        build_clip_cache(folder, tmp_path / "val", 8, 8, "val")


def test_any_other_split_is_taken_by_name(write: Write, tmp_path: Path) -> None:
    folder = write(train=[4, 4], test=[5])
    assert numbers(build_clip_cache(folder, tmp_path / "test", 8, 8, "test")) == [0]
    with pytest.raises(DataError, match="no split 'tset'"):
        build_clip_cache(folder, tmp_path / "typo", 8, 8, "tset")
    assert not (tmp_path / "typo").exists()


def test_max_episodes(write: Write, tmp_path: Path) -> None:
    folder = write(train=[4, 5, 6, 7], val=[3])
    assert numbers(build_clip_cache(folder, tmp_path / "cache", 8, 8, max_episodes=2)) == [0, 1]


def test_a_cache_is_reused_until_something_changes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(train=[4, 5], val=[3])
    built: list[int] = []
    original = clip_parts._make_part
    monkeypatch.setattr(clip_parts, "_make_part", lambda *a: (built.append(1), original(*a))[1])

    def build(height: int = 8, **more: Any) -> ClipCache:
        return build_clip_cache(folder, tmp_path / "cache", height, 8, **more)

    first = build()
    assert build().hash == first.hash
    assert len(built) == 1
    assert build(10).height == 10
    assert len(built) == 2
    build(10, max_episodes=1)
    assert len(built) == 3
    build(10, split="val")
    assert len(built) == 4
    shard = next(folder.glob("*train*"))
    os.utime(shard, ns=(1, 1))
    build(10, split="val")
    assert len(built) == 5
    (folder / "metadata.json").write_text(json.dumps({"rate_hz": 10.0}))
    assert build(10, split="val").dt_s == 0.1
    assert len(built) == 6


@pytest.mark.parametrize("damage", ["frames cut", "frames gone", "index cut", "index empty object"])
def test_a_damaged_cache_is_refused_and_built_again(write: Write, tmp_path: Path, damage: str) -> None:
    folder, out = write(train=[4, 5]), tmp_path / "cache"
    frames = build_clip_cache(folder, out, 8, 8).frames_FYXC.copy()
    if damage == "frames cut":
        with (out / "frames.u8").open("r+b") as file:
            file.truncate(100)
    elif damage == "frames gone":
        (out / "frames.u8").unlink()
    else:
        (out / "index.json").write_text("{}" if "object" in damage else (out / "index.json").read_text()[:50])
    with pytest.raises(DataError, match="cache"):
        ClipCache.open(out)
    np.testing.assert_array_equal(build_clip_cache(folder, out, 8, 8).frames_FYXC, frames)


def test_a_foreign_folder_is_left_alone(write: Write, tmp_path: Path) -> None:
    folder = write(train=[4])
    with pytest.raises(ConfigError, match="is no clip cache"):
        build_clip_cache(folder, folder, 8, 8)
    assert len(list(open_dataset(folder).episodes())) == 1
    with pytest.raises(DatasetNotFoundError, match="no clip cache"):
        ClipCache.open(tmp_path)
    with pytest.raises(ConfigError, match="wanted numbers of at least 1"):
        build_clip_cache(folder, tmp_path / "cache", 0, 8)


def test_a_bad_record_stops_the_build_or_is_counted(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(train=[4, 5, 6], val=[2])
    shard = next(folder.glob("*train*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CorruptRecordError, match="record 2"):
        build_clip_cache(folder, tmp_path / "cache", 8, 8)
    assert not (tmp_path / "cache").exists()
    with caplog.at_level(logging.WARNING):
        cache = build_clip_cache(folder, tmp_path / "cache", 8, 8, max_bad_share=0.4)
    assert (len(cache), cache.bad_records) == (2, 1)
    assert "record 2" in caplog.text
    assert ClipCache.open(tmp_path / "cache").bad_records == 1


def test_an_old_cache_survives_a_failing_rebuild(write: Write, tmp_path: Path) -> None:
    folder, out = write(train=[4, 5], val=[2]), tmp_path / "cache"
    wanted = build_clip_cache(folder, out, 8, 8).hash
    shard = next(folder.glob("*train*"))
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(CorruptRecordError):
        build_clip_cache(folder, out, 8, 8)
    assert ClipCache.open(out).hash == wanted
    visible = [path.name for path in tmp_path.iterdir() if "cache" in path.name and path.name[0] != "."]
    assert visible == ["cache"]


def test_only_empty_episodes(write: Write, tmp_path: Path) -> None:
    cache = build_clip_cache(write(train=[0, 0], val=[1]), tmp_path / "cache", 8, 8)
    assert (len(cache), cache.num_frames, cache.frames_FYXC.shape) == (0, 0, (0, 8, 8, 3))


def test_a_pickled_cache_is_its_address(write: Write, tmp_path: Path) -> None:
    cache = build_clip_cache(write(train=[40, 40], val=[1]), tmp_path / "cache", 32, 32)
    content = pickle.dumps(cache)
    assert len(content) < 500
    np.testing.assert_array_equal(pickle.loads(content).clip(1), cache.clip(1))


def test_real_robots(shared_dataset: Callable[[str], Path], tmp_path: Path) -> None:
    def build(name: str, split: str) -> ClipCache:
        return build_clip_cache(shared_dataset(name), tmp_path / name / split, 64, 64, split)

    rt1, bridge = build("rt1_rlds", "train"), build("bridge_octo_rlds", "train")
    assert (len(rt1), rt1.num_frames, round(1 / rt1.dt_s)) == (2, 86, 3)
    assert (len(bridge), bridge.num_frames, round(1 / bridge.dt_s)) == (12, 12 * 9, 5), (
        "Bridge's first step is no data"
    )
    assert build("rt1_rlds", "val").num_frames == 22
    clips = [cache.clip(i) for cache in (rt1, bridge) for i in range(len(cache))]
    # figures of the shared data at 64x64: neighbouring frames differ by a few grey levels, not by nothing or a scene
    changes = [np.abs(np.diff(clip.astype(int), axis=0)).mean() for clip in clips]
    assert min(changes) > 1.5
    assert max(changes) < 12
