"""`genie-robot ros`: run, record and check the simulator as a ROS 2 node."""

from __future__ import annotations

import argparse
from typing import Any

from genie_robot.cli import _ros_doctor, _ros_record, _ros_rerun, _ros_simulate

_EPILOG = """examples:
  genie-robot ros doctor
  genie-robot ros simulate weights/tabletop-tiny --image-topic /camera/image_raw
  genie-robot ros record outputs/bags/first --max-minutes 10
  genie-robot ros rerun outputs/bags/first outputs/first.rrd
"""
_COMMANDS = (_ros_doctor, _ros_simulate, _ros_record, _ros_rerun)


def add_parser(subparsers: Any) -> None:
    """Add `ros` with its sub-commands."""
    parser = subparsers.add_parser(
        "ros",
        help="run, record and check the simulator as a ROS 2 node",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="ros_command", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit code."""
    return args.run_ros(args)
