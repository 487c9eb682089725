"""Drive a running simulator over DDS and measure it: order, losses, latency. Writes JSON and a contact sheet.

$ python -m genie_robot_ros.round_trip --prompt frame.png --commands 200 --out outputs/round_trip

Each code gets its share of the commands, every share from the same prompt and seed, one command at a time (latency);
then a burst is sent without waiting (order and losses).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from genie_robot_interfaces.msg import ImaginedFrameInfo
from genie_robot_interfaces.srv import GetCodebook
from rclpy.executors import ExternalShutdownException
from rclpy.utilities import remove_ros_args

from genie_robot.errors import DataError, DatasetNotFoundError, GenieError, ImageError
from genie_robot_ros import convert
from genie_robot_ros.client import ClientError, Command, SimulatorClient, names_by_code

SHEET_STEPS = (0, 1, 2, 3, 4, 6, 8)
COMMAND_TIMEOUT_S = 20.0
LINGER_S = 0.3


@dataclass
class Tally:
    """Commands, and the commands that frames came back for, in order of arrival."""

    commands: list[Command] = field(default_factory=list)
    answered_ns: list[int] = field(default_factory=list)
    wrong_images: int = 0

    def summary(self) -> dict[str, Any]:
        """commands, frames, in_order, lost, duplicated, rejected."""
        sent_ns = [command.stamp_ns for command in self.commands]
        return {
            "commands": len(sent_ns),
            "frames": len(self.answered_ns),
            "in_order": self.answered_ns == sorted(self.answered_ns) and self.wrong_images == 0,
            "lost": len(set(sent_ns) - set(self.answered_ns)),
            "duplicated": len(self.answered_ns) - len(set(self.answered_ns)),
            "rejected": sum(command.rejected is not None for command in self.commands),
        }


def collect(
    client: SimulatorClient,
    commands: Sequence[Command],
    prompt_ns: int,
    dt_ns: int,
    tally: Tally,
    linger_s: float = 0.0,
) -> list:
    """Wait for the frames of `commands`, the first of which follows `prompt_ns`; returns the frames in order.

    Each frame is an image and an info with the same header. The info names the command; the image's stamp must
    be the next one, prompt + k * dt. What comes in the `linger_s` after the last one would be a frame too many; with
    one command at a time it would show at the next command.
    """
    received = client.received
    waiting = {command.stamp_ns: command for command in commands}

    def all_there() -> bool:
        infos = [info for info in received.infos if convert.stamp_to_ns(info.command_stamp) in waiting]
        frames = sum(info.status == ImaginedFrameInfo.STATUS_FRAME for info in infos)
        return len(infos) >= len(waiting) and len(received.images) >= frames

    with contextlib.suppress(ClientError):  # what is missing is counted below
        client.spin_until(all_there, COMMAND_TIMEOUT_S + 0.5 * len(commands), "imagined frames")
    with contextlib.suppress(ClientError):
        client.spin_until(lambda: False, linger_s, "nothing more")
    tally.commands += commands
    images = {stamp_ns: (arrival_s, msg) for arrival_s, stamp_ns, msg in received.images}
    tally.wrong_images += sum(
        stamp_ns != prompt_ns + (k + 1) * dt_ns for k, (_, stamp_ns, _) in enumerate(received.images)
    )
    frames = []
    for info in received.infos:
        command = waiting.get(convert.stamp_to_ns(info.command_stamp))
        if command is None:
            continue
        if info.status == ImaginedFrameInfo.STATUS_REJECTED:
            command.rejected = info.message
        elif (
            image := images.get(convert.stamp_to_ns(info.header.stamp))
        ) is not None and info.code == command.code:
            tally.answered_ns.append(command.stamp_ns)
            command.round_trip_ms = 1e3 * (image[0] - command.sent_s)
            command.model_ms, command.queue_ms = info.model_ms, info.queue_ms
            frames.append(convert.image_to_frame(image[1]))
    return frames


def clear(client: SimulatorClient) -> None:
    """Forget what arrived; the frame of the last reset may still be under way, so wait for it."""
    client.spin_until(
        lambda: any(info.sequence == 0 for info in client.received.infos) and bool(client.received.images),
        COMMAND_TIMEOUT_S,
        "the prompt frame",
    )
    client.received.images.clear()
    client.received.infos.clear()


def measure(
    client: SimulatorClient,
    codebook: GetCodebook.Response,
    prompt_TYXC: Sequence[np.ndarray],
    commands: int,
    burst: int,
    seed: int,
) -> tuple[dict[str, Any], list[tuple[str, list[np.ndarray]]]]:
    """Run all commands -> (figures, a row of frames for each code)."""
    dt_ns = round(round(codebook.dt_s, 6) * 1e9)
    names = names_by_code(codebook.entries)
    codes = sorted(names)
    singles, bursts = Tally(), Tally()
    rows = []
    for position, code in enumerate(codes):
        share = commands // len(codes) + (position < commands % len(codes))
        prompt_YXC, prompt_ns = client.reset_from_camera(prompt_TYXC, codebook.dt_s, seed)
        clear(client)
        row = [prompt_YXC]
        for k in range(share):
            sent = client.send(code)
            row += collect(client, [sent], prompt_ns + k * dt_ns, dt_ns, singles)
            client.received.images.clear()
            client.received.infos.clear()
        rows.append((f"{code} {names[code]}", row))
    if burst:
        _, prompt_ns = client.reset_from_camera(prompt_TYXC, codebook.dt_s, seed)
        clear(client)
        sent = [client.send(codes[k % len(codes)]) for k in range(burst)]
        collect(client, sent, prompt_ns, dt_ns, bursts, linger_s=LINGER_S)
    return _figures(singles, bursts, codebook), rows


def _figures(singles: Tally, bursts: Tally, codebook: GetCodebook.Response) -> dict[str, Any]:
    answered = [command for command in singles.commands if command.round_trip_ms is not None]
    result: dict[str, Any] = singles.summary()
    for name, values in (
        ("round_trip", [command.round_trip_ms for command in answered]),
        ("model", [command.model_ms for command in answered]),
        ("overhead", [command.overhead_ms for command in answered]),
    ):
        for q in (50, 99):
            result[f"{name}_p{q}_ms"] = round(float(np.percentile(values, q)), 3) if values else None
    result["overhead_max_ms"] = round(max(c.overhead_ms or 0 for c in answered), 3) if answered else None
    result["burst"] = bursts.summary()
    result["model"], result["model_hash"] = codebook.model, codebook.model_hash
    return result


def contact_sheet(
    rows: Sequence[tuple[str, list[np.ndarray]]], steps: Sequence[int] = SHEET_STEPS
) -> np.ndarray:
    """One row a code: the prompt and the frames after so many steps -> RGB uint8."""
    tile, label_width, header_height, gap = 96, 120, 22, 3
    steps = [step for step in steps if step < max(len(frames) for _, frames in rows)]
    height = header_height + len(rows) * (tile + gap)
    width = label_width + len(steps) * (tile + gap)
    sheet = np.full((height, width, 3), 255, np.uint8)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (30, 30, 30), 1, cv2.LINE_AA)

    for column, step in enumerate(steps):
        x = label_width + column * (tile + gap)
        write("prompt" if step == 0 else f"+{step}", x + 4, 15)
        for row, (_, frames) in enumerate(rows):
            if step < len(frames):
                y = header_height + row * (tile + gap)
                big = cv2.resize(frames[step], (tile, tile), interpolation=cv2.INTER_NEAREST)
                sheet[y : y + tile, x : x + tile] = big
    for row, (name, _) in enumerate(rows):
        write(name, 6, header_height + row * (tile + gap) + tile // 2)
    return sheet


def read_prompt(path: Path, max_frames: int = 4) -> list[np.ndarray]:
    """Frames (RGB uint8) from an image file, an .npz with a uint8 (..., Y, X, 3) array, or an RLDS dataset folder."""
    if path.is_dir():
        from genie_robot.data.open import open_dataset

        dataset = open_dataset(path)
        episode = next(iter(dataset.episodes(next(iter(dataset.splits)))))
        return list(episode.frames_TYXC[:max_frames])
    if not path.is_file():
        raise DatasetNotFoundError(
            f"prompt {path} does not exist; give a PNG, JPEG, .npz or a dataset folder"
        )
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            for name in arrays.files:
                array = arrays[name]
                if array.dtype == np.uint8 and array.ndim >= 3 and array.shape[-1] == 3:
                    return list(array.reshape(-1, *array.shape[-3:])[:max_frames])
        raise DataError(f"{path} holds no uint8 array (..., height, width, 3); give another prompt")
    frame_bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if frame_bgr is None:
        raise ImageError(f"{path} cannot be read as an image; give a PNG, JPEG, .npz or a dataset folder")
    return [cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB)]


def parser() -> argparse.ArgumentParser:
    """Command line."""
    options = argparse.ArgumentParser(prog="round_trip", description=(__doc__ or "").splitlines()[0])
    options.add_argument("--prompt", type=Path, required=True, help="PNG, JPEG, .npz or RLDS dataset folder")
    options.add_argument("--commands", type=int, default=200, help="sent one at a time (default 200)")
    options.add_argument(
        "--burst", type=int, default=200, help="then sent at once (default 200; 0: no burst)"
    )
    options.add_argument("--seed", type=int, default=0, help="seed of the imagination")
    options.add_argument(
        "--out", type=Path, default=Path("outputs/round_trip"), help="folder for the results"
    )
    options.add_argument("--wait", type=float, default=60.0, help="seconds to wait for the simulator")
    return options


def _drive(args: argparse.Namespace, frames: Sequence[np.ndarray], arguments: list[str]) -> tuple:
    rclpy.init(args=arguments)
    client = SimulatorClient()
    try:
        codebook = client.wait_for_simulator(args.wait)
        gc.freeze()  # the collector's pauses in this process are no part of the round trip
        return measure(client, codebook, frames, args.commands, args.burst, args.seed)
    finally:
        client.close()
        rclpy.try_shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Console script `round_trip`; exit code 1 if a frame was lost, doubled or out of order."""
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parser().parse_args(remove_ros_args(["round_trip", *arguments])[1:])
    if args.commands < 1 or args.burst < 0:
        print("round_trip: --commands must be 1 or more and --burst 0 or more", file=sys.stderr)
        return 2
    try:
        frames = read_prompt(args.prompt)
        args.out.mkdir(parents=True, exist_ok=True)
        result, rows = _drive(args, frames, arguments)
    except (GenieError, ClientError) as error:
        print(f"round_trip: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, GenieError) else 1
    except (KeyboardInterrupt, ExternalShutdownException):
        print("round_trip: interrupted", file=sys.stderr)
        return 130
    sheet = args.out / "contact_sheet.png"
    cv2.imwrite(str(sheet), cv2.cvtColor(contact_sheet(rows), cv2.COLOR_RGB2BGR))
    result["contact_sheet"] = str(sheet)
    (args.out / "round_trip.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    faults = (result["lost"], result["duplicated"], result["burst"]["lost"], result["burst"]["duplicated"])
    return 0 if not any(faults) and result["in_order"] and result["burst"]["in_order"] else 1


if __name__ == "__main__":
    sys.exit(main())
