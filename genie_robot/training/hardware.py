"""Device and precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from genie_robot.config import HardwareConfig
from genie_robot.errors import ConfigError


def pick_device(config: HardwareConfig) -> torch.device:
    """The device asked for; "auto" takes a GPU where there is one."""
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"hardware.device: got {config.device!r}, but torch sees no GPU; use hardware.device=cpu"
        )
    return torch.device(config.device)


def pick_precision(config: HardwareConfig, device: torch.device) -> str:
    """The precision asked for; "auto" takes bf16 where the processor multiplies it (CUDA, CPUs with AMX or AVX512-BF16)."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run."""
    if precision != "bf16":
        return nullcontext()
    # Each weight is used once a pass, so a cache of their bf16 copies would only keep them all in memory.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
