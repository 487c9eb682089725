"""Contact sheets and horizon strips: what they show, and that any size and name can be drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from genie_robot_ros.sheets import BACKGROUND, GAP, HORIZON_COLUMNS, MAX_TILE, contact_sheet, horizon_strip
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot import LatentAction

NAMES = ("up", "left", "right", "close/open", "forward", "down (2)", "back", "down")
ACTIONS = tuple(LatentAction(code, name) for code, name in enumerate(NAMES))


def plain_frames(count: int, height: int, width: int) -> np.ndarray:
    """Frames of one bright colour each, no two alike."""
    frames_NYXC = np.zeros((count, height, width, 3), np.uint8)
    frames_NYXC[:] = (np.arange(count) * 10 + 100)[:, None, None, None]
    return frames_NYXC


def test_every_future_is_shown_whole_in_its_place() -> None:
    frames_AYXC = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    sheet_YXC = contact_sheet(frames_AYXC, ACTIONS)
    pitch_y = (len(sheet_YXC) - GAP) // 2
    for code, frame_YXC in enumerate(frames_AYXC):
        top, left = GAP + code // 4 * pitch_y, GAP + code % 4 * (128 + GAP)
        tile_YXC = sheet_YXC[top : top + 128, left : left + 128]
        np.testing.assert_array_equal(tile_YXC[::2, ::2], frame_YXC)
        np.testing.assert_array_equal(tile_YXC[1::2, 1::2], frame_YXC)  # enlarged, nothing made up


def label_strip(sheet_YXC: np.ndarray, place: int) -> np.ndarray:
    """The pixels under tile `place` of the first row of 128-pixel tiles."""
    pitch_y = (len(sheet_YXC) - GAP) // 2 if len(sheet_YXC) > 200 else len(sheet_YXC) - GAP
    left = GAP + place * (128 + GAP)
    return sheet_YXC[GAP + 128 : pitch_y, left : left + 128]


def test_names_are_written_under_the_tiles_and_differ() -> None:
    sheet_YXC = contact_sheet(plain_frames(8, 64, 64), ACTIONS)
    strips = [label_strip(sheet_YXC, place) for place in range(4)]
    for strip in strips:
        assert (strip > 200).sum() > 50  # ink
        assert (strip[:2] == BACKGROUND).all() and (strip[-1] == BACKGROUND).all()  # not cut off
    assert all((a != b).any() for a, b in itertools.combinations(strips, 2))


def test_a_long_name_is_made_smaller_not_cut() -> None:
    actions = (LatentAction(0, "left"), LatentAction(1, "forward and up and then close (2)"))
    sheet_YXC = contact_sheet(plain_frames(2, 64, 64), actions)
    assert (sheet_YXC[:, :2] == BACKGROUND).all() and (sheet_YXC[:, -2:] == BACKGROUND).all()
    ink = (label_strip(sheet_YXC, 1) > 120).any(axis=(0, 2))
    assert ink.sum() > 40 and np.flatnonzero(ink)[-1] < 128


def test_a_sheet_of_camera_images_stays_a_small_message() -> None:
    sheet_YXC = contact_sheet(plain_frames(8, 480, 640), ACTIONS)
    assert sheet_YXC.shape[1] == 4 * MAX_TILE + 5 * GAP
    assert sheet_YXC.nbytes < 3e6


def test_the_horizon_reads_left_to_right() -> None:
    strip_YXC = horizon_strip(plain_frames(5, 64, 64), ["camera", *(f"+{k} left" for k in range(1, 5))])
    assert strip_YXC.shape[1] == 5 * (128 + GAP) + GAP
    seen = [int(strip_YXC[70, GAP + place * (128 + GAP) + 64, 0]) for place in range(5)]
    assert seen == [100, 110, 120, 130, 140]
    strips = [label_strip(strip_YXC, place) for place in range(5)]
    assert all((a != b).any() for a, b in itertools.combinations(strips, 2))


def test_a_long_horizon_has_several_rows() -> None:
    strip_YXC = horizon_strip(plain_frames(HORIZON_COLUMNS + 1, 64, 64), ["up"] * (HORIZON_COLUMNS + 1))
    assert strip_YXC.shape[1] == HORIZON_COLUMNS * (128 + GAP) + GAP
    assert strip_YXC.shape[0] > 2 * 128


def test_frames_without_names_are_refused() -> None:
    with pytest.raises(AssertionError):
        horizon_strip(plain_frames(3, 64, 64), ["up"])


@given(
    st.integers(1, 12),
    st.integers(1, 400),
    st.integers(1, 400),
    st.lists(st.text(max_size=30), min_size=12, max_size=12),
    st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_any_size_and_name_can_be_drawn(count, height, width, names, columns) -> None:
    actions = [LatentAction(code, name) for code, name in enumerate(names[:count])]
    sheet_YXC = contact_sheet(np.full((count, height, width, 3), 200, np.uint8), actions, columns)
    assert sheet_YXC.dtype == np.uint8 and sheet_YXC.shape[2] == 3
    assert (sheet_YXC == 200).all(axis=2).sum() >= count  # every tile is there
