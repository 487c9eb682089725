"""Frechet distances: against scipy, hand values, known faults of clips, and wrong use."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor, nn

from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation import frechet
from genie_robot.evaluation.frechet import compare_clips, fd_state, frechet_distance, fvd, fvd_el0

has_efficientnet = importlib.util.find_spec("efficientnet_lite_pytorch") is not None


def test_equals_the_formula_by_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    y = rng.normal(size=(70, 4)) @ rng.normal(size=(4, 4)) + 0.5
    sx, sy = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
    want = shift + np.trace(sx + sy - 2 * np.real(np.asarray(sqrtm(sx @ sy))))
    assert frechet_distance(x, y) == pytest.approx(want, rel=1e-9)


def test_hand_values() -> None:
    """Two samples at +-s have the variance 2 s^2: the distance is the shift squared plus the deviations' difference."""
    x, y = np.array([[-1.0], [1.0]]), np.array([[3.0], [9.0]])
    assert frechet_distance(x, y) == pytest.approx(36 + (np.sqrt(18) - np.sqrt(2)) ** 2)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 9))
@settings(max_examples=25, deadline=None)
def test_symmetric_not_negative_and_blind_to_rotation(seed: int, dimensions: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(rows, dimensions)), rng.normal(size=(rows + 3, dimensions)) * 2
    turn, _ = np.linalg.qr(rng.normal(size=(dimensions, dimensions)))
    value = frechet_distance(x, y)
    assert value >= 0
    # Square roots of eigenvalues that are zero but for rounding: 1e-16 becomes 1e-8.
    assert frechet_distance(y, x) == pytest.approx(value, abs=1e-5)
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(value, abs=1e-5)


def test_wrong_shapes_are_told() -> None:
    for x, y in (
        (np.zeros((3, 2)), np.zeros((3, 4))),
        (np.zeros((1, 2)), np.zeros((3, 2))),
        (np.zeros(3),) * 2,
    ):
        with pytest.raises(ValueError, match="2 or more rows"):
            frechet_distance(x, y)


def test_perfect_imagination_scores_the_floor_and_a_shifted_one_more() -> None:
    truth = np.random.default_rng(0).normal(size=(120, 30))
    same, shifted = compare_clips(truth, truth), compare_clips(truth, truth + 1.0)
    assert same["value"] == pytest.approx(same["gt_vs_gt"], rel=1e-9)
    assert shifted["value"] > 3 * shifted["gt_vs_gt"]
    assert same["n_clips"] == 60 and same["dimensions"] == 6
    with pytest.raises(DataError, match="got 39 clips; wanted 40"):
        compare_clips(truth[:39], truth[:39])


def test_whole_descriptors_are_compared_by_the_plain_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "SPLITS", 1)
    rng = np.random.default_rng(3)
    truth, imagined = rng.normal(size=(40, 5)), rng.normal(size=(40, 5)) + 1
    order = np.random.default_rng(0).permutation(40)
    one, other = order[:20], order[20:]
    found = compare_clips(truth, imagined, projected=False)
    both = frechet_distance(truth[one], imagined[other]), frechet_distance(truth[other], imagined[one])
    assert found["value"] == pytest.approx(np.mean(both)) and found["dimensions"] == 5
    assert found["gt_vs_gt"] == pytest.approx(frechet_distance(truth[one], truth[other]))


