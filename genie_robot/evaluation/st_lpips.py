"""ST-LPIPS: how different two pictures look, by a network that forgives a shift of a pixel (arXiv 2207.13686).

Squared distance of channel-normalised features of five layers, weighed by learned heads, mean over places, summed over
layers (LPIPS, arXiv 1801.03924, equation 1). Trunk and heads are those that the paper's authors published in the
package `stlpips-pytorch`; only its weights are read: its code cannot be imported without torchvision. Numbers are
named `st_lpips_alex`, never LPIPS, with which they cannot be compared.
Shapes: N pictures, Y X pixels, C channels.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.errors import ConfigError

PACKAGE = "stlpips_pytorch"
_WEIGHTS = Path("weights/vST0.0/alex_shift_tolerant.pth")
#: (place in the published network, channels in, channels out, kernel) of each convolution; "blur" halves the size
_LAYERS: tuple[tuple[tuple[Any, ...], ...], ...] = (
    (("conv", 0, 3, 64, 11), ("blur", 1, 64), ("relu",)),
    (("max",), ("blur", 4, 64), ("conv", 5, 64, 192, 5), ("relu",)),
    (("max",), ("blur", 8, 192), ("conv", 9, 192, 384, 3), ("relu",)),
    (("conv", 11, 384, 256, 3), ("relu",)),
    (("conv", 13, 256, 256, 3), ("relu",)),
)
_CHANNELS = (64, 192, 384, 256, 256)
SMALLEST = 32
"""Pictures of fewer pixels a side leave the last layers nothing to look at."""


class _BlurPool(nn.Module):
    """Binomial blur, then every second pixel (arXiv 1904.11486); the border is reflected by two pixels."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filt", torch.outer(row, row).repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


def _layer(kind: str, *numbers: int) -> nn.Module:
    if kind == "conv":
        _, inside, outside, kernel = numbers
        # The first one has the padding of AlexNet's, which is not half of its kernel.
        return nn.Conv2d(inside, outside, kernel, padding=2 if kernel == 11 else kernel // 2)
    if kind == "blur":
        return _BlurPool(numbers[1])
    return nn.ReLU() if kind == "relu" else nn.MaxPool2d(3, stride=1)


class ShiftTolerantLpips(nn.Module):
    """Distance (N,) of pictures (N,3,Y,X) in [0, 1], 0 for equal ones. Parameters are named as in the published file."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.slices = nn.ModuleList()
        for layers in _LAYERS:
            part = nn.Sequential()
            for index, (kind, *numbers) in enumerate(layers):
                part.add_module(str(numbers[0]) if numbers else f"{kind}{index}", _layer(kind, *numbers))
            self.slices.append(part)
        self.heads = nn.ParameterList([torch.zeros(1, channels, 1, 1) for channels in _CHANNELS])

    def load_published(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of the published file. RuntimeError (torch's) when they are others."""
        renamed = {}
        for name, tensor in tensors.items():
            first, _, rest = name.partition(".")
            if first == "net":
                renamed[f"slices.{int(rest[5]) - 1}{rest[6:]}"] = tensor
            elif first.startswith("lin"):
                renamed[f"heads.{first[3:]}"] = tensor
            else:
                renamed[rest] = tensor
        self.load_state_dict(renamed)

    def forward(self, truth_NCYX: Tensor, generated_NCYX: Tensor) -> Tensor:
        """(N,3,Y,X), (N,3,Y,X) -> (N,)."""
        total = truth_NCYX.new_zeros(len(truth_NCYX))
        x, y = ((2 * pictures - 1 - self.shift) / self.scale for pictures in (truth_NCYX, generated_NCYX))
        for part, head in zip(self.slices, self.heads, strict=True):
            x, y = part(x), part(y)
            total = total + (head * (_unit(x) - _unit(y)).square()).sum(1).mean((1, 2))
        return total


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def load_st_lpips() -> ShiftTolerantLpips:
    """The network with its published weights; ConfigError when the package that holds them is not there or altered."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if not folders:
        raise ConfigError(
            "st_lpips_alex: stlpips-pytorch is not installed; pip install 'genie_robot[perceptual]'"
        )
    path = Path(folders[0]) / _WEIGHTS
    network = ShiftTolerantLpips()
    try:
        network.load_published(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError, pickle.UnpicklingError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ConfigError(
            f"st_lpips_alex: {path} is not the published file ({line}); install stlpips-pytorch again"
        ) from error
    return network.eval().requires_grad_(False)


@torch.no_grad()
def st_lpips_per_frame(
    network: ShiftTolerantLpips, truth: np.ndarray, generated: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """ST-LPIPS of each frame, shape (...), of uint8 videos (..., Y, X, 3); lower is better.

    Raises ValueError for two shapes that differ, another type, and frames of fewer than 32 pixels a side.
    """
    fits = truth.shape == generated.shape and truth.ndim >= 3 and truth.dtype == generated.dtype == np.uint8
    if not fits or min(truth.shape[-3:-1]) < SMALLEST:
        raise ValueError(
            f"frames are {truth.dtype} {truth.shape} and {generated.dtype} {generated.shape}; wanted two equal uint8 "
            f"shapes (..., Y, X, 3) of at least {SMALLEST}x{SMALLEST} pixels"
        )
    flat = [_pictures(video) for video in (truth, generated)]
    parts = [
        network(x.float() / 255, y.float() / 255)
        for x, y in zip(*(pictures.split(batch_size) for pictures in flat), strict=True)
    ]
    return torch.cat(parts).numpy().astype(np.float64).reshape(truth.shape[:-3])


def _pictures(video: np.ndarray) -> Tensor:
    flat = np.ascontiguousarray(video.reshape(-1, *video.shape[-3:]))
    return torch.from_numpy(flat).permute(0, 3, 1, 2)
