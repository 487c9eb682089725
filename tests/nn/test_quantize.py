"""Quantizers and patches."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.models.losses import change_weights
from genie_robot.nn.patch import patchify, unpatchify
from genie_robot.nn.quantize import FiniteScalarQuantizer, VectorQuantizer


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4))
def test_fsq_codes_name_the_vectors_they_come_from(levels: list[int]) -> None:
    torch.manual_seed(0)
    quantizer = FiniteScalarQuantizer(tuple(levels), 8)
    out = quantizer(3 * torch.randn(200, 8))
    size = 1
    for level in levels:
        size *= level
    assert int(out.codes.min()) >= 0 and int(out.codes.max()) < size
    torch.testing.assert_close(quantizer.lookup(out.codes), out.vectors)
    assert len(quantizer.lookup(torch.arange(size)).detach().unique(dim=0)) == size


def test_fsq_uses_its_levels_from_the_start() -> None:
    quantizer = FiniteScalarQuantizer((8, 5, 5, 5), 32)
    codes = quantizer(0.01 * torch.randn(5000, 32) + 3).codes  # a shy encoder: small spread, large mean
    assert len(codes.unique()) > 600


def test_straight_through_gradients_reach_the_input() -> None:
    for quantizer in (FiniteScalarQuantizer((5, 5), 6), VectorQuantizer(8, 6, 0.25)):
        x = torch.randn(20, 6, requires_grad=True)
        out = quantizer(x)
        (out.vectors * torch.randn(6)).sum().backward()
        assert x.grad is not None and x.grad.abs().max() > 0


def test_dead_codes_are_moved_onto_inputs() -> None:
    quantizer = VectorQuantizer(8, 4, 0.25, reset_every=10)
    with torch.no_grad():
        quantizer.codebook[:] = torch.tensor([1.0, 0, 0, 0])
        quantizer.codebook[1:] = torch.tensor([-1.0, 0, 0, 0])
    x = torch.randn(400, 4) * torch.tensor([0.2, 1, 1, 1]) + torch.tensor([1.0, 0, 0, 0])
    quantizer.train()
    used = len(quantizer(x).codes.unique())
    for _ in range(200):  # a code's share must fade first
        quantizer(x)
    assert len(quantizer(x).codes.unique()) == 8 > used
    quantizer.eval()
    before = quantizer.codebook.clone()
    quantizer(x)
    assert torch.equal(before, quantizer.codebook)


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
