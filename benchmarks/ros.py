"""What ROS 2 costs around the model: latency against a bare echo, lost camera images, a soak, a model that is too slow.

    python benchmarks/ros.py --out benchmarks/results/ros_<machine>_<date>.md            # about 20 minutes
    python benchmarks/ros.py --parts latency --rounds 100                                # one part, shorter
    python benchmarks/ros.py --toy                                                       # a minute: the same code

latency: the simulator and two echo nodes run side by side and are asked in turns, one message at a time: a camera image
  until a reset is answered with it, an image in a reset request until it is answered, and a command until its image is
  here. The model's own time is taken out (ImaginedFrameInfo.model_ms). The echoes carry the same messages: one does
  nothing else, one computes for 20 ms before each answer, which is taken out too; caches and processes are then as cold
  as after a model. The target is 1.5 times the echo.
camera: 640x480 at 30 Hz with sensor-data QoS to the simulator and to a bare subscriber, with the Fast DDS profile of
  genie_robot_ros and without it. The target is no image lost with the profile.
soak: 30 Hz camera and 10 Hz commands for --minutes: no command without its frame, at most 20 MB more memory, no queue.
slow: a model of a second a step under a 30 Hz camera and 10 Hz commands, in mode step (a short queue) and in mode realtime:
  services answer within 100 ms, what gives no frame is counted on /diagnostics.

Needs the ROS 2 packages (`make ros`). The processes meet in a random domain on the loopback. 64x64 is the shipped tiny
model; 640x480 is a small network with random weights: its pictures mean nothing, its messages are of full size.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from genie_robot.data.provenance import cpu_name, git_hash

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / "ros2_ws" / "tools"
PROFILE = ROOT / "ros2_ws" / "src" / "genie_robot_ros" / "config" / "fastdds_large_images.xml"
TINY = ROOT / "weights" / "tabletop-tiny"
LARGE_HW = (480, 640)
PARTS = ("latency", "camera", "soak", "slow")
END_S = 30.0
WORK_MS = 20.0  # about a step of the tiny model
QUEUE = 20  # of the slow model


def make_large_world(folder: Path) -> Path:
    """A saved 640x480 model with random weights: 48 tokens a frame."""
    import torch

    from genie_robot.config import (
        DynamicsConfig,
        LatentActionConfig,
        TokenizerConfig,
        TransformerConfig,
        VideoConfig,
        WorldModelConfig,
    )
    from genie_robot.models.world_model import WorldModel

    torch.manual_seed(0)
    small = TransformerConfig(num_layers=1, dim=32, num_heads=2)
    model = WorldModel(
        WorldModelConfig(
            name="benchmark-640x480",
            video=VideoConfig(height=LARGE_HW[0], width=LARGE_HW[1], num_frames=8, rate_hz=5.0),
            tokenizer=TokenizerConfig(
                patch_size=80,
                encoder_transformer=small,
                decoder_transformer=small,
                codebook_size=64,
                code_dim=8,
            ),
            latent_action=LatentActionConfig(
                code_dim=8,
                encoder="conv",
                encoder_transformer=small,
                decoder_transformer=small,
                conv_channels=4,
            ),
            dynamics=DynamicsConfig(transformer=small),
        )
    )
    return model.save(folder)


class Machines:
    """Processes of one measurement: own domain, loopback, with or without the profile for large images."""

    def __init__(self, scratch: Path, with_profile: bool) -> None:
        self._scratch = scratch
        self.environment = {"OMP_NUM_THREADS": "1"} | os.environ
        self.environment |= {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_DOMAIN_ID": str(random.SystemRandom().randrange(1, 102)),
        }
        self.environment.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
        if with_profile:
            self.environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PROFILE)

    @contextmanager
    def simulator(self, model: Path, script: str = "", **parameters: object) -> Iterator[int]:
        """A simulator as a user starts it, or by a script of ros2_ws/tools; its process id."""
        command = [str(TOOLS / script)] if script else ["-m", "genie_robot_ros.simulator_node"]
        settings = {"model_path": model, "maskgit_steps": 2} | parameters
        command += [
            "--ros-args",
            *(w for name, value in settings.items() for w in ("-p", f"{name}:={value}")),
        ]
        with self._process("simulator", command) as process:
            yield process.pid

    @contextmanager
    def echoes(self, height: int, width: int) -> Iterator[None]:
        """The bare echo node, and the one that works, for images of this size."""
        words = [
            "-m",
            "genie_robot_ros.echo_baseline",
            "serve",
            "--height",
            str(height),
            "--width",
            str(width),
        ]
        working = ["--name", "working_echo", "--work-ms", str(WORK_MS)]
        with self._process("echo", words), self._process("working_echo", [*words, *working]):
            yield

    @contextmanager
    def client(self, part: str, hw: tuple[int, int], **options: object) -> Iterator[subprocess.Popen[str]]:
        """A part of ros2_ws/tools/benchmark_client.py; `answer` gives what it measured."""
        words = [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", str(value))]
        command = [str(TOOLS / "benchmark_client.py"), part, "--height", str(hw[0]), "--width", str(hw[1])]
        with self._process(part, [*command, *words], stdout=subprocess.PIPE) as process:
            yield process

    def measure(self, part: str, hw: tuple[int, int], **options: object) -> dict[str, Any]:
        """Run a part to its end."""
        with self.client(part, hw, **options) as process:
            return self.answer(part, process)

    def answer(self, part: str, process: subprocess.Popen[str]) -> dict[str, Any]:
        """The JSON that a part printed; SystemExit with its last line if it failed."""
        text, _ = process.communicate()
        if process.returncode != 0:
            raise SystemExit(
                f"ros.py: {part} failed: {self._last_line(part)}; simulator: {self._last_line('simulator')}"
            )
        return json.loads(text)

    @contextmanager
    def _process(
        self, name: str, arguments: Sequence[str], stdout: int | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        with (self._scratch / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=stdout or log,
                stderr=log,
                env=self.environment,
                text=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _last_line(self, name: str) -> str:
        log = self._scratch / f"{name}.log"
        lines = log.read_text().strip().splitlines() if log.is_file() else []
        return lines[-1] if lines else "it printed nothing"


def measure_latency(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Per image size: simulator and echo in turns."""
    sizes = {"64x64": ((64, 64), TINY, False)}
    if not args.toy:
        sizes["640x480"] = (LARGE_HW, make_large_world(scratch / "large"), True)
    result = {}
    for name, (hw, model, with_profile) in sizes.items():
        machines = Machines(scratch, with_profile)
        with machines.simulator(model), machines.echoes(*hw):
            result[name] = machines.measure("latency", hw, rounds=args.rounds)
    return result


