"""`genie-robot evaluate model | policies | ...`: judge a world model, or policies inside it and in MuJoCo."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType
from typing import Any

#: sub-command -> one line of help. Its module genie_robot/cli/_evaluate_<name>.py has EPILOG, add_<name>_parser(parser)
#: and run_<name>(args) -> exit code, and imports nothing heavy.
COMMANDS = {
    "model": "numbers of a world model",
    "policies": "policies in imagination and MuJoCo",
    "cloning": "policies cloned from video, in MuJoCo",
    "interfaces": "what an action interface keeps of robot actions, by number of labelled transitions",
}
_EPILOG = """examples:
  genie-robot evaluate model --data outputs/tabletop --json model.json
  genie-robot evaluate policies --seeds 16 --out outputs/policies --json policies.json
  genie-robot evaluate policies --config nightly --out outputs/nightly
"""


def add_parser(subparsers: Any) -> None:
    """Add `evaluate` with its sub-commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "evaluate",
        help="judge a model, or policies inside a model",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="evaluate_command", metavar="|".join(COMMANDS), required=True)
    for name, summary in COMMANDS.items():
        module = _module(name)
        one = commands.add_parser(name, help=summary, epilog=module.EPILOG, formatter_class=raw)
        getattr(module, f"add_{name}_parser")(one)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit code."""
    name = args.evaluate_command
    return int(getattr(_module(name), f"run_{name}")(args))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"genie_robot.cli._evaluate_{name}")
