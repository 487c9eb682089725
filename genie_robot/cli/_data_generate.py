"""`genie-robot data generate`: simulated episodes as RLDS datasets."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from genie_robot.cli._data_output import say, write_json
from genie_robot.errors import ConfigError

_EPILOG = """examples:
  genie-robot data generate outputs/tabletop --episodes 400
  genie-robot data generate outputs/sim --task pick_place --episodes 1000
  genie-robot data generate outputs/sim --task all --control free --look strong --size 96x128
  genie-robot data generate outputs/sim --task push --mix expert=.5 failing=.5 --frames 65
  genie-robot data generate outputs/ur5e --task drawer --robot ur5e       (needs the extra 'robots')

The result is a TFDS / RLDS dataset with the features of fractal20220817_data (RT-1):
tfds.builder_from_directory(OUT + '/tabletop_reach/1.0.0') reads it. Splits never share a random stream. With
--task all, tasks that are there already are kept, so that an interrupted run goes on. Data cards: datasets/.
"""
_TASKS = ("tabletop", "reach", "push", "pick_lift", "drawer", "pick_place", "play", "all")
_TABLETOP_MIX = ("play", "push", "lift")
_OTHER_TASKS_ONLY = ("control", "look", "robot")


def add_parser(commands: Any) -> None:
    """Add `generate`."""
    parser = commands.add_parser(
        "generate",
        help="simulate table-top episodes and write them as RLDS datasets",
        description="Simulate table-top episodes (MuJoCo, no screen needed) and write them as RLDS datasets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", metavar="OUT", help="folder to write <dataset>/1.0.0 into")
    parser.add_argument(
        "--task",
        choices=_TASKS,
        default="tabletop",
        help="tabletop: the small push-and-lift dataset (default); play: random play in all scenes; all: five tasks",
    )
    parser.add_argument(
        "--episodes", type=int, default=400, metavar="N", help="training episodes (default: 400)"
    )
    parser.add_argument("--val-episodes", type=int, metavar="N", help="default: a twentieth of --episodes")
    parser.add_argument("--test-episodes", type=int, metavar="N", help="default: a twentieth of --episodes")
    parser.add_argument(
        "--frames", type=int, metavar="T", help="frames per episode (default: tabletop 25, else 51)"
    )
    parser.add_argument(
        "--mix",
        nargs="+",
        metavar="NAME=SHARE",
        help="share of behaviours (default: expert=.3 noisy=.2 random=.1 failing=.4); "
        "tabletop: three numbers PLAY PUSH LIFT (default: 0.55 0.225 0.225)",
    )
    parser.add_argument(
        "--control", choices=("keyboard", "free"), help="one key of eight a step (default), or free motion"
    )
    parser.add_argument(
        "--look", choices=("none", "default", "strong"), help="randomisation of colours, light, camera"
    )
    parser.add_argument("--robot", help="primitive (default) or ur5e")
    parser.add_argument("--size", default="64", metavar="PX|HxW", help="height and width (default: 64)")
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

    made = []
    for folder in _make_tabletop(args) if args.task == "tabletop" else _make_tasks(args):
        splits = open_dataset(folder).splits
        size = sum(path.stat().st_size for path in folder.iterdir())
        say(
            args.json,
            f"wrote {folder}: {splits} episodes, {size / 1e6:.1f} MB; look: genie-robot data inspect {folder}",
        )
        made.append({"path": str(folder), "splits": splits, "bytes": size, "seed": args.seed})
    write_json(args.json, {"datasets": made} if args.task == "all" else made[0])
    return 0


def _make_tabletop(args: argparse.Namespace) -> Any:
    from genie_robot.simulation.mujoco.generate import FRAMES_PER_EPISODE, generate_dataset

    for name in _OTHER_TASKS_ONLY:
        if getattr(args, name) is not None:
            raise ConfigError(
                f"got --{name} for the dataset tabletop, which has no choice; wanted --task as well"
            )
    height, width = parse_size(args.size)
    if height != width:
        raise ConfigError(f"--size is {args.size}; wanted a square for the dataset tabletop")
    yield generate_dataset(
        args.out,
        *_counts(args),
        frames_per_episode=FRAMES_PER_EPISODE if args.frames is None else args.frames,
        seed=args.seed,
        workers=args.workers,
        mix=_numbers(args.mix),
        image_size=height,
        overwrite=args.overwrite,
    )


def _make_tasks(args: argparse.Namespace) -> Any:
    from genie_robot.simulation.mujoco.manipulation.generate import Recipe, generate_dataset
    from genie_robot.simulation.mujoco.manipulation.tasks import TASKS

    given = {
        "mix": parse_mix(args.mix) if args.mix else None,
        "frames": args.frames,
        "control": args.control,
        "look": args.look,
        "robot": args.robot,
    }
    options = {name: value for name, value in given.items() if value is not None}
    recipes = [
        Recipe(task, image_hw=parse_size(args.size), **options)
        for task in (TASKS if args.task == "all" else (args.task,))
    ]
    for recipe in recipes:
        yield generate_dataset(
            recipe,
            args.out,
            *_counts(args),
            seed=args.seed,
            workers=args.workers,
            overwrite=args.overwrite,
        )


def _counts(args: argparse.Namespace) -> tuple[int, int, int]:
    held_out = max(1, args.episodes // 20)
    val = held_out if args.val_episodes is None else args.val_episodes
    return args.episodes, val, held_out if args.test_episodes is None else args.test_episodes


def _numbers(mix: Sequence[str] | None) -> dict[str, float] | None:
    """Return the shares of the tabletop dataset from three numbers."""
    if mix is None:
        return None
    try:
        return dict(zip(_TABLETOP_MIX, (float(share) for share in mix), strict=True))
    except ValueError as error:
        raise ConfigError(
            f"--mix is {' '.join(mix)}; wanted three numbers PLAY PUSH LIFT for the dataset tabletop"
        ) from error


def parse_mix(parts: Sequence[str]) -> dict[str, float]:
    """Return shares by behaviour from parts such as "expert=.3"; ConfigError for other text."""
    mix: dict[str, float] = {}
    for part in parts:
        name, _, share = part.partition("=")
        try:
            mix[name] = float(share)
        except ValueError as error:
            raise ConfigError(f"--mix has {part!r}; wanted NAME=SHARE such as failing=.4") from error
    return mix


def parse_size(text: str) -> tuple[int, int]:
    """Return (height, width) from "64" or "96x128"; ConfigError for other text."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if match is None:
        raise ConfigError(f"--size is {text!r}; wanted pixels such as 64 or, height first, 96x128")
    return int(match[1]), int(match[2] or match[1])
