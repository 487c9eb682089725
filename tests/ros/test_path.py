"""The imagined gripper's path as RViz's Path display takes it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from genie_robot_ros.convert import stamp_to_ns
from genie_robot_ros.path import gripper_path
from nav_msgs.msg import Path
from rclpy.serialization import deserialize_message, serialize_message

POSITIONS_M_T3 = np.array([[0.4, 0.1, 0.2], [0.44, 0.1, 0.2], [0.44, -0.1, 0.05]], np.float32)
STAMPS_NS_T = [1_795_329_174_862_000_001 + k * 200_000_000 for k in range(3)]


def test_positions_stamps_and_frame_survive_the_wire() -> None:
    sent = gripper_path(POSITIONS_M_T3, STAMPS_NS_T, "base_link")
    path = deserialize_message(serialize_message(sent), Path)
    assert path.header.frame_id == "base_link"
    assert stamp_to_ns(path.header.stamp) == 0  # RViz then takes the latest transform: imagined time is ahead
    assert [stamp_to_ns(pose.header.stamp) for pose in path.poses] == STAMPS_NS_T
    assert {pose.header.frame_id for pose in path.poses} == {"base_link"}
    points = [(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in path.poses]
    np.testing.assert_array_equal(np.array(points, np.float32), POSITIONS_M_T3)
    for pose in path.poses:
        o = pose.pose.orientation
        assert math.hypot(o.x, o.y, o.z, o.w) == 1.0  # RViz refuses a quaternion of zeros


def test_no_position_is_an_empty_path() -> None:
    assert gripper_path(np.zeros((0, 3)), [], "base_link").poses == []


def test_each_position_needs_a_stamp() -> None:
    with pytest.raises(ValueError, match="shorter"):
        gripper_path(POSITIONS_M_T3, STAMPS_NS_T[:2], "base_link")
