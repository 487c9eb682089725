"""Known GPUs: memory, peak rates, bandwidth. For MFU and for saying what fits where.

Rates are dense (no sparsity) with fp32 accumulation. They were written down from memory of NVIDIA's data sheets and checked
for some kinds only: look them up before quoting one. Memory is what torch reports as total, a little less than the name
says. Jetsons share it with the rest of the robot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """One kind of GPU. `pattern` is searched for in `torch.cuda.get_device_name()`; a rate of 0: not supported."""

    name: str
    pattern: str
    memory_gib: float
    bf16_tflops: float
    fp8_tflops: float
    bandwidth_tb_s: float


# The first match counts, so special kinds (PCIe, NVL) stand before general ones.
DEVICES = (
    Device("B200", r"B200", 178.4, 2250, 4500, 7.7),  # Blackwell data sheet, HGX
    Device("H200", r"H200", 139.8, 989, 1979, 4.8),  # H200 data sheet, SXM; NVL is clocked lower
    Device("H100 PCIe", r"H100.*PCIe", 79.1, 756, 1513, 2.0),  # H100 data sheet
    Device("H100 NVL", r"H100.*NVL", 93.1, 835, 1671, 3.9),
    Device("H100 SXM", r"H100", 79.1, 989, 1979, 3.35),
    Device("A100 80 GB", r"A100.*80GB", 79.2, 312, 0, 2.0),  # A100 data sheet; fp8 came with Hopper
    Device("A100 40 GB", r"A100", 39.4, 312, 0, 1.555),
    Device("L40S", r"L40S", 44.4, 362, 733, 0.864),  # L40S data sheet
    Device("L4", r"\bL4\b", 22.0, 121, 242, 0.3),  # L4 data sheet
    Device("RTX PRO 6000", r"RTX PRO 6000", 94.9, 504, 1007, 1.792),  # Blackwell RTX PRO white paper
    Device("RTX 6000 Ada", r"RTX 6000 Ada", 47.4, 364, 728, 0.96),  # RTX 6000 Ada data sheet
    # GeForce: half of the fp16-accumulate rate that boxes print (Ada and Blackwell white papers)
    Device("RTX 5090", r"RTX 5090(?! Laptop)", 31.4, 209, 419, 1.792),
    Device("RTX 4090", r"RTX 4090(?! Laptop)", 23.6, 165, 330, 1.008),
    Device("RTX 3090", r"RTX 3090", 23.7, 71, 0, 0.936),  # Ampere GA102 white paper
    Device("AGX Thor", r"Thor", 122.8, 258, 517, 0.273),  # data sheet: 2,070 sparse fp4 TFLOP/s
    Device(
        "AGX Orin 64 GB", r"Orin", 61.4, 42.5, 0, 0.205
    ),  # 170 sparse int8 TOPS of the GPU: 85 dense, half in fp16
)


def find_device(name: str) -> Device | None:
    """The known GPU whose pattern is in `name`, or None."""
    return next((device for device in DEVICES if re.search(device.pattern, name)), None)


def peak_tflops(name: str, precision: str) -> float | None:
    """Peak TFLOP/s of matrix products on the GPU that torch calls `name`; `precision` "bf16" or "fp8".

    None where the table has no number (an unknown GPU, fp32): then it has to be measured.
    """
    device = find_device(name)
    if device is None:
        return None
    return {"bf16": device.bf16_tflops, "fp8": device.fp8_tflops}.get(precision) or None
