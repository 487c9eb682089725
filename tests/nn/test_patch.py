"""Patches, and the weights of changed pixels."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.models.losses import change_weights
from genie_robot.nn.patch import patchify, unpatchify


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([1, 2, 4]))
def test_patches_round_trip_for_any_grid(rows: int, columns: int, patch: int) -> None:
    video = torch.rand(2, 3, rows * patch, columns * patch, 3)
    patches = patchify(video, patch)
    assert patches.shape == (2, 3, rows * columns, patch * patch * 3)
    assert torch.equal(unpatchify(patches, patch, rows * patch), video)
    assert torch.equal(patches[0, 0, 0].view(patch, patch, 3), video[0, 0, :patch, :patch])


def test_changed_pixels_weigh_more_and_each_frame_the_same() -> None:
    before = torch.zeros(1, 2, 4, 4, 3)
    video = before.clone()
    video[0, 0, 0, 0] = 1.0
    video[0, 1, :2] = 1.0
    weights = change_weights(video, before, 9.0)
    torch.testing.assert_close(weights.mean(dim=(2, 3)), torch.ones(1, 2, 1))
    assert weights[0, 0, 0, 0] / weights[0, 0, 3, 3] == 10
