"""`genie-robot data generate`: simulated episodes as an RLDS dataset."""

from __future__ import annotations

import argparse
from typing import Any

from genie_robot.cli._data_output import say, write_json

_EPILOG = """examples:
  genie-robot data generate outputs/tabletop --episodes 400
  genie-robot data generate outputs/tabletop --episodes 40 --val-episodes 4 --test-episodes 4 --frames 25 --overwrite

The result is a TFDS / RLDS dataset with the features of fractal20220817_data (RT-1):
tfds.builder_from_directory(OUT + '/tabletop/1.0.0') reads it. Splits never share a random stream.
"""


def add_parser(commands: Any) -> None:
    """Add `generate`."""
    parser = commands.add_parser(
        "generate",
        help="simulate table-top episodes and write them as an RLDS dataset",
        description="Simulate table-top episodes (MuJoCo, no screen needed) and write them as an RLDS dataset.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", metavar="OUT", help="folder to write tabletop/1.0.0 into")
    parser.add_argument(
        "--episodes", type=int, default=400, metavar="N", help="training episodes (default: 400)"
    )
    parser.add_argument("--val-episodes", type=int, metavar="N", help="default: a twentieth of --episodes")
    parser.add_argument("--test-episodes", type=int, metavar="N", help="default: a twentieth of --episodes")
    parser.add_argument(
        "--frames", type=int, default=25, metavar="T", help="frames per episode (default: 25)"
    )
    parser.add_argument(
        "--mix",
        nargs=3,
        type=float,
        metavar=("PLAY", "PUSH", "LIFT"),
        help="shares of random play and of the two tasks' experts (default: 0.55 0.225 0.225)",
    )
    parser.add_argument("--size", type=int, default=64, metavar="PX", help="height and width (default: 64)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same dataset (default: 0)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes; 0: one per core (default)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")
    parser.add_argument("--json", metavar="FILE", help="write what was made as JSON (- for the screen)")
    parser.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> int:
    """Simulate and write; returns the exit code."""
    from genie_robot.data.open import open_dataset
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
    say(
        args.json,
        f"wrote {folder}: {dataset.splits} episodes, {size / 1e6:.1f} MB; look: genie-robot data inspect {folder}",
    )
    write_json(args.json, {"path": str(folder), "splits": dataset.splits, "bytes": size, "seed": args.seed})
    return 0
