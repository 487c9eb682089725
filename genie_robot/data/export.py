"""Imagined rollouts for other tools: a ROS 2 bag and an RLDS dataset (MP4 files: `video.write_h264`).

A rollout is T frames, the prompt's last frame first, and the T - 1 latent actions between them: codes[k] leads from frame
k to frame k + 1, and is stamped as frame k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.atomic import whole_folder
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError

IMAGE_TOPIC, INFO_TOPIC, ACTION_TOPIC = "/imagined/image_raw", "/imagined/camera_info", "/latent_action"
FRAME_ID = "imagined_optical_frame"
RLDS_NAME, RLDS_VERSION = "imagined", "1.0.0"


def check_new(path: str | Path) -> Path:
    """The path, when nothing is there yet; ConfigError otherwise, so that it is said before the work is done."""
    if Path(path).exists():
        raise ConfigError(f"{path} exists already; wanted a new place: remove it or give another one")
    return Path(path)


def rlds_folder(root: str | Path) -> Path:
    """Where `export_rlds` writes."""
    return Path(root) / RLDS_NAME / RLDS_VERSION


def export_bag(path: str | Path, frames_TYXC: np.ndarray, codes: Sequence[int], dt_s: float) -> Path:
    """Write a rollout as a rosbag2 folder (MCAP): images (rgb8), camera_info (not calibrated) and latent actions (Int32).

    Stamps are k * dt_s from 0. ConfigError when the folder exists, DiskFullError when there is no space.
    """
    from genie_robot.data.bags.file import BagWriter  # rosbags is an extra: only this export needs it

    _check_rollout(frames_TYXC, codes)
    target = check_new(path)
    height, width = frames_TYXC.shape[1:3]
    with whole_folder(target) as temporary:
        inner = temporary / target.name  # a bag's files are named as its folder
        with BagWriter(inner) as bag:
            for number, frame_YXC in enumerate(frames_TYXC):
                stamp_ns = round(number * dt_s * 1e9)
                header = _header(bag.types, stamp_ns)
                bag.write(
                    IMAGE_TOPIC,
                    "sensor_msgs/msg/Image",
                    stamp_ns,
                    header=header,
                    height=height,
                    width=width,
                    encoding="rgb8",
                    is_bigendian=0,
                    step=3 * width,
                    data=np.ascontiguousarray(frame_YXC).reshape(-1),
                )
                bag.write(
                    INFO_TOPIC,
                    "sensor_msgs/msg/CameraInfo",
                    stamp_ns,
                    **_camera_info(bag.types, header, height, width),
                )
                if number < len(codes):
                    bag.write(ACTION_TOPIC, "std_msgs/msg/Int32", stamp_ns, data=int(codes[number]))
        for file in inner.iterdir():
            file.rename(temporary / file.name)
        inner.rmdir()
    return target


def _header(types: Mapping[str, Any], stamp_ns: int) -> Any:
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=FRAME_ID)


def _camera_info(types: Mapping[str, Any], header: Any, height: int, width: int) -> dict[str, Any]:
    """Fields of a CameraInfo whose zero matrix K says "not calibrated", as sensor_msgs defines."""
    roi = types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return {
        "header": header,
        "height": height,
        "width": width,
        "distortion_model": "",
        "d": np.zeros(0),
        "k": np.zeros(9),
        "r": np.zeros(9),
        "p": np.zeros(12),
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
    }


def export_rlds(
    root: str | Path,
    frames_TYXC: np.ndarray,
    codes: Sequence[int],
    dt_s: float,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a rollout as the RLDS dataset `root/imagined/1.0.0` with one episode, PNG; returns that folder.

    The latent actions go to metadata.json as `latent_actions`: they are codes, no robot actions. ConfigError when the
    folder exists, DiskFullError when there is no space.
    """
    _check_rollout(frames_TYXC, codes)
    return write_dataset(
        root,
        RLDS_NAME,
        RLDS_VERSION,
        {"train": [{"frames_TYXC": frames_TYXC, "is_terminal": False}]},
        (frames_TYXC.shape[1], frames_TYXC.shape[2]),
        1.0 / dt_s,
        description="A rollout imagined by a world model.",
        metadata={**(metadata or {}), "latent_actions": [int(code) for code in codes]},
    )


def _check_rollout(frames_TYXC: np.ndarray, codes: Sequence[int]) -> None:
    assert frames_TYXC.dtype == np.uint8 and frames_TYXC.ndim == 4, (frames_TYXC.dtype, frames_TYXC.shape)
    assert len(codes) == len(frames_TYXC) - 1, (len(codes), len(frames_TYXC))
