"""`genie-robot data inspect`: table and contact sheet of a dataset."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genie_robot.cli._data_list import describe
from genie_robot.cli._data_output import say, write_json

_EPILOG = """examples:
  genie-robot data inspect outputs/tabletop
  genie-robot data inspect fractal20220817_data/0.1.0 --split train --episodes 100 --sheet rt1.png
  genie-robot data inspect bridge_dataset --root /data/oxe                        a registered name
  genie-robot data inspect recordings/kitchen --image-key /camera/image_raw       ROS bags, LeRobot folders too
  genie-robot data inspect gs://gresearch/robotics/bridge/0.1.0 --episodes 10     (needs the extra 'data')

PATH is a folder with dataset_info.json, a folder above one, ROS bags, a LeRobot folder, gs://..., tfds:NAME[:VERSION],
or a registered name; of a name without files on this machine, only what the registry knows is shown.
Broken records are passed over, named on stderr and counted; no action is read.
"""


def add_parser(commands: Any) -> None:
    """Add `inspect`."""
    parser = commands.add_parser(
        "inspect",
        help="table and contact sheet of a dataset",
        description="Count what is in a dataset and draw a contact sheet of it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="dataset folder, registered name, gs://... or tfds:NAME")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="where names are searched first (then $GENIE_ROBOT_DATA, $TFDS_DATA_DIR, ~/tensorflow_datasets)",
    )
    parser.add_argument("--split", help="only this split (default: all)")
    parser.add_argument("--episodes", type=int, metavar="N", help="only the first N episodes of each split")
    parser.add_argument("--image-key", metavar="KEY", help="camera to look through (default: by dataset)")
    parser.add_argument(
        "--rate-hz", type=float, metavar="HZ", help="control rate, where the dataset does not say it"
    )
    parser.add_argument(
        "--sheet", metavar="FILE", help="contact sheet PNG (default: outputs/inspect/NAME.png)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON (- for the screen)")
    parser.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> int:
    """Read, print and draw; returns the exit code."""
    import cv2

    from genie_robot.data.locate import facts_without_files
    from genie_robot.data.registry import FACTS
    from genie_robot.data.summary import contact_sheet, inspect_dataset
    from genie_robot.errors import ConfigError

    if args.episodes is not None and args.episodes < 1:
        raise ConfigError(f"--episodes is {args.episodes}; wanted at least 1")
    if args.rate_hz is not None and not args.rate_hz > 0:
        raise ConfigError(f"--rate-hz is {args.rate_hz}; wanted a number above 0")
    sheet = Path(args.sheet) if args.sheet else None
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ConfigError(f"--sheet is {sheet}; wanted a file name that ends in .png")
    facts = facts_without_files(args.path, args.root)
    if facts is not None:
        say(
            args.json,
            f"{describe(facts)}\n  here       no files of it: `genie-robot data fetch {facts.name}`",
        )
        write_json(args.json, {"registry": asdict(facts), "episodes": 0})
        return 0
    summary = inspect_dataset(
        args.path, args.split, args.episodes, image_key=args.image_key, rate_hz=args.rate_hz, root=args.root
    )
    content = summary.as_dict()
    sheet = sheet or Path("outputs/inspect") / f"{summary.name}-{summary.version}.png"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", contact_sheet(summary.rows)[..., ::-1])[1]
    sheet.write_bytes(encoded.tobytes())
    known = f"registry: {describe(FACTS[summary.name])}\n" if summary.name in FACTS else ""
    say(args.json, f"{_table(content)}\n{known}contact sheet: {sheet}")
    write_json(args.json, {**content, "contact_sheet": str(sheet)})
    return 0


def _table(content: dict[str, Any]) -> str:
    """The numbers as text for a person."""
    sizes = ", ".join(f"{height}x{width}" for height, width in content["sizes"]) or "no frames"
    lines = [
        f"{content['name']} {content['version']}: frames of {sizes} (height x width) at {content['rate_hz']:g} Hz",
        f"{'split':<12}{'episodes':>10}{'frames':>10}{'min':>7}{'median':>8}{'max':>7}{'bad records':>13}",
    ]
    for name, part in [*content["splits"].items(), ("all", content)]:
        spread = part["frames_per_episode"] or {"min": 0, "median": 0, "max": 0}
        lines.append(
            f"{name:<12}{part['episodes']:>10}{part['frames']:>10}{spread['min']:>7}{spread['median']:>8g}"
            f"{spread['max']:>7}{part['bad_records']:>13}"
        )
    if content["mean_step_change"] is not None:
        still = 100 * content["still_steps"]
        lines.append(
            f"motion: a step changes a pixel by {content['mean_step_change']:.2f} of 255 on average; {still:.0f} % are still; "
            f"{content['cuts']} cut(s), {content['black_frames']} black frame(s)"
        )
    lines += [_camera_line(camera) for camera in content["cameras"]]
    lines.append(f"actions: {content['actions']}")
    instructions = {text for part in content["splits"].values() for text in part["instructions"] if text}
    lines.append("instructions: " + ("; ".join(sorted(instructions)[:6]) or "none"))
    return "\n".join(lines)


def _camera_line(camera: dict[str, Any]) -> str:
    size = f"{camera['height']}x{camera['width']}" if camera["height"] else "no frames"
    role = f" {camera['role']}" if camera["role"] else ""
    notes = f"{', black' if camera['black'] else ''}{' <- used' if camera['used'] else ''}"
    return f"camera {camera['key']}: {size}{role}{notes}"
