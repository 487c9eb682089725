"""`genie-robot ros record`: topics into a rosbag2 folder (MCAP) that stock tools, and `genie-robot data`, open."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import Any

from genie_robot.cli._ros_network import add_open_network, set_network
from genie_robot.cli._ros_package import ros_module

_EPILOG = """examples:
  genie-robot ros record outputs/bags/first                                   until Ctrl-C
  genie-robot ros record outputs/bags/two --topics '/robot_1/*' /tf_static    these only
  genie-robot ros record outputs/bags/night --max-minutes 480 --max-gb 50

Then: genie-robot data inspect outputs/bags/first, Foxglove, ... (with a system ROS: ros2 bag play outputs/bags/first)
Listens on this machine only unless the environment says otherwise or --open-network is given.
A killed recorder (kill -9) leaves all but the last second, without an index: `genie-robot data` and `mcap recover` read it.
"""


def add_parser(commands: Any) -> None:
    """Add `record`."""
    parser = commands.add_parser(
        "record",
        help="record topics into a rosbag2 folder (MCAP)",
        description="Record ROS 2 topics, also those that appear later, with the QoS of their publishers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="new folder for the bag")
    parser.add_argument(
        "--topics",
        metavar="NAME",
        nargs="+",
        default=(),
        help="full names or patterns with * (default: every topic, without /rosout, /parameter_events and those that "
        "the simulator makes only for listeners: */compressed, */inferred_action, */contact_sheet)",
    )
    parser.add_argument(
        "--max-minutes", metavar="M", type=_positive, default=math.inf, help="end after so long"
    )
    parser.add_argument("--max-gb", metavar="G", type=_positive, default=math.inf, help="end at so much")
    add_open_network(parser)
    parser.set_defaults(run_ros=run)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def run(args: argparse.Namespace) -> int:
    """Record until Ctrl-C or a limit; returns the exit code."""
    recorder = ros_module("recorder")
    from genie_robot.data.export import check_new

    check_new(args.out)
    set_network(os.environ, args.open_network, ros_module("share"))
    report = recorder.record(args.out, args.topics, max_s=60 * args.max_minutes, max_bytes=1e9 * args.max_gb)
    print(report.text())
    return 0
