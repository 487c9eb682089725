"""Says what to run where the ROS 2 packages are missing; the other modules of this folder are then not collected."""

from __future__ import annotations

import importlib.util

import pytest


def test_ros_packages_are_built() -> None:
    missing = [
        name
        for name in ("rclpy", "genie_robot_interfaces", "genie_robot_ros", "genie_policy_client")
        if not importlib.util.find_spec(name)
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} not built in this environment, no ROS 2 test ran; run: make ros")
    assert not missing
