"""Robot actions of a share of the episodes: which are read, what the cache holds, what the loader gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data import rlds
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.clips import ClipCache
from genie_robot.data.commands import COMMAND_SIZE, POSE_NAMES, commands, poses_of
from genie_robot.data.labels import is_labelled, standardised, statistics
from genie_robot.data.loader import ClipLoader
from genie_robot.data.open import open_dataset
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError, DataError

Write = Callable[..., Path]
LENGTHS = [5, 1, 0, 9, 4, 3, 6, 7]
SHARE = 0.6


@given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_contains_a_smaller_one(number: int, one: float, other: float) -> None:
    source = f"toy/train/{number}"
    assert is_labelled(source, 1.0) and not is_labelled(source, 0.0)
    assert is_labelled(source, min(one, other)) <= is_labelled(source, max(one, other))


def test_the_share_is_the_share() -> None:
    assert np.mean([is_labelled(f"toy/train/{number}", 0.3) for number in range(4000)]) == pytest.approx(
        0.3, abs=0.03
    )


@pytest.fixture
def folder(write: Write) -> Path:
    return write(train=LENGTHS, val=[2])


@pytest.fixture
def labelled(folder: Path, tmp_path: Path) -> ClipCache:
    return build_clip_cache(folder, tmp_path / "labelled", 24, 32, label_share=SHARE)


def test_the_cache_holds_the_actions_of_chosen_episodes(folder: Path, labelled: ClipCache) -> None:
    assert labelled.actions_FA is not None and labelled.label_size == 7
    chosen = 0
    episodes = (e for e in open_dataset(folder).episodes(actions=True) if e.num_frames)
    for entry, episode in zip(labelled, episodes, strict=True):
        assert episode.actions_TA is not None
        stored = labelled.actions_FA[entry.offset : entry.offset + entry.num_frames]
        assert np.isnan(stored[-1:]).all(), "no frame follows the last one"
        if is_labelled(entry.source, SHARE):
            np.testing.assert_array_equal(stored[:-1], episode.actions_TA[:-1])
            chosen += 1
        else:
            assert np.isnan(stored).all()
    assert 0 < chosen < len(LENGTHS)


def test_actions_of_other_episodes_are_never_parsed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    original = rlds.parse_example

    def spy(payload: Any, wanted: set[str]) -> Any:
        asked.append(any("action" in path for path in wanted))
        return original(payload, wanted)

    monkeypatch.setattr(rlds, "parse_example", spy)
    build_clip_cache(folder, tmp_path / "none", 8, 8)
    assert asked == [False] * len(LENGTHS)
    asked.clear()
    build_clip_cache(folder, tmp_path / "some", 8, 8, label_share=SHARE)
    assert asked == [is_labelled(f"toy/train/{number}", SHARE) for number in range(len(LENGTHS))]


def test_labels_lie_beside_their_frames_and_are_standardised(labelled: ClipCache) -> None:
    loader = ClipLoader(labelled, 3, 64, seed=1)
    video, labels, _ = next(loader)
    assert labels is not None and labels.shape == (64, 2, 7) and labels.dtype == np.float32
    actions = labelled.actions_FA
    assert actions is not None
    known = actions[~np.isnan(actions).any(1)].astype(np.float64)
    low, high = np.quantile(known, [0.01, 0.99], axis=0)
    known[:, :6] = np.clip(known, low, high)[:, :6]  # absurd motions are cut, the gripper is not
    standard = (known - known.mean(0)) / known.std(0)
    everything = labelled.step_labels(0, labelled.num_frames)
    np.testing.assert_allclose(everything[~np.isnan(everything).any(1)], standard, atol=1e-5)
    offset_of = dict(zip(labelled.rows["episode"].tolist(), labelled.rows["offset"].tolist(), strict=True))
    for clip, rows in zip(video, labels, strict=True):
        episode, first = int(clip[0, 0, 0, 0]), int(clip[0, 0, 0, 1])  # written into the corner pixel
        wanted = everything[offset_of[episode] + first :][:2]
        np.testing.assert_array_equal(rows, wanted)
        assert np.isnan(rows).all() != is_labelled(f"toy/train/{episode}", SHARE)


def test_labels_change_neither_frames_nor_order(folder: Path, labelled: ClipCache, tmp_path: Path) -> None:
    plain = build_clip_cache(folder, tmp_path / "plain", 24, 32)
    assert sorted(path.name for path in plain.folder.iterdir()) == [
        "changes.f32",
        "clips.npy",
        "frames.u8",
        "index.json",
    ]
    assert plain.hash != labelled.hash
    one, other = (next(ClipLoader(cache, 3, 9, seed=2)) for cache in (plain, labelled))
    np.testing.assert_array_equal(one.video_BTYXC, other.video_BTYXC)


def test_a_constant_number_is_left_at_zero(
    tmp_path: Path, new_episode: Callable[..., dict[str, Any]]
) -> None:
    from genie_robot.data.rlds_writer import write_dataset

    actions = np.tile(np.array([0, 0, 0, 0, 0, 0, 2.5], np.float32), (4, 1))
    actions[:, 0] = [1, 2, 3, 4]
    episode = {key: new_episode(0, 5)[key] for key in ("frames_TYXC", "instruction")} | {"actions": actions}
    data = write_dataset(tmp_path / "data", "flat", "1.0.0", {"train": [episode]}, (24, 32), 5.0)
    cache = build_clip_cache(data, tmp_path / "flat", 24, 32, label_share=1.0)
    labels = cache.step_labels(0, 4)
    assert np.isfinite(labels).all() and (labels[:, 1:] == 0).all()
    np.testing.assert_allclose(
        labels[:, 0], np.array([-3, -1, 1, 3]) / np.sqrt(5), atol=0.01
    )  # cut at 1 % and 99 %


def test_mistakes_are_said(folder: Path, labelled: ClipCache, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"label_share: got 1e-06, which labels no step"):
        build_clip_cache(folder, tmp_path / "few", 8, 8, label_share=1e-6)
    with pytest.raises(ConfigError, match="shares between 0 and 1"):
        build_clip_cache(folder, tmp_path / "few", 8, 8, label_share=1.5)
    (labelled.folder / "actions.f32").write_bytes(b"1234")
    with pytest.raises(DataError, match=r"actions\.f32 has 4 bytes"):
        ClipCache.open(labelled.folder)


def test_absurd_motions_do_not_squeeze_the_others_and_rare_grasps_stay() -> None:
    """RT-1 holds a few steps of metres, and closes its gripper in one step of fifty."""
    rng = np.random.default_rng(0)
    actions = rng.normal(0, 0.02, (1000, 7)).astype(np.float32)
    actions[:, 6] = 0
    actions[::200, 6] = 1
    actions[3, 0] = 22.0
    standard = standardised(actions, statistics(actions, 1.0))
    assert standard[:, 0].std() == pytest.approx(1, abs=0.05)
    assert np.abs(standard[:, :6]).max() < 4
    assert (standard[::200, 6] > 10).all()


def simulated(root: Path, names: tuple[str, ...]) -> Path:
    draw = np.random.default_rng(0)

    def episode() -> dict[str, Any]:
        frame = draw.integers(90, 160, (1, 24, 32, 3), dtype=np.uint8)
        return {
            "frames_TYXC": np.repeat(frame, 6, axis=0),
            "actions": draw.uniform(-1, 1, (6, 7)).astype(np.float32),
            "state": draw.uniform(0.3, 0.5, (6, len(names))).astype(np.float32),
        }

    splits = {"train": [episode() for _ in range(3)], "val": [episode()]}
    return write_dataset(root, "simulated", "1.0.0", splits, (24, 32), rate_hz=5.0, state_names=names)


def test_with_each_action_goes_the_pose_that_it_commands(tmp_path: Path) -> None:
    folder = simulated(tmp_path / "data", POSE_NAMES)
    cache = build_clip_cache(folder, tmp_path / "cache", 24, 32, label_share=1.0, commanded_poses=True)
    assert cache.label_size == COMMAND_SIZE and cache.actions_FA is not None
    episodes = open_dataset(folder).episodes(actions=True, state=True)
    for entry, episode in zip(cache, episodes, strict=True):
        stored = cache.actions_FA[entry.offset : entry.offset + entry.num_frames]
        assert episode.state_TS is not None and episode.actions_TA is not None
        wanted = commands(poses_of(episode.state_TS[0], POSE_NAMES), episode.actions_TA)
        np.testing.assert_array_equal(stored[:-1], wanted[:-1])
    other = build_clip_cache(folder, tmp_path / "plain", 24, 32, label_share=1.0)
    assert other.label_size == 7 and other.hash != cache.hash


def test_poses_want_named_states_and_every_action(tmp_path: Path) -> None:
    strange = simulated(tmp_path / "strange", ("a", "b"))
    with pytest.raises(DataError, match="which pose is commanded"):
        build_clip_cache(strange, tmp_path / "one", 24, 32, label_share=1.0, commanded_poses=True)
    folder = simulated(tmp_path / "data", POSE_NAMES)
    with pytest.raises(ConfigError, match="rate_hz as recorded"):
        build_clip_cache(folder, tmp_path / "two", 24, 32, rate_hz=2.5, label_share=1.0, commanded_poses=True)
