"""ST-LPIPS: its network by hand, and the numbers of the published package where that is installed."""

from __future__ import annotations

import importlib.util
import pickle

import numpy as np
import pytest
import torch

from genie_robot.errors import ConfigError
from genie_robot.evaluation import st_lpips
from genie_robot.evaluation.st_lpips import ShiftTolerantLpips, load_st_lpips, st_lpips_per_frame

is_installed = importlib.util.find_spec(st_lpips.PACKAGE) is not None


def waves(number: int, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    channels = [
        np.sin(0.11 * (number + 1) * x + 0.07 * c * y + number) * np.cos(0.05 * y * (c + 1)) for c in range(3)
    ]
    return (127.5 + 127.5 * np.stack(channels, axis=-1)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def random_network() -> ShiftTolerantLpips:
    torch.manual_seed(0)
    network = ShiftTolerantLpips().requires_grad_(False)
    for head in network.heads:
        head.copy_(torch.rand_like(head))
    return network.eval()


@pytest.mark.skipif(not is_installed, reason="the weights are in the package stlpips-pytorch")
def test_published_numbers() -> None:
    """stlpips.LPIPS(net="alex", variant="shift_tolerant") of stlpips-pytorch 0.0.2 on the same pictures."""
    noise = np.random.default_rng(0).integers(-20, 21, (64, 64, 3))
    picture = waves(0)
    noisy = np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)
    others = np.stack([picture, waves(1), np.roll(picture, 1, axis=1), noisy])
    found = st_lpips_per_frame(load_st_lpips(), np.stack([picture] * 4), others)
    assert found == pytest.approx([0.0, 0.32977327704, 0.00409840839, 0.06602565199], abs=2e-5)


def test_shapes_of_the_layers_are_those_of_the_published_network(random_network: ShiftTolerantLpips) -> None:
    x = torch.rand(1, 3, 64, 64)
    sizes = []
    for part in random_network.slices:
        x = part(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(64, 30, 30), (192, 15, 15), (384, 8, 8), (256, 8, 8), (256, 8, 8)]


def test_blur_pool_keeps_a_constant_and_the_mean_of_a_checkerboard() -> None:
    pool = st_lpips._BlurPool(1)
    assert torch.allclose(pool(torch.full((1, 1, 8, 8), 3.0)), torch.full((1, 1, 5, 5), 3.0))
    board = (torch.arange(8)[:, None] + torch.arange(8)[None]).remainder(2).float()[None, None]
    assert torch.allclose(pool(board), torch.full((1, 1, 5, 5), 0.5))  # plain striding would give 0


def test_equal_is_zero_and_leading_axes_and_batches_change_nothing(
    random_network: ShiftTolerantLpips,
) -> None:
    video = np.stack([waves(k) for k in range(6)]).reshape(2, 3, 64, 64, 3)
    other = np.roll(video, 5, axis=2)
    assert np.array_equal(st_lpips_per_frame(random_network, video, video), np.zeros((2, 3)))
    whole = st_lpips_per_frame(random_network, video, other)
    split = st_lpips_per_frame(random_network, video, other, batch_size=4)
    assert whole.shape == (2, 3) and (whole > 0).all()
    assert whole == pytest.approx(split, rel=1e-4)
    assert whole == pytest.approx(st_lpips_per_frame(random_network, other, video), rel=1e-5)


def test_the_published_names_reach_their_places(random_network: ShiftTolerantLpips) -> None:
    published = {"scaling_layer.shift": random_network.shift, "scaling_layer.scale": random_network.scale}
    for name, tensor in random_network.state_dict().items():
        first, _, rest = name.partition(".")
        if first == "slices":
            published[f"net.slice{int(rest[0]) + 1}{rest[1:]}"] = tensor
        elif first == "heads":
            published[f"lin{rest}.model.1.weight"] = tensor
    other = ShiftTolerantLpips()
    other.load_published(published)
    video = np.stack([waves(0), waves(1)])
    assert np.array_equal(
        st_lpips_per_frame(other, video[:1], video[1:]),
        st_lpips_per_frame(random_network, video[:1], video[1:]),
    )
    with pytest.raises(RuntimeError):
        other.load_published({"scaling_layer.shift": random_network.shift})


def test_wrong_use_is_told(random_network: ShiftTolerantLpips, monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.zeros((1, 16, 16, 3), np.uint8)
    for truth, generated in ((small, small), (waves(0), waves(0).astype(float)), (waves(0), small)):
        with pytest.raises(ValueError, match="wanted two equal uint8"):
            st_lpips_per_frame(random_network, truth, generated)
    monkeypatch.setattr(st_lpips.torch, "load", lambda *_, **__: pickle.loads(b"no pickle"))
    if is_installed:
        with pytest.raises(ConfigError, match="is not the published file"):
            load_st_lpips()
    monkeypatch.setattr(st_lpips, "PACKAGE", "no_such_package")
    with pytest.raises(ConfigError, match=r"genie_robot\[perceptual\]"):
        load_st_lpips()
