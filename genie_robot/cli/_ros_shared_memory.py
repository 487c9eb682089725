"""Checks of `genie-robot ros doctor` on how images travel on one machine: shared memory and the Fast DDS profile."""

from __future__ import annotations

import fcntl
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from genie_robot.cli._findings import Finding, fail, ok, warn
from genie_robot.cli._ros_environment import discovery

SHARED_MEMORY = Path("/dev/shm")
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_SEGMENT_BYTES = 32 * 2**20  # of a participant with the profile for large images
_MIN_FREE = 4 * _SEGMENT_BYTES
_MUCH_STALE = 2 * _SEGMENT_BYTES
_IMAGE_BYTES = 640 * 480 * 3


def check_shared_memory() -> Iterator[Finding]:
    """Room in shared memory, what dead processes left there, and the profile in force."""
    yield _room()
    stale = stale_segments(SHARED_MEMORY)
    size = sum(path.stat().st_size for path in stale if path.exists())
    if size > _MUCH_STALE:
        yield warn(
            "shared memory",
            f"{len(stale)} Fast DDS segments of dead processes hold {size / 2**20:.0f} MiB",
            f"while no ROS 2 process runs: rm {SHARED_MEMORY}/*fastrtps_*",
        )
    yield profile()


def _room() -> Finding:
    if not os.access(SHARED_MEMORY, os.W_OK):
        return fail("shared memory", f"{SHARED_MEMORY} cannot be written", "mount a tmpfs there")
    usage = shutil.disk_usage(SHARED_MEMORY)
    found = f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free in {SHARED_MEMORY}"
    if usage.free < _MIN_FREE:
        return warn(
            "shared memory",
            f"{found}: with the profile for large images each process takes {_SEGMENT_BYTES >> 20} MiB",
            "make it larger (in a container: --shm-size=1g or --ipc=host)",
        )
    return ok("shared memory", found)


def stale_segments(folder: Path) -> list[Path]:
    """Fast DDS segments whose owner is dead: it held a lock on the file that goes with each."""
    stale = []
    for lock in sorted(folder.glob("fastrtps_*_el")):
        segment = lock.with_name(lock.name.removesuffix("_el"))
        try:
            with lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held, or not ours to look at
            continue
        if segment.exists():
            stale.append(segment)
    return stale


def profile() -> Finding:
    """Whether 640x480 images get through without loss: the Fast DDS profile in force and what is in it."""
    name = next((name for name in PROFILE_VARIABLES if os.environ.get(name)), None)
    if name is None:
        return warn(
            "large images",
            "no Fast DDS profile in force: images above 0.5 MB may be lost under load",
            f"export {PROFILE_VARIABLES[1]}=.../genie_robot_ros/config/fastdds_large_images.xml for whoever publishes them",
        )
    path = Path(os.environ[name])
    try:
        tree = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        return fail("large images", f"{name}: {path} cannot be read as XML ({error})", "give a whole file")
    for element in tree.iter():
        element.tag = element.tag.rsplit("}", 1)[-1]
    if not any(one.get("is_default_profile") == "true" for one in tree.iter("participant")):
        return fail("large images", f"{path} has no default participant profile", "is_default_profile='true'")
    transports = [one for one in tree.iter("transport_descriptor") if one.findtext("type") == "SHM"]
    sizes = [int(one.findtext("segment_size") or 0) for one in transports]
    if not sizes or max(sizes) < 2 * _IMAGE_BYTES:
        return warn(
            "large images",
            f"{path} gives {max(sizes, default=0)} bytes of shared memory",
            f"segment_size of {_SEGMENT_BYTES}",
        )
    only = [one.text for one in tree.iter("address")]
    if only == ["127.0.0.1"] and discovery().level != "OK":
        return warn(
            "large images",
            f"{path} keeps to 127.0.0.1, but discovery is open",
            "take its interfaceWhiteList out in a copy, to reach other machines",
        )
    return ok("large images", f"{path}: {max(sizes) >> 20} MiB of shared memory a process")
