"""`genie-robot ros rerun`: a recorded bag as a Rerun recording (needs no ROS)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EPILOG = """examples:
  genie-robot ros record outputs/bags/first --max-minutes 1
  genie-robot ros rerun outputs/bags/first outputs/first.rrd && rerun outputs/first.rrd

Needs: pip install 'genie_robot[formats,rerun]'
"""


def add_parser(commands: Any) -> None:
    """Add `rerun`."""
    parser = commands.add_parser(
        "rerun",
        help="turn a recorded bag into a Rerun recording",
        description="Images, latent actions, surprise, arrows and gripper paths of a ROS 2 bag as a Rerun recording.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", metavar="BAG", type=Path, help="rosbag2 folder, .mcap or .db3")
    parser.add_argument("out", metavar="OUT.rrd", type=Path, help="Rerun recording to write")
    parser.set_defaults(run_ros=run)


def run(args: argparse.Namespace) -> int:
    """Convert the bag; returns the exit code."""
    from genie_robot.data.bags.to_rerun import bag_to_rerun

    converted = bag_to_rerun(args.bag, args.out)
    for topic, count in sorted(converted.messages.items()):
        print(f"{topic}: {count}")
    if converted.left_out:
        print("not shown: " + ", ".join(f"{name} ({n})" for name, n in sorted(converted.left_out.items())))
    if converted.damaged:
        print(f"{converted.damaged} damaged messages or places were left out")
    print(f"{args.out}: {sum(converted.messages.values())} messages, {args.out.stat().st_size / 1e6:.1f} MB")
    return 0
