"""The simulator with a model that takes a second for each step: run as a program, like the node itself.

SECONDS_A_STEP sets another time. Only the time is made up: frames, threads and messages are the real ones. A reset is
as quick as it is, so that what it takes is the wait for the step in work.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from genie_robot_ros.simulator_node import main

from genie_robot import WorldSession

SECONDS_A_STEP = float(os.environ.get("SECONDS_A_STEP", "1.0"))


def slowed(method: Any) -> Any:
    """`method`, after a wait that leaves the interpreter to other threads, as a model at work does."""

    def run(*args: Any, **kwargs: Any) -> Any:
        time.sleep(SECONDS_A_STEP)
        return method(*args, **kwargs)

    return run


if __name__ == "__main__":
    WorldSession.step = slowed(WorldSession.step)
    sys.exit(main())
