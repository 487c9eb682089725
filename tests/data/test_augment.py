from __future__ import annotations

import numpy as np
import pytest

from genie_robot.data.augment import Augmentation


@pytest.fixture
def clip() -> np.ndarray:
    """A still picture with a bright square, four times: uint8 (4, 32, 48, 3)."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., 0] = np.arange(48) * 4
    picture[8:16, 20:28] = (250, 40, 90)
    return np.stack([picture] * 4)


@pytest.mark.parametrize("augmentation", [Augmentation(0.3, 0), Augmentation(0, 0.3), Augmentation(0.3, 0.3)])
def test_all_frames_of_a_clip_get_the_same_and_each_sample_another(
    clip: np.ndarray, augmentation: Augmentation
) -> None:
    one = augmentation.apply(clip, seed=1, sample=5)
    assert (one.shape, one.dtype) == (clip.shape, np.uint8)
    assert all(np.array_equal(frame, one[0]) for frame in one), "a still clip stays still"
    assert not np.array_equal(one, clip)
    np.testing.assert_array_equal(augmentation.apply(clip, seed=1, sample=5), one)
    assert not np.array_equal(augmentation.apply(clip, seed=1, sample=6), one)
    assert not np.array_equal(augmentation.apply(clip, seed=2, sample=5), one)


def test_crop_moves_and_enlarges_but_never_mirrors(clip: np.ndarray) -> None:
    """Red grows from left to right in every crop."""
    for sample in range(20):
        row = Augmentation(crop=0.4).apply(clip, 0, sample)[0, 30, :, 0].astype(int)
        assert (np.diff(row) >= 0).all() and row[-1] > row[0]


def test_nothing_asked_is_nothing_done(clip: np.ndarray) -> None:
    assert not Augmentation()
    np.testing.assert_array_equal(Augmentation().apply(clip, 0, 0), clip)


def test_colour_stays_within_what_was_asked(clip: np.ndarray) -> None:
    grey = np.full((2, 8, 8, 3), 100, np.uint8)
    levels = {int(Augmentation(colour=0.2).apply(grey, 0, sample)[0, 0, 0, 0]) for sample in range(200)}
    assert min(levels) >= 79 and max(levels) <= 121
    assert len(levels) > 20
