"""`genie-robot data import`: ROS bags, LeRobot folders, videos and other datasets -> an RLDS dataset."""

from __future__ import annotations

import argparse
from typing import Any

from genie_robot.cli._data_output import say, write_json

_EPILOG = """examples:
  genie-robot data import recordings/ datasets --name kitchen
  genie-robot data import drive_0.mcap datasets --image-key /front/image_raw --rate-hz 5 --size 64x64
  genie-robot data import lerobot/pusht datasets --actions --state --lossless
  genie-robot data import phone/ datasets --size 96x128 --rate-hz 5
  genie-robot data import lerobot/my_arm datasets --gripper closed
  genie-robot data import recordings/ datasets --action-topic /cmd_vel --skip-bad --json -

PLACE is a rosbag2 folder, a .mcap, .db3 or (ROS 1) .bag file, a folder of these, a LeRobot folder (v2.0 to v3.0), or videos
(.mp4, .mkv, .avi, .webm, or a folder of them), whose --rate-hz is not a choice but the true rate, where their headers lie.
Writes OUT/NAME/1.0.0, which `data inspect`, training and tfds.builder_from_directory read. PNG and JPEG pictures keep
their bytes unless --size changes them. Training can also read PLACE itself: data.path=PLACE.
"""


def add_parser(commands: Any) -> None:
    """Add `import`."""
    parser = commands.add_parser(
        "import",
        help="convert ROS bags, a LeRobot folder or videos to an RLDS dataset",
        description="Convert ROS bags, a LeRobot folder or videos to an RLDS dataset.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("place", metavar="PLACE", help="bag, folder of bags, LeRobot folder, or videos")
    parser.add_argument("out", metavar="OUT", help="folder to write NAME/1.0.0 into")
    parser.add_argument("--name", help="of the new dataset (default: that of the place)")
    parser.add_argument(
        "--image-key", metavar="KEY", help="camera: image topic or feature (default: by content)"
    )
    parser.add_argument(
        "--rate-hz", type=float, metavar="HZ", help="frames per second (default: the camera's or the video's)"
    )
    parser.add_argument("--size", default="keep", metavar="HxW", help="height x width, or keep (default)")
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.05,
        metavar="P",
        help="the last share of episodes is val (default: 0.05)",
    )
    parser.add_argument("--actions", action="store_true", help="robot actions too, as end-effector deltas")
    parser.add_argument("--action-topic", metavar="TOPIC", help="of a bag with several; means --actions")
    parser.add_argument(
        "--gripper",
        metavar="KIND",
        help="what the gripper's number of a LeRobot action says: closed or open (how far, 0 to 1), close_positive or "
        "open_positive (by its sign), step (+1 close, -1 open, 0 keep); means --actions (default: as registered, else left out)",
    )
    parser.add_argument("--state", action="store_true", help="joint positions or observation.state too")
    parser.add_argument(
        "--lossless", action="store_true", help="PNG for pictures that are encoded anew (default: JPEG)"
    )
    parser.add_argument("--skip-bad", action="store_true", help="pass over what is damaged, and count it")
    parser.add_argument("--overwrite", action="store_true", help="replace a dataset that is there")
    parser.add_argument("--json", metavar="FILE", help="write what was made as JSON (- for the screen)")
    parser.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> int:
    """Open, convert and say what came of it; returns the exit code."""
    from genie_robot.data.bags.dataset import BagDataset, is_bag
    from genie_robot.data.conversion import convert_dataset
    from genie_robot.data.lerobot.dataset import LeRobotDataset, is_lerobot
    from genie_robot.data.open import open_dataset
    from genie_robot.data.rlds import EpisodeSource
    from genie_robot.errors import ConfigError

    if args.action_topic is not None and not is_bag(args.place):
        raise ConfigError(
            f"--action-topic is {args.action_topic} and {args.place} is no bag; give --actions alone"
        )
    if args.gripper is not None and not is_lerobot(args.place):
        raise ConfigError(
            f"--gripper is {args.gripper} and {args.place} is no LeRobot folder; give --actions alone"
        )
    if args.action_topic is not None:
        source: EpisodeSource = BagDataset(args.place, args.rate_hz, args.action_topic)
    elif args.gripper is not None:
        source = LeRobotDataset(args.place, args.rate_hz, args.gripper)
    else:
        source = open_dataset(args.place, args.rate_hz)
    folder, bad = convert_dataset(
        source,
        args.out,
        name=args.name,
        image_key=args.image_key,
        image_hw=parse_size(args.size),
        val_share=args.val_share,
        actions=args.actions or args.action_topic is not None or args.gripper is not None,
        state=args.state,
        lossless=args.lossless,
        skip_bad=args.skip_bad,
        overwrite=args.overwrite,
    )
    made = open_dataset(folder)
    num_bytes = sum(path.stat().st_size for path in folder.iterdir())
    lost = f", {len(bad)} damaged places passed over" if bad else ""
    say(
        args.json,
        f"wrote {folder}: {made.splits} episodes at {1 / made.dt_s:.4g} Hz, {num_bytes / 1e6:.1f} MB{lost}; "
        f"look: genie-robot data inspect {folder}",
    )
    content = {"path": str(folder), "splits": made.splits, "rate_hz": 1 / made.dt_s, "bytes": num_bytes}
    write_json(args.json, {**content, "bad": [str(error) for error in bad]})
    return 0


def parse_size(text: str) -> tuple[int, int] | None:
    """Height and width of "96x128", None for "keep"; ConfigError for anything else."""
    from genie_robot.errors import ConfigError

    if text == "keep":
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise ConfigError(f"--size is {text!r}; wanted height x width such as 96x128, or keep")
    return int(height), int(width)
