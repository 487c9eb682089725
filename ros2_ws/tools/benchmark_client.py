"""The other side of `benchmarks/ros.py`: drives a running simulator over DDS and prints what it measured as JSON.

Started by that script, which also starts the simulator and sets the environment; each part is one process.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from benchmark_nodes import MEASURED, PATIENCE_S, SIMULATOR, Client, Load, Partner, noise_image
from genie_robot_interfaces.srv import GetCodebook, Reset
from genie_robot_ros import convert
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

ECHOES = ("echo", "working_echo")
SILENCE_S = 5.0  # a camera that was silent for so long has ended


def percentiles(values_ms: list[float]) -> dict[str, float]:
    """p50, p99 and the number of values."""
    p50, p99 = (round(float(np.percentile(values_ms, q)), 3) for q in (50, 99))
    return {"p50_ms": p50, "p99_ms": p99, "rounds": len(values_ms)}


def latency(args: argparse.Namespace) -> dict[str, Any]:
    """Simulator and echoes in turns, one message at a time."""
    client = Client("benchmark_client")
    partners = {"simulator": Partner(client, "", f"{SIMULATOR}/reset", is_echo=False)}
    partners |= {name: Partner(client, f"{name}/", f"{name}/reset", is_echo=True) for name in ECHOES}
    image = noise_image(args.height, args.width)
    for partner in partners.values():
        partner.wait(image)
    times_ms: dict[str, dict[str, list[float]]] = {name: {} for name in partners}
    gc.collect()
    gc.freeze()
    for k in range(args.rounds + args.warm_up):
        for name, partner in partners.items():
            passed_ms = {
                "camera": partner.camera_ms(image),
                "reset": partner.reset_ms(image),
                "command": partner.command_ms(k % 8),
            }
            if k >= args.warm_up:
                for what, ms in passed_ms.items():
                    times_ms[name].setdefault(what, []).append(ms)
    result: dict[str, Any] = {
        what: {name: percentiles(times_ms[name][what]) for name in partners} for what in times_ms["simulator"]
    }
    for times in times_ms.values():
        times |= {what: [round(ms, 3) for ms in values] for what, values in times.items()}
    return result | {"times_ms": times_ms}


def camera(args: argparse.Namespace) -> dict[str, Any]:
    """Best-effort camera images to the simulator: how many arrive."""
    load = Load(noise_image(args.height, args.width))
    load.begin()
    load.run(args.seconds, args.camera_hz, 0.0)
    return {"sent": load.images_sent, "simulator_got": load.camera_frames()}


def listen(args: argparse.Namespace) -> dict[str, Any]:
    """A bare subscriber of the camera with sensor-data QoS; ends when the camera falls silent."""
    client = Client("benchmark_listener")
    stamps: set[int] = set()
    last_s = time.monotonic()

    def take(msg: Image) -> None:
        nonlocal last_s
        last_s = time.monotonic()
        if msg.header.frame_id == MEASURED:
            stamps.add(convert.stamp_to_ns(msg.header.stamp))

    client.create_subscription(Image, "image_raw", take, qos_profile_sensor_data)
    client.spin_until(lambda: stamps, "the camera")
    client.spin_until(lambda: time.monotonic() - last_s > SILENCE_S, "its end", args.seconds + PATIENCE_S)
    return {"listener_got": len(stamps)}


def soak(args: argparse.Namespace) -> dict[str, Any]:
    """Camera and commands for minutes: what is lost, and what grows."""
    load = Load(noise_image(args.height, args.width))
    load.begin()
    memory_mb: list[float] = []
    load.create_timer(1.0, lambda: memory_mb.append(resident_mb(args.pid)))
    load.run(args.seconds, args.camera_hz, args.command_hz)
    answers = load.answers()
    warm = max(1, len(memory_mb) // 10)
    first, last = statistics.median(memory_mb[warm : 2 * warm + 1]), statistics.median(memory_mb[-warm:])
    return {
        "seconds": args.seconds,
        "images": load.images_sent,
        "images_lost": load.images_sent - load.camera_frames(),
        **answers,
        "images_of_frames": load.frames_received - 1,  # one is the prompt
        "largest_queue": load.largest_queue,
        "memory_first_mb": round(first, 1),
        "memory_last_mb": round(last, 1),
        "growth_mb": round(last - first, 1),
        "memory_mb": [round(value, 1) for value in memory_mb],
    }


def slow(args: argparse.Namespace) -> dict[str, Any]:
    """A model that takes a second a step, under load: how long services take to answer, and what is counted."""
    load = Load(noise_image(args.height, args.width))
    load.begin()
    probes = {
        "get_codebook": (load.create_client(GetCodebook, f"{SIMULATOR}/get_codebook"), GetCodebook.Request()),
        "get_parameters": (
            load.create_client(GetParameters, f"{SIMULATOR}/get_parameters"),
            GetParameters.Request(names=["mode"]),
        ),
        "get_state": (load.create_client(GetState, f"{SIMULATOR}/get_state"), GetState.Request()),
        "reset": (load.reset, Reset.Request(seed=0, use_latest_frames=True)),
    }
    times_ms: dict[str, list[float]] = {name: [] for name in probes}
    asked: list[str] = []
    resets_s: list[float] = []

    def probe() -> None:
        # a reset every eighth time: it clears the queue, and waits for the step that runs
        name = "reset" if len(asked) % 8 == 7 else list(probes)[len(asked) % 3]
        asked.append(name)
        client, request = probes[name]
        began_s = time.perf_counter()
        if name == "reset":
            resets_s.append(began_s)
        client.call_async(request).add_done_callback(
            lambda _: times_ms[name].append(1e3 * (time.perf_counter() - began_s))
        )

    for client, _ in probes.values():
        load.spin_until(client.service_is_ready, client.srv_name)
    timer = load.create_timer(0.25, probe)
    load.run(args.seconds, args.camera_hz, args.command_hz)
    load.destroy_timer(timer)
    load.spin_until(lambda: sum(map(len, times_ms.values())) == len(asked), "answers")
    counts = ("queue", "commands_rejected", "commands_dropped", "ticks_late", "ticks_dropped", "frames")
    answers, images_lost = load.answers(), load.images_sent - load.camera_frames()
    # a reset is taken at once, and the commands that wait come back; its answer waits for the step that runs
    for began_s, passed_ms in zip(resets_s, times_ms["reset"], strict=True):
        passed = [1e3 * (when_s - began_s) for when_s in load.given_back_s]
        times_ms.setdefault("reset accepted", []).extend([ms for ms in passed if 0 < ms < passed_ms][:1])
    return {
        "services": {
            name: {
                "p50_ms": round(statistics.median(times), 2),
                "max_ms": round(max(times), 2),
                "calls": len(times),
            }
            for name, times in times_ms.items()
            if times
        },
        **answers,
        "images_lost": images_lost,
        "largest_queue": load.largest_queue,
        "diagnostics": {name: load.diagnostics[name] for name in counts},
    }


def resident_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")


PARTS = {"latency": latency, "camera": camera, "listen": listen, "soak": soak, "slow": slow}


def main() -> int:
    """Print the JSON of one part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--height", type=int, default=64, help="of the camera")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--camera-hz", type=float, default=30.0)
    parser.add_argument("--command-hz", type=float, default=10.0)
    parser.add_argument("--pid", type=int, default=0, help="of the simulator, for its memory")
    args = parser.parse_args()
    rclpy.init()
    try:
        print(json.dumps(PARTS[args.part](args)))
    except (TimeoutError, ProcessLookupError) as error:
        print(f"benchmark_client {args.part}: {error}", file=sys.stderr)
        return 1
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
