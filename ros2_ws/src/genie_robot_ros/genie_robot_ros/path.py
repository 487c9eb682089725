"""Where the imagined gripper went, as a path that RViz draws. Pure: positions in, message out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path
from std_msgs.msg import Header

from genie_robot_ros import convert


def gripper_path(positions_m_T3: np.ndarray, stamps_ns_T: Sequence[int], frame_id: str) -> Path:
    """Positions [m] in `frame_id` with the stamps [ns] of the frames they were read from -> Path.

    The path's own stamp stays zero: imagined time runs ahead of the clock, and RViz then takes the latest transform.
    """
    poses = [
        PoseStamped(
            header=Header(stamp=convert.ns_to_stamp(stamp_ns), frame_id=frame_id),
            pose=Pose(
                position=Point(x=float(x), y=float(y), z=float(z)),
                orientation=Quaternion(x=0.0, y=0.0, z=0.0, w=1.0),
            ),
        )
        for (x, y, z), stamp_ns in zip(positions_m_T3, stamps_ns_T, strict=True)
    ]
    return Path(header=Header(frame_id=frame_id), poses=poses)
