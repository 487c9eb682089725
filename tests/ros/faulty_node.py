"""The simulator with a device that runs out of memory: at the first two steps with code 7. Run as a program.

Only the error is made up, and it is torch's own; everything that follows from it is real.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from genie_robot_ros.simulator_node import main

from genie_robot import WorldSession

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 8.00 GiB"


def failing(step: Any) -> Any:
    """`step`, but for two failures."""
    errors = [torch.OutOfMemoryError(MESSAGE), torch.OutOfMemoryError(MESSAGE)]

    def run(session: WorldSession, action: int | np.ndarray) -> np.ndarray:
        if errors and np.array_equal(action, 7):
            raise errors.pop()
        return step(session, action)

    return run


if __name__ == "__main__":
    WorldSession.step = failing(WorldSession.step)
    sys.exit(main())
