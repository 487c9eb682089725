"""Start the simulator node and the round-trip client as two processes in their own ROS domain, and report.

$ python -m genie_robot_ros.demo_round_trip --model weights/tabletop-tiny --commands 200 --out outputs/ros2

Needs no ROS environment, no launch and no shell. Writes `round_trip.json`, `contact_sheet.png` and the logs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from genie_robot.errors import ConfigError, GenieError

END_TIMEOUT_S = 15.0


class RoundTripError(RuntimeError):
    """A process of the demo failed; the message says which and where its log is."""


def run_round_trip(
    model: Path | str,
    out: Path | str,
    commands: int = 200,
    burst: int = 200,
    prompt: Path | str | None = None,
    device: str = "cpu",
    seed: int = 0,
    timeout_s: float = 900.0,
    baseline: bool = True,
) -> dict[str, Any]:
    """Measure one model over real DDS -> the content of `<out>/round_trip.json`.

    `prompt` is an image, an .npz or a dataset folder; without one, the tabletop scene is rendered (needs the `sim`
    extra). Keys: commands, frames, in_order, lost, duplicated, {round_trip, model, overhead}_{p50, p99}_ms, burst,
    contact_sheet, node_exit_code, and echo_{p50, p99}_ms: the floor of bare rclpy on this machine.
    """
    model, out = Path(model).resolve(), Path(out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    prompt = render_prompt(out / "prompt.png") if prompt is None else Path(prompt).resolve()
    environment = ros_environment()
    result: dict[str, Any] = _echo_baseline(out, environment) if baseline else {}
    parameters = out / "parameters.yaml"
    settings = {"model_path": str(model), "device": device, "seed": seed, "autostart": True}
    settings["command_queue_size"] = max(burst, 1)  # the whole burst waits, nothing may be refused
    # JSON is YAML, and quotes what a path may contain
    parameters.write_text(json.dumps({"/**": {"ros__parameters": settings}}) + "\n")
    node = _python("simulator_node", "--ros-args", "--params-file", str(parameters))
    client = _python("round_trip", "--prompt", str(prompt), "--out", str(out))
    client += [
        "--commands",
        str(commands),
        "--burst",
        str(burst),
        "--seed",
        str(seed),
        "--wait",
        str(timeout_s),
    ]
    log = out / "genie_simulator.log"
    with _process(node, log, environment) as node_process:
        result |= _run_client(client, out / "round_trip.log", environment, node_process, log, timeout_s)
        result["node_exit_code"] = _end(node_process)
    result["contact_sheet"] = str(out / "contact_sheet.png")
    (out / "round_trip.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def ros_environment() -> dict[str, str]:
    """The environment of this process, with discovery kept on this machine and a random domain of its own."""
    # one thread for torch unless the user says otherwise: on a small machine more of them fight the client for cores
    return (
        {"OMP_NUM_THREADS": "1"}
        | os.environ
        | {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 102)),
            "PYTHONUNBUFFERED": "1",
        }
    )


def render_prompt(path: Path, seed: int = 20_000_003) -> Path:
    """Write one picture of the tabletop scene, of a seed far from those of the training data."""
    from genie_robot.simulation.mujoco.env import TabletopEnv

    frame_YXC, _ = TabletopEnv().reset(seed=seed)
    cv2.imwrite(str(path), cv2.cvtColor(frame_YXC, cv2.COLOR_RGB2BGR))
    return path


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"genie_robot_ros.{module}", *arguments]


@contextmanager
def _process(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process whose output goes to a log file, and that does not outlive the block."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _end(process: subprocess.Popen) -> int | None:
    """SIGINT, as Ctrl-C does; None if the process does not end by itself."""
    process.send_signal(signal.SIGINT)
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None


def _run_client(
    command: list[str],
    log: Path,
    environment: dict[str, str],
    node: subprocess.Popen,
    node_log: Path,
    timeout_s: float,
) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    with _process(command, log, environment) as client:
        while client.poll() is None:
            if node.poll() is not None:
                raise RoundTripError(
                    f"the simulator node ended with code {node.returncode}: {_last_line(node_log)}"
                )
            if "[ERROR]" in node_log.read_text():
                raise RoundTripError(f"the simulator node failed: {_last_line(node_log)}")
            if time.monotonic() > deadline:
                raise RoundTripError(f"the round trip took longer than {timeout_s:g} s; logs: {log.parent}")
            time.sleep(0.2)
    try:
        lines = log.read_text().strip().splitlines()
        return json.loads(lines[-1])
    except (IndexError, json.JSONDecodeError):
        raise RoundTripError(f"the client ended with code {client.returncode}: {_last_line(log)}") from None


def _last_line(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    return f"{lines[-1] if lines else 'it printed nothing'} (log: {log})"


def _echo_baseline(out: Path, environment: dict[str, str]) -> dict[str, Any]:
    with _process(_python("echo_baseline", "serve"), out / "echo_server.log", environment) as server:
        command = _python("echo_baseline", "measure")
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=180, check=False
        )
        _end(server)
    if done.returncode != 0:
        raise RoundTripError(f"the echo baseline failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    """Console script `demo_round_trip`: exit code 1 if a frame was lost, doubled or out of order."""
    options = argparse.ArgumentParser(prog="demo_round_trip", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--model", required=True, help="model folder")
    options.add_argument("--out", required=True, help="folder for the results")
    options.add_argument("--commands", type=int, default=200, help="sent one at a time (default 200)")
    options.add_argument("--burst", type=int, default=200, help="then sent at once (default 200)")
    options.add_argument(
        "--prompt", help="image, .npz or dataset folder (default: a rendered tabletop scene)"
    )
    options.add_argument("--device", default="cpu")
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args(arguments)
    try:
        if args.commands < 1 or args.burst < 0:
            raise ConfigError(f"commands is {args.commands}, burst {args.burst}; wanted 1 or more, 0 or more")
        result = run_round_trip(
            args.model, args.out, args.commands, args.burst, args.prompt, device=args.device, seed=args.seed
        )
    except (GenieError, RoundTripError) as error:
        print(f"demo_round_trip: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, GenieError) else 1
    except KeyboardInterrupt:
        print("demo_round_trip: interrupted", file=sys.stderr)
        return 130
    print(json.dumps(result, indent=2))
    whole = (
        result["in_order"] and result["burst"]["in_order"] and not result["lost"] + result["burst"]["lost"]
    )
    return 0 if whole and result["node_exit_code"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
