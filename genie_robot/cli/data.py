"""`genie-robot data generate | inspect`: make table-top episodes in simulation; see what is in a dataset."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

_EPILOG = """examples:
  genie-robot data generate outputs/tabletop --episodes 400 --seed 0
  genie-robot data inspect outputs/tabletop
  genie-robot data inspect ../shared/data/rt1_rlds --json - --sheet outputs/rt1.png
"""
_GENERATE_EPILOG = """examples:
  genie-robot data generate outputs/tabletop --episodes 400
  genie-robot data generate outputs/tabletop --episodes 40 --val-episodes 4 --test-episodes 4 --frames 25 --overwrite

The result is a TFDS / RLDS dataset with the features of fractal20220817_data (RT-1):
tfds.builder_from_directory(OUT + '/tabletop/1.0.0') reads it. Splits never share a random stream.
"""
_INSPECT_EPILOG = """examples:
  genie-robot data inspect outputs/tabletop
  genie-robot data inspect fractal20220817_data/0.1.0 --split train --episodes 100 --sheet rt1.png
  genie-robot data inspect gs://gresearch/robotics/bridge/0.1.0 --episodes 10     (needs the extra 'data')

PATH is a folder with dataset_info.json, a folder above one, gs://..., or tfds:NAME[:VERSION].
Broken records are passed over, named on stderr and counted; no action is read.
"""


def add_parser(subparsers: Any) -> None:
    """Add `data` with its sub-commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "data", help="generate or inspect datasets", description=__doc__, epilog=_EPILOG, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="data_command", metavar="generate|inspect", required=True)
    generate = commands.add_parser(
        "generate",
        help="simulate table-top episodes and write them as an RLDS dataset",
        description="Simulate table-top episodes (MuJoCo, no screen needed) and write them as an RLDS dataset.",
        epilog=_GENERATE_EPILOG,
        formatter_class=raw,
    )
    generate.add_argument("out", metavar="OUT", help="folder to write tabletop/1.0.0 into")
    generate.add_argument(
        "--episodes", type=int, default=400, metavar="N", help="training episodes (default: 400)"
    )
    generate.add_argument("--val-episodes", type=int, metavar="N", help="default: a twentieth of --episodes")
    generate.add_argument("--test-episodes", type=int, metavar="N", help="default: a twentieth of --episodes")
    generate.add_argument(
        "--frames", type=int, default=25, metavar="T", help="frames per episode (default: 25)"
    )
    generate.add_argument(
        "--mix",
        nargs=3,
        type=float,
        metavar=("PLAY", "PUSH", "LIFT"),
        help="shares of random play and of the two tasks' experts (default: 0.55 0.225 0.225)",
    )
    generate.add_argument("--size", type=int, default=64, metavar="PX", help="height and width (default: 64)")
    generate.add_argument("--seed", type=int, default=0, help="same seed, same dataset (default: 0)")
    generate.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes; 0: one per core (default)"
    )
    generate.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")
    generate.add_argument("--json", metavar="FILE", help="write what was made as JSON (- for the screen)")
    inspect = commands.add_parser(
        "inspect",
        help="table and contact sheet of a dataset",
        description="Count what is in a dataset and draw a contact sheet of it.",
        epilog=_INSPECT_EPILOG,
        formatter_class=raw,
    )
    inspect.add_argument("path", metavar="PATH", help="dataset folder, gs://... or tfds:NAME")
    inspect.add_argument("--split", help="only this split (default: all)")
    inspect.add_argument("--episodes", type=int, metavar="N", help="only the first N episodes of each split")
    inspect.add_argument(
        "--image-key", metavar="KEY", help="camera under steps/observation (default: by dataset)"
    )
    inspect.add_argument(
        "--rate-hz", type=float, metavar="HZ", help="control rate, where the dataset does not say it"
    )
    inspect.add_argument(
        "--sheet", metavar="FILE", help="contact sheet PNG (default: outputs/inspect/NAME.png)"
    )
    inspect.add_argument("--json", metavar="FILE", help="write the numbers as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit code."""
    return _generate(args) if args.data_command == "generate" else _inspect(args)


def _generate(args: argparse.Namespace) -> int:
    from genie_robot.data.rlds import open_dataset
    from genie_robot.simulation.mujoco.generate import generate_dataset

    held_out = max(1, args.episodes // 20)
    folder = generate_dataset(
        args.out,
        args.episodes,
        held_out if args.val_episodes is None else args.val_episodes,
        held_out if args.test_episodes is None else args.test_episodes,
        frames_per_episode=args.frames,
        seed=args.seed,
        workers=args.workers,
        mix=dict(zip(("play", "push", "lift"), args.mix, strict=True)) if args.mix else None,
        image_size=args.size,
        overwrite=args.overwrite,
    )
    dataset = open_dataset(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    _say(
        args.json,
        f"wrote {folder}: {dataset.splits} episodes, {size / 1e6:.1f} MB; look: genie-robot data inspect {folder}",
    )
    _write_json(args.json, {"path": str(folder), "splits": dataset.splits, "bytes": size, "seed": args.seed})
    return 0


def _inspect(args: argparse.Namespace) -> int:
    import cv2

    from genie_robot.data.summary import contact_sheet, inspect_dataset
    from genie_robot.errors import ConfigError

    if args.episodes is not None and args.episodes < 1:
        raise ConfigError(f"--episodes is {args.episodes}; wanted at least 1")
    if args.rate_hz is not None and not args.rate_hz > 0:
        raise ConfigError(f"--rate-hz is {args.rate_hz}; wanted a number above 0")
    sheet = Path(args.sheet) if args.sheet else None
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise ConfigError(f"--sheet is {sheet}; wanted a file name that ends in .png")
    summary = inspect_dataset(
        args.path, args.split, args.episodes, image_key=args.image_key, rate_hz=args.rate_hz
    )
    content = summary.as_dict()
    sheet = sheet or Path("outputs/inspect") / f"{summary.name}-{summary.version}.png"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", contact_sheet(summary.rows)[..., ::-1])[1]
    sheet.write_bytes(encoded.tobytes())
    _say(args.json, _table(content) + f"\ncontact sheet: {sheet}")
    _write_json(args.json, {**content, "contact_sheet": str(sheet)})
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
            f"motion: a step changes a pixel by {content['mean_step_change']:.2f} of 255 on average; {still:.0f} % are still"
        )
    instructions = {text for part in content["splits"].values() for text in part["instructions"] if text}
    lines.append("instructions: " + ("; ".join(sorted(instructions)[:6]) or "none"))
    return "\n".join(lines)


def _say(json_path: str | None, text: str) -> None:
    if json_path != "-":  # the screen is for the JSON alone, so that it can be piped
        print(text)


def _write_json(json_path: str | None, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if json_path == "-":
        print(text)
    elif json_path:
        Path(json_path).parent.mkdir(parents=True, exist_ok=True)
        Path(json_path).write_text(text + "\n", encoding="utf-8")
