"""`genie-robot <command>`: finds the command's module, runs it, and turns errors into one line and an exit code.

A command is a module `genie_robot/cli/<name>.py` with

    add_parser(subparsers) -> None     adds its parser, description and examples; imports nothing heavy
    run(args) -> int                   does the work; heavy imports inside; returns the exit code

Exit codes: 0 ok, 1 failed work, 2 wrong use, 130 interrupted. Only the asked-for command's module is imported, so that
`--help` answers at once and a missing extra stops only the commands that need it.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from genie_robot.errors import GenieError

EXIT_OK, EXIT_FAILED, EXIT_WRONG_USE, EXIT_INTERRUPTED = 0, 1, 2, 130

#: command -> one line for `genie-robot --help`, in the order a newcomer meets them
COMMANDS: dict[str, str] = {
    "demo": "the main job end to end; writes outputs/demo/report.html and report.json",
    "data": "generate or inspect datasets",
    "train": "train a stage: same as `python train.py stage=... data=... model=...`",
    "imagine": "prompt image and a list of actions -> strip PNG, GIF, MP4",
    "label": "latent action of each step of a video or dataset",
    "actions": "grid picture: the same latent action over several prompts, with its measured direction",
    "evaluate": "judge a model, or policies inside a model",
    "ros": "run, record and check the simulator as a ROS 2 node",
    "benchmark": "speed of this machine: generation, training step, loader",
}

#: import name -> extra that brings it, for the one-line answer when it is missing
EXTRAS = {
    "mujoco": "sim",
    "gymnasium": "sim",
    "tensorflow": "data",
    "tensorflow_datasets": "data",
    "rclpy": "ros",
    "rosbags": "formats",
    "pyarrow": "formats",
    "av": "formats",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `genie-robot` with `argv` (default: the process's own) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except GenieError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; what was saved before is kept, the same command goes on from there",
            EXIT_INTERRUPTED,
        )
    except BrokenPipeError:  # `genie-robot ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            traceback.print_exc()
            return EXIT_FAILED
        return _fail(
            f"{error.name} is not installed; install it with: pip install 'genie_robot[{extra}]'",
            EXIT_WRONG_USE,
        )
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED


def _fail(message: str, exit_code: int) -> int:
    one_line = " ".join(message.split())
    print(f"genie-robot: {one_line}", file=sys.stderr)
    return exit_code


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else ""
    if name == "train":  # Hydra owns this command line: its overrides are no argparse options
        return int(importlib.import_module("genie_robot.cli.train").run_overrides(arguments[1:]))
    parser = _parser(name)
    try:
        args = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has already said what was wrong
        return int(stop.code or 0)
    if not name:
        parser.print_help()
        return EXIT_WRONG_USE
    return int(_module(name).run(args))


def _parser(asked: str) -> argparse.ArgumentParser:
    """The parser, with the full sub-parser of `asked` and a one-line stand-in for every other command."""
    parser = argparse.ArgumentParser(
        prog="genie-robot",
        description="Learn a robot simulator from video, act in it, and judge policies in it.",
        epilog="Each command has its own --help with examples. Exit codes: 0 ok, 1 failed work, 2 wrong use.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(dest="command", metavar="command")
    for name, summary in COMMANDS.items():
        if name == asked:
            _module(name).add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary, add_help=False)
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"genie_robot.cli.{name}")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import genie_robot

        print(f"genie-robot {genie_robot.__version__}")
        parser.exit(EXIT_OK)
