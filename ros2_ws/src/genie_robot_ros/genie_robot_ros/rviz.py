"""How RViz is started on our configuration; imports no ROS, so that launch files and `genie-robot ros simulate` can ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from genie_robot_ros.share import PACKAGE, share_path

CAMERA_TOPIC = "/image_raw"  # of the configurations


def mode_in(params_file: Path | str, namespace: str = "") -> str:
    """The simulator's `mode` in a ROS 2 parameter file; empty where the file does not tell, or cannot be read."""
    full_name = "/".join(["", *filter(None, namespace.split("/")), "genie_simulator"])
    mode = ""
    try:
        for pattern, parameters in _nodes(yaml.safe_load(Path(params_file).read_text())):
            if re.fullmatch(pattern.replace("/*", r"(/\w+)"), full_name):  # * and ** as rcl reads them
                mode = parameters.get("mode", mode)
    except (OSError, ValueError, re.error, yaml.YAMLError):  # the simulator says what is wrong with it
        return ""
    return str(mode)


def rviz_config(mode: str = "") -> str:
    """Path of the shipped configuration for this mode of the simulator; empty: step, the default."""
    name = "shadow.rviz" if mode == "shadow" else "latent_actions.rviz"
    return str(share_path(PACKAGE, "rviz", name))


def rviz_remaps(namespace: str, image_topic: str = "", mode: str = "") -> list[tuple[str, str]]:
    """(topic of the configuration, where it is): its displays have absolute names.

    The simulator's topics are in `namespace`; the camera is there too unless `image_topic` (empty: image_raw) says
    otherwise.
    """
    prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
    image_topic = image_topic or CAMERA_TOPIC.strip("/")
    camera = image_topic if image_topic.startswith("/") else f"{prefix}/{image_topic}"
    with open(rviz_config(mode)) as file:
        topics = sorted(set(_topics(yaml.safe_load(file))))
    remaps = [(topic, camera if topic == CAMERA_TOPIC else f"{prefix}{topic}") for topic in topics]
    return [(topic, place) for topic, place in remaps if place != topic]


def _nodes(part: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, parameters) of the nodes in a parameter file, where names may be laid out as nested keys."""
    for key, value in part.items() if isinstance(part, dict) else ():
        if key == "ros__parameters" and isinstance(value, dict):
            yield name, value
        else:
            yield from _nodes(value, f"{name}/{str(key).strip('/')}")


def _topics(part: Any) -> Iterator[str]:
    """The topics of all displays."""
    if isinstance(part, dict):
        topic = part.get("Topic")
        if isinstance(topic, dict) and topic.get("Value"):
            yield topic["Value"]
    for child in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _topics(child)