def trajectories(clips: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    states = np.zeros((clips, 9, 9))
    states[:, :, :3] = (
        rng.normal(size=(clips, 1, 3)) + np.cumsum(rng.normal(size=(clips, 9, 3)), axis=1) * 0.2
    )
    states[:, :, 3] = rng.integers(0, 2, (clips, 1))
    states[:, :, 4:7] = rng.normal(size=(clips, 1, 3))
    return states


def test_fd_state_sees_a_still_gripper_and_a_lost_object() -> None:
    truth = trajectories(200, 0)
    frozen, lost = truth.copy(), truth.copy()
    frozen[:, 1:, :3] = truth[:, :1, :3]
    lost[:, 4:, 4:7] += 2.0
    good, still, gone = (fd_state(truth, other) for other in (truth, frozen, lost))
    assert good["value"] == pytest.approx(good["gt_vs_gt"])
    assert gone["value"] > 2 * good["value"] and still["value"] > good["value"]
    assert good["clip_frames"] == 9
    scaled = truth * 1000  # millimetres say the same
    assert fd_state(scaled, scaled + 0)["value"] == pytest.approx(good["value"])


@pytest.mark.skipif(not has_efficientnet, reason="EfficientNet-Lite0 is in the extra `perceptual`")
def test_fvd_el0_says_what_it_is_and_sees_frozen_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frechet, "EL0_PIXELS", 32)  # the frames' own size, for speed
    rng = np.random.default_rng(0)
    clips = np.full((40, 2, 32, 32, 3), 90, np.uint8)
    for clip, (row, column) in zip(clips, rng.integers(0, 20, (40, 2)), strict=True):
        for t in range(2):
            clip[t, row : row + 8, column + 4 * t : column + 4 * t + 8] = (220, 40, 40)
    frozen = np.repeat(clips[:, :1], 2, axis=1)
    same, other = fvd_el0(clips, clips), fvd_el0(clips, frozen)
    assert same["value"] == pytest.approx(same["gt_vs_gt"])
    assert other["value"] > same["value"]
    assert same["backbone"] == "efficientnet-lite0-imagenet" and same["not_comparable_to"] == "I3D FVD"
    assert same["n_clips"] == 20 and {"gt_vs_gt", "dimensions", "clip_frames"} <= set(same)


class Means(nn.Module):
    """Stands for I3D: channel means of a clip."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=[2, 3, 4])


class WithOptions(nn.Module):
    """As the widely used file: without the options it gives something else."""

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        if rescale or resize or not return_features:
            return x
        return x.mean(dim=[2, 3, 4])


@pytest.mark.parametrize("network", [Means(), WithOptions()])
def test_fvd_uses_the_given_network_and_records_its_hash(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frechet, "I3D_PIXELS", 16)  # the frames' own size, for speed
    file = tmp_path / "i3d.pt"
    torch.jit.save(torch.jit.script(network), str(file))
    colours = np.random.default_rng(0).integers(0, 256, (40, 1, 1, 1, 3), dtype=np.uint8)
    truth = np.broadcast_to(colours, (40, 16, 16, 16, 3)).copy()
    same = fvd(truth, truth, file)
    assert same["value"] == pytest.approx(same["gt_vs_gt"]) and same["n_clips"] == 20
    result = fvd(truth, truth // 4, file)
    means, darker = (video[:, 0, 0, 0] / 127.5 - 1 for video in (truth, truth // 4))
    # Not projected: what the formula gives of the features themselves.
    want = compare_clips(means, darker, projected=False)["value"]
    assert result["dimensions"] == 3 and result["value"] == pytest.approx(want, rel=1e-4)
    assert result["value"] > 3 * result["gt_vs_gt"] == pytest.approx(3 * same["gt_vs_gt"])
    import hashlib

    assert result["backbone_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_fvd_refuses_short_clips_and_other_files(tmp_path: Path) -> None:
    clips = np.zeros((2, 16, 16, 16, 3), np.uint8)
    with pytest.raises(DataError, match="give --horizon 15"):
        fvd(clips[:, :9], clips[:, :9], tmp_path / "i3d.pt")
    with pytest.raises(ConfigError, match="no file"):
        fvd(clips, clips, tmp_path / "i3d.pt")
    (tmp_path / "i3d.pt").write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="no TorchScript"):
        fvd(clips, clips, tmp_path / "i3d.pt")
    torch.jit.save(torch.jit.script(Means()), str(tmp_path / "means.pt"))
    with pytest.raises(DataError, match="got 2 clips; wanted 40"):
        fvd(clips, clips, tmp_path / "means.pt")
    torch.jit.save(torch.jit.script(nn.ReLU()), str(tmp_path / "relu.pt"))
    with pytest.raises(ConfigError, match="for one clip; wanted"):
        fvd(clips, clips, tmp_path / "relu.pt")
