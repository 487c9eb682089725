"""The simulator with a model that takes SLOW_STEP_S (default 1) seconds longer for each step (for benchmarks and tests)."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from genie_robot_ros import simulator_node

from genie_robot import WorldSession

STEP_S = float(os.environ.get("SLOW_STEP_S", "1"))
fast_step = WorldSession.step


def slow_step(self: WorldSession, *arguments: Any, **options: Any) -> Any:
    """As a large model on a small computer."""
    time.sleep(STEP_S)
    return fast_step(self, *arguments, **options)


if __name__ == "__main__":
    WorldSession.step = slow_step
    sys.exit(simulator_node.main())
