"""`genie-robot data`: make, find, fetch, convert and look at robot data."""

from __future__ import annotations

import argparse
from typing import Any

from genie_robot.cli import _data_fetch, _data_generate, _data_import, _data_inspect, _data_list

_EPILOG = """examples:
  genie-robot data generate outputs/tabletop --episodes 400 --seed 0
  genie-robot data inspect outputs/tabletop
  genie-robot data inspect fractal20220817_data/0.1.0 --json - --sheet outputs/rt1.png
"""
_COMMANDS = (_data_list, _data_fetch, _data_generate, _data_import, _data_inspect)


def add_parser(subparsers: Any) -> None:
    """Add `data` with its sub-commands."""
    parser = subparsers.add_parser(
        "data",
        help="make, find, fetch, convert and look at robot data",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="data_command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit code."""
    return args.run_data(args)
