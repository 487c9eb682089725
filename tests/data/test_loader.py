from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.clips import ClipCache
from genie_robot.data.loader import ClipLoader, ShuffledLoader
from genie_robot.data.order import Order, permuted
from genie_robot.errors import CheckpointError, ConfigError, DataError

LENGTHS = [5, 1, 0, 9, 4, 3]


@pytest.fixture
def cache(write: Callable[..., Path], tmp_path: Path) -> ClipCache:
    # 24x32 as stored, so that the corner pixel names episode and frame
    return build_clip_cache(write(train=LENGTHS, val=[2]), tmp_path / "cache", 24, 32)


def corners(video_BTYXC: np.ndarray) -> list[list[tuple[int, int]]]:
    """(episode, frame) of every frame of every window, read from the corner pixel."""
    return [[(int(frame[0, 0, 0]), int(frame[0, 0, 1])) for frame in clip] for clip in video_BTYXC]


@given(st.integers(1, 3000), st.integers(-(2**63), 2**63), st.integers(0, 2**40))
def test_permuted_is_a_permutation(size: int, seed: int, epoch: int) -> None:
    assert sorted(permuted(np.arange(size), size, seed, epoch).tolist()) == list(range(size))


def test_permuted_looks_shuffled_and_depends_on_seed_and_epoch() -> None:
    size = 5000
    orders = [permuted(np.arange(size), size, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.05
        assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    for one, other in itertools.combinations(orders, 2):
        assert (one == other).mean() < 0.01
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_the_order_never_changes() -> None:
    """A checkpoint of today must resume with any later version: these numbers are fixed."""
    assert permuted(np.arange(10), 10, seed=7, epoch=3).tolist() == [8, 2, 0, 6, 7, 9, 3, 1, 5, 4]


def test_every_window_comes_once_per_epoch_and_never_crosses_a_border(cache: ClipCache) -> None:
    loader = ClipLoader(cache, 3, 1, seed=4)
    assert loader.num_windows == 3 + 7 + 2 + 1
    assert loader.skipped_clips == 1, "and the empty one is no clip"
    for _ in range(3):
        seen = [corners(next(loader).video_BTYXC)[0] for _ in range(loader.num_windows)]
        starts = sorted(window[0] for window in seen)
        wanted = [(e, s) for e, length in enumerate(LENGTHS) for s in range(length - 2)]
        assert starts == sorted(wanted)
        for window in seen:
            episode, first = window[0]
            assert window == [(episode, first + step) for step in range(3)]


def test_a_remembered_frame_is_an_earlier_one_of_the_same_film(cache: ClipCache) -> None:
    loader, plain = ClipLoader(cache, 3, 1, seed=4, memory_share=1.0), ClipLoader(cache, 3, 1, seed=4)
    gaps = []
    for _ in range(6 * loader.num_windows):
        clips, own = next(loader), corners(next(plain).video_BTYXC)[0]
        window, gap = corners(clips.video_BTYXC)[0], int(clips.gaps_B[0])
        assert window[1:] == own[1:]  # the rest is the window as it was
        assert window[0] == (own[0][0], own[0][1] - gap) and (gap > 0) == (own[0][1] > 0)
        gaps.append(gap)
    assert 4 <= max(gaps) <= 6  # the longest film has 9 frames, its last window begins at the 7th
    again = ClipLoader(cache, 3, 1, seed=4, memory_share=1.0)
    assert [int(next(again).gaps_B[0]) for _ in range(20)] == gaps[:20]
    half = ClipLoader(cache, 3, 13, seed=4, memory_share=0.5)
    assert 0 < np.mean([(next(half).gaps_B > 0).mean() for _ in range(20)]) < 0.6


def test_labels_of_a_window_with_a_remembered_frame_stay_those_of_its_steps(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    folder = write(train=LENGTHS, val=[2])
    cache = build_clip_cache(folder, tmp_path / "labelled", 24, 32, label_share=1.0)
    loaders = (ClipLoader(cache, 3, 13, seed=4, memory_share=share) for share in (0.0, 1.0))
    plain, with_memory = (next(loader).labels_BSA for loader in loaders)
    assert plain is not None and with_memory is not None
    np.testing.assert_array_equal(with_memory, plain)


def test_epochs_have_different_orders(cache: ClipCache) -> None:
    loader = ClipLoader(cache, 3, 13, seed=4)
    first, second = corners(next(loader).video_BTYXC), corners(next(loader).video_BTYXC)
    assert first != second
    assert sorted(first) == sorted(second)


def test_batches_are_contiguous_uint8(cache: ClipCache) -> None:
    batch, labels, gaps = next(iter(ClipLoader(cache, 2, 5)))
    assert labels is None and not gaps.any()
    assert batch.shape == (5, 2, 24, 32, 3)
    assert batch.dtype == np.uint8
    assert batch.flags.c_contiguous
    assert batch.flags.writeable


@pytest.mark.parametrize("batch_size", [1, 4, 13, 40])
@pytest.mark.parametrize("stop", [0, 1, 5])
def test_resume_is_exact(cache: ClipCache, batch_size: int, stop: int) -> None:
    loader = ClipLoader(cache, 3, batch_size, seed=11)
    for _ in range(stop):
        next(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    assert len(json.dumps(state)) < 200
    wanted = [next(loader) for _ in range(8)]
    other = ClipLoader(cache, 3, batch_size, seed=99)
    next(other)
    other.load_state_dict(state)
    for batch in wanted:
        np.testing.assert_array_equal(next(other).video_BTYXC, batch.video_BTYXC)


class Numbers(ShuffledLoader[list[int]]):
    """Gives the window numbers themselves."""

    def __next__(self) -> list[int]:
        return [place.window for place in self.next_places()]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 30), st.integers(0, 9))
def test_processes_share_the_rows_of_one_batch(rows: int, world_size: int, stop: int, seed: int) -> None:
    """The batch of a step does not depend on the number of processes, also after resuming with another number."""
    batch_size = rows * world_size
    one = Numbers(Order([17], [1.0]), batch_size, seed, 0, 1)
    for _ in range(stop):
        next(one)
    many = [Numbers(Order([17], [1.0]), batch_size, seed, rank, world_size) for rank in range(world_size)]
    for loader in many:
        loader.load_state_dict(one.state_dict())
    for _ in range(4):
        wanted = next(one)
        assert [number for loader in many for number in next(loader)] == wanted
        assert all(loader.state_dict() == one.state_dict() for loader in many)


def test_a_process_reads_its_rows_only(cache: ClipCache) -> None:
    whole = next(ClipLoader(cache, 3, 6, seed=5)).video_BTYXC
    for rank in range(3):
        loader = ClipLoader(cache, 3, 6, seed=5, rank=rank, world_size=3)
        assert (loader.rows, loader.batch_size) == (2, 6)
        np.testing.assert_array_equal(next(loader).video_BTYXC, whole[2 * rank : 2 * rank + 2])


def test_a_batch_that_does_not_divide_is_refused(cache: ClipCache) -> None:
    with pytest.raises(ConfigError, match=r"batch_size: got 4, wanted a multiple .* processes \(3\)"):
        ClipLoader(cache, 3, 4, rank=0, world_size=3)


def test_a_batch_larger_than_the_data(cache: ClipCache) -> None:
    loader = ClipLoader(cache, 9, 5, seed=1)
    assert loader.num_windows == 1
    assert {tuple(window[0]) for window in corners(next(loader).video_BTYXC)} == {(3, 0)}
    assert loader.state_dict() == {
        "seed": 1,
        "samples": 5,
        "num_windows": 1,
        "data": loader.order.fingerprint,
    }


def test_no_long_enough_episode_is_said(cache: ClipCache) -> None:
    with pytest.raises(DataError, match=r"no clip of 5 has 10 frames \(longest: 9\)"):
        ClipLoader(cache, 10, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"num_frames": 0}, {"batch_size": 0}, {"workers": 0}, {"rank": 1}, {"rank": -1}, {"world_size": 0}],
)
def test_wrong_numbers_are_refused(cache: ClipCache, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ClipLoader(cache, **{"num_frames": 2, "batch_size": 2, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{"data": "another"}, {"samples": -1}, {"samples": "x"}, {"seed": "x"}])
def test_a_foreign_state_is_refused(cache: ClipCache, changed: dict[str, int]) -> None:
    loader = ClipLoader(cache, 3, 2)
    with pytest.raises(CheckpointError):
        loader.load_state_dict({**loader.state_dict(), **changed})
    with pytest.raises(CheckpointError, match="wanted numbers"):
        loader.load_state_dict({})