def measure_camera(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Images sent and taken, with the profile and without."""
    result = {}
    for name, with_profile in (("with the profile", True), ("without it", False)):
        machines = Machines(scratch, with_profile)
        options = {"seconds": args.seconds, "camera_hz": 30}
        with (
            machines.simulator(TINY),
            machines.client("listen", LARGE_HW, **options) as listener,
        ):
            sent = machines.measure("camera", LARGE_HW, **options)
            result[name] = sent | machines.answer("listen", listener)
    return result


def measure_soak(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Minutes of camera and commands."""
    machines = Machines(scratch, with_profile=True)
    seconds = 60 * args.minutes
    with machines.simulator(TINY) as pid:
        return machines.measure("soak", LARGE_HW, seconds=seconds, camera_hz=30, command_hz=10, pid=pid)


def measure_slow(scratch: Path, args: argparse.Namespace) -> dict[str, Any]:
    """A second a step, in two modes."""
    modes: dict[str, dict[str, object]] = {
        "step": {"mode": "step", "command_queue_size": QUEUE},
        "realtime": {"mode": "realtime", "rate_hz": 10.0, "late_policy": "drop"},
    }
    result = {}
    for name, parameters in modes.items():
        machines = Machines(scratch, with_profile=False)
        with machines.simulator(TINY, "slow_simulator.py", **parameters):
            options = {"seconds": args.seconds, "camera_hz": 30, "command_hz": 10}
            result[name] = machines.measure("slow", (64, 64), **options)
    return result


def table(result: dict[str, Any]) -> str:
    """Markdown of the numbers."""
    lines = [
        "# ROS 2: round trips, lost messages, memory",
        "",
        f"`{result['command']}`, commit {result['commit']}, {result['cpu']}, {result['cores']} cores, load {result['load']}.",
    ]
    for part, lines_of in _LINES.items():
        if found := result.get(part):
            lines += lines_of(found)
    return "\n".join(lines) + "\n"


def _latency_lines(latency: dict[str, Any]) -> list[str]:
    lines = [
        "",
        "| round trip, without the model: p50 / p99 [ms] | simulator | bare echo | ratio | echo that computes | ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    words = {
        "camera": "camera image to reset answered with it",
        "reset": "image in a reset request to its answer",
        "command": "command to imagined frame",
    }
    for size, row in latency.items():
        for what, text in words.items():
            ours, *echoes = (row[what][name] for name in ("simulator", "echo", "working_echo"))
            cells = [f"{size}: {text}", _pair(ours)]
            for echo in echoes:
                cells += [_pair(echo), _pair({key: ours[key] / echo[key] for key in ("p50_ms", "p99_ms")})]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _camera_lines(camera: dict[str, Any]) -> list[str]:
    lines = ["", "| 640x480 at 30 Hz, sensor-data QoS | sent | lost to the simulator | to a bare node |"]
    lines.append("| --- | --- | --- | --- |")
    for name, row in camera.items():
        lost = [row["sent"] - row[got] for got in ("simulator_got", "listener_got")]
        lines.append(f"| {name} | {row['sent']} | {lost[0]} | {lost[1]} |")
    return lines


def _soak_lines(soak: dict[str, Any]) -> list[str]:
    return [
        "",
        f"| {soak['seconds'] / 60:g} minutes of 30 Hz camera (640x480), 10 Hz commands | |",
        "| --- | --- |",
        f"| images sent, lost | {soak['images']}, {soak['images_lost']} |",
        f"| commands sent, frames, unanswered | {soak['commands']}, {soak['frames']}, {soak['unanswered']} |",
        f"| largest queue | {soak['largest_queue']} |",
        f"| resident memory, after a tenth of the time and at the end [MB] | {soak['memory_first_mb']}, "
        f"{soak['memory_last_mb']} ({soak['growth_mb']:+}) |",
    ]


def _slow_lines(slow: dict[str, Any]) -> list[str]:
    lines = []
    for name, row in slow.items():
        lines += [
            "",
            f"| model of a second a step, mode {name} | p50 / max [ms] | calls |",
            "| --- | --- | --- |",
        ]
        for service, times in row["services"].items():
            lines.append(f"| {service} | {times['p50_ms']:.1f} / {times['max_ms']:.1f} | {times['calls']} |")
        counted = ", ".join(f"{key} {value}" for key, value in row["diagnostics"].items())
        told = ", ".join(
            f"{row[key]} {key}" for key in ("commands", "frames", "rejected", "dropped", "unanswered")
        )
        lines += [
            "",
            f"The sender was told: {told}. /diagnostics: {counted}. Largest queue {row['largest_queue']}; "
            f"camera images lost: {row['images_lost']}.",
        ]
    return lines


_LINES = {"latency": _latency_lines, "camera": _camera_lines, "soak": _soak_lines, "slow": _slow_lines}


def _pair(row: dict[str, float]) -> str:
    return f"{row['p50_ms']:.2f} / {row['p99_ms']:.2f}"


def facts() -> dict[str, Any]:
    """Command, commit, machine."""
    return {
        "command": f"python benchmarks/ros.py {' '.join(sys.argv[1:])}".strip(),
        "commit": git_hash(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load": f"{os.getloadavg()[0]:.1f} at the beginning",
    }


def main() -> int:
    """Measure, print a table, write it if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=500, help="of latency")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--seconds", type=float, default=30.0, help="of camera and slow")
    parser.add_argument("--toy", action="store_true", help="64x64, a few rounds and seconds")
    parser.add_argument("--out", type=Path, help="write the table here, and the numbers beside it as .json")
    args = parser.parse_args()
    if args.toy:
        args.rounds, args.minutes, args.seconds = 5, 0.05, 3.0
    if not (importlib.util.find_spec("rclpy") and importlib.util.find_spec("genie_robot_ros")):
        print("ros.py: the ROS 2 packages are not built in this environment; run: make ros", file=sys.stderr)
        return 1
    result, measures = facts(), (measure_latency, measure_camera, measure_soak, measure_slow)
    chosen = [(part, measure) for part, measure in zip(PARTS, measures, strict=True) if part in args.parts]
    for part, measure in tqdm(chosen, unit="part", disable=None):
        with tempfile.TemporaryDirectory() as scratch:
            result[part] = measure(Path(scratch), args)
    text = table(result)
    print(text)
    if args.out:
        args.out.write_text(text)
        args.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
