"""Files that ROS 2 packages install: configuration, launch files, message definitions.

Found in a sourced workspace (AMENT_PREFIX_PATH), in a virtual environment with the wheels (no variable is set there),
and, for this package, beside its sources.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

PACKAGE = "genie_robot_ros"


def share_path(package: str, *parts: str) -> Path:
    """An installed file or folder of `package`; FileNotFoundError when there is none."""
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    places = [Path(prefix, "share", package, *parts) for prefix in [*prefixes, sys.prefix]]
    sources = Path(__file__).resolve().parents[1]
    if package == PACKAGE and (sources / "package.xml").is_file():
        places.insert(0, sources.joinpath(*parts))
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"{'/'.join([package, *parts])} is in none of: {', '.join(map(str, places))}")


def message_definition(msgtype: str) -> str:
    """Text of the .msg file of a type such as "sensor_msgs/msg/Image"; FileNotFoundError when it is not installed."""
    package, folder, name = msgtype.split("/")
    return share_path(package, folder, f"{name}.msg").read_text()
