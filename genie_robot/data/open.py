"""One door to every kind of robot data: say where it is, get an `EpisodeSource`.

open_dataset("outputs/tabletop")                  RLDS / TFDS folder, or a folder above exactly one
open_dataset("bridge_dataset")                    a name in `root`, $GENIE_ROBOT_DATA ... (locate.py), else from Google Cloud
open_dataset("gs://gresearch/robotics/...")       and tfds:NAME[:VERSION]: through TensorFlow Datasets
open_dataset("recordings/kitchen")                rosbag2 folder, .mcap, .db3, .bag, or a folder of these
open_dataset("lerobot/pusht")                     LeRobotDataset v2.1 or v3
open_dataset("phone/")                            video files: .mp4, .mkv, .avi, .webm
"""

from __future__ import annotations

import logging
from pathlib import Path

from genie_robot.data.bags.places import is_bag
from genie_robot.data.lerobot.dataset import is_lerobot
from genie_robot.data.locate import is_videos, locate
from genie_robot.data.rlds import EpisodeSource, RldsDataset
from genie_robot.errors import DatasetNotFoundError

log = logging.getLogger(__name__)


def open_dataset(
    place: str | Path, rate_hz: float | None = None, root: str | Path | None = None
) -> EpisodeSource:
    """Open what is at `place` (see this file's docstring); which reader was chosen is logged in one line.

    `rate_hz` overrides the control rate that the data or the registry says. Only `gs://` and `tfds:` places, and registered
    names that are on no local disk, may touch the network. DatasetNotFoundError, DataError; ConfigError when an extra is missing.
    """
    if is_lerobot(place):
        from genie_robot.data.lerobot.dataset import LeRobotDataset

        return _said(LeRobotDataset(place, rate_hz), "as a LeRobot dataset")
    if is_bag(place):
        from genie_robot.data.bags.dataset import BagDataset

        return _said(BagDataset(place, rate_hz), "as ROS bags")
    if is_videos(place):
        from genie_robot.data.videos import VideoDataset

        return _said(VideoDataset(place, rate_hz), "as videos")
    found = locate(place, root)
    if not found.through_tfds:
        return _said(RldsDataset(Path(found.place), rate_hz), found.how)
    from genie_robot.data.tfds_door import TfdsDataset

    try:
        return _said(TfdsDataset(found.place, rate_hz), found.how)
    except DatasetNotFoundError as error:
        raise DatasetNotFoundError(f"{error} (reading {found.how})") from error


def is_recording(place: str | Path) -> bool:
    """Whether `place` is files in a form of their own (LeRobot, bags, videos): neither a TFDS folder nor the name of one."""
    return is_lerobot(place) or is_bag(place) or is_videos(place)


def _said(source: EpisodeSource, how: str) -> EpisodeSource:
    log.info("reading %s (%s %s) %s", source.folder, source.name, source.version, how)
    return source
