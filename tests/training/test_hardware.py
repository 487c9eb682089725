"""Which precision a run takes."""

import pytest
import torch

from genie_robot.config import HardwareConfig
from genie_robot.training.hardware import pick_precision


@pytest.mark.parametrize(
    ("amx", "avx512", "precision"), [(False, False, "fp32"), (True, False, "bf16"), (False, True, "bf16")]
)
def test_a_processor_that_multiplies_bf16_is_used_for_it(
    monkeypatch: pytest.MonkeyPatch, amx: bool, avx512: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    cpu = torch.device("cpu")
    assert pick_precision(HardwareConfig(), cpu) == precision
    assert pick_precision(HardwareConfig(precision="fp32"), cpu) == "fp32"
