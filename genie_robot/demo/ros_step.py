"""Demo step: the model as a ROS 2 simulator node, driven over real DDS by a client in another process."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from genie_robot.demo.process import run_child
from genie_robot.demo.steps import Context, Result
from genie_robot.errors import GenieError

LIMIT_S = 400.0


def missing_parts() -> str | None:
    """Why the round trip cannot run here, as a plain sentence; None when it can."""
    if importlib.util.find_spec("rclpy") is None:
        return (
            "ROS 2 is not installed in this environment; `make ros` installs it from wheels (Linux x86_64)."
        )
    for package in ("genie_robot_interfaces", "genie_robot_ros"):
        if importlib.util.find_spec(package) is None:
            return f"The ROS 2 package {package} is not built; `make ros` builds it (it needs g++ and python3-dev)."
    return None


def round_trip(context: Context, *, model_folder: Path, prompt: Path, commands: int) -> Result:
    """Node and client as two processes: `commands` latent actions one at a time, then as a burst; times and order."""
    if (reason := missing_parts()) is not None:
        return {"skipped": reason}
    context.say(f"node and client start; {commands} commands one at a time, then {commands} at once")
    command = [
        *(sys.executable, "-m", "genie_robot_ros.demo_round_trip", "--model", str(model_folder)),
        *("--prompt", str(prompt), "--out", str(context.folder)),
        *("--commands", str(commands), "--burst", str(commands)),
    ]
    log = context.folder / "demo_round_trip.log"
    # ROS's own logs stay in this folder too, instead of the user's home.
    environment = {"ROS_LOG_DIR": str(context.folder / "log")}
    exit_code = run_child(command, environment=environment, log=log, timeout_s=LIMIT_S)
    if exit_code == 130:
        raise KeyboardInterrupt
    stored = context.folder / "round_trip.json"
    if not stored.is_file():
        last = log.read_text().strip().splitlines()[-1:] or ["it printed nothing"]
        raise GenieError(
            f"the ROS 2 round trip ended with exit code {exit_code}: {last[0]} (logs in {context.folder})"
        )
    result = json.loads(stored.read_text())
    result.pop("contact_sheet", None)
    return {
        **result,
        "pictures": {"sheet": "contact_sheet.png"},
        "load_1min_at_end": round(os.getloadavg()[0], 2),
    }
