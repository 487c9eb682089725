"""How fast training goes: tokens a second, share of the device's peak (MFU), memory, time spent waiting for data."""

from __future__ import annotations

import resource
import time

import torch

from genie_robot.training.devices import peak_tflops

_GIB = 2**30


def peak_flops(device: torch.device, precision: str, given_tflops: float = 0.0) -> float:
    """Peak of one device in FLOP/s: as given, from the table of known GPUs, or a large product measured now."""
    if given_tflops:
        return given_tflops * 1e12
    if device.type == "cuda":
        known = peak_tflops(torch.cuda.get_device_name(device), precision)
        if known:
            return known * 1e12
    return _measured_flops(device, torch.bfloat16 if precision == "bf16" else torch.float32)


def _measured_flops(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(4):  # the first one warms up
        started = time.perf_counter()
        product = matrix @ matrix
        product[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def memory_gib(device: torch.device) -> float:
    """Highest memory so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB


class Meter:
    """Rates since the last reading. `flops_per_step` and `frames_per_step` are of this process."""

    def __init__(
        self,
        flops_per_step: float,
        frames_per_step: int,
        tokens_per_frame: int,
        peak: float,
        device: torch.device,
    ) -> None:
        self._flops, self._frames, self._tokens = flops_per_step, frames_per_step, tokens_per_frame
        self._peak, self._device = peak, device
        self._steps, self._waited_s, self._since = 0, 0.0, time.perf_counter()

    def waited(self, seconds: float) -> None:
        """Count time in which the step had no data."""
        self._waited_s += seconds

    def skip(self, seconds: float) -> None:
        """Leave out time that was not training (validation)."""
        self._since += seconds

    def step(self) -> None:
        """Count one step."""
        self._steps += 1

    def read(self) -> dict[str, float]:
        """`tokens_per_s` (of this process), `mfu`, `memory_gib`, `data_wait` (share of the time); starts anew."""
        spent = max(time.perf_counter() - self._since, 1e-9)
        rates = {
            "tokens_per_s": round(self._steps * self._frames * self._tokens / spent, 1),
            "mfu": round(self._steps * self._flops / spent / self._peak, 4),
            "memory_gib": round(memory_gib(self._device), 3),
            "data_wait": round(self._waited_s / spent, 4),
        }
        self._steps, self._waited_s, self._since = 0, 0.0, time.perf_counter()
        return rates
