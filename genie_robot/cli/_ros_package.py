"""The door from the commands to the ROS 2 packages, which are built apart from this one: nothing here imports ROS."""

from __future__ import annotations

import importlib
from typing import Any

from genie_robot.errors import ConfigError

HOW_TO_BUILD = (
    "run `make ros` in the project and use its .venv, or source the ROS 2 workspace in which they are built"
)


def ros_module(name: str) -> Any:
    """Module `genie_robot_ros.<name>`; ConfigError that says what to do where the ROS 2 packages are not there."""
    try:
        return importlib.import_module(f"genie_robot_ros.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("genie_robot_ros", "genie_robot_interfaces", "rclpy"):
            raise
        raise ConfigError(
            f"this Python has no module {error.name}; wanted the ROS 2 packages: {HOW_TO_BUILD}"
        ) from error
