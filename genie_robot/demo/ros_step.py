"""Demo step: the model as a ROS 2 simulator node, driven over real DDS by a client in another process."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genie_robot.demo.process import run_child
from genie_robot.demo.steps import Context, Result
from genie_robot.errors import GenieError

WAIT_S, ROUND_TRIP_LIMIT_S = 90.0, 300.0


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
    """Start the simulator node, send `commands` latent actions one at a time, then as a burst; times and order."""
    if (reason := missing_parts()) is not None:
        return {"skipped": reason}
    # Own domain, this machine only: nothing else on the network sees or disturbs the measurement.
    environment = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        "ROS_LOG_DIR": str(context.folder / "log"),
    }
    client = [
        *(
            sys.executable,
            "-m",
            "genie_robot_ros.round_trip",
            "--prompt",
            str(prompt),
            "--commands",
            str(commands),
        ),
        *("--burst", str(commands), "--out", str(context.folder), "--wait", str(WAIT_S)),
    ]
    with _simulator(model_folder, environment, context.folder / "node.log"):
        context.say(f"node started; {commands} commands one at a time, then {commands} at once")
        exit_code = run_child(
            client,
            environment=environment,
            log=context.folder / "round_trip.log",
            timeout_s=ROUND_TRIP_LIMIT_S,
        )
    stored = context.folder / "round_trip.json"
    if not stored.is_file():
        last = (context.folder / "round_trip.log").read_text().strip().splitlines()[-1:] or ["no output"]
        raise GenieError(
            f"the ROS 2 round trip ended with exit code {exit_code}: {last[0]} (logs in {context.folder})"
        )
    result = json.loads(stored.read_text())
    result.pop("contact_sheet", None)
    return {
        **result,
        "pictures": {"sheet": "contact_sheet.png"},
        "host_load_1min": round(os.getloadavg()[0], 2),
    }


@contextmanager
def _simulator(model_folder: Path, environment: dict[str, str], log: Path) -> Iterator[None]:
    """The simulator node in its own process group, stopped at the end whatever happens."""
    command = [
        *(sys.executable, "-m", "genie_robot_ros.simulator_node", "--ros-args"),
        *("-p", f"model_path:={model_folder}", "-p", "autostart:=true"),
    ]
    with open(log, "w") as output:
        node = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            for number, patience_s in ((signal.SIGINT, 10.0), (signal.SIGKILL, 10.0)):
                if node.poll() is None:
                    os.killpg(node.pid, number)
                try:
                    node.wait(patience_s)
                    break
                except subprocess.TimeoutExpired:
                    continue
