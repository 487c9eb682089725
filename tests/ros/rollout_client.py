"""A client to be killed: starts a rollout of so many frames, says so once the first one is there, and waits on.

$ python rollout_client.py 1000
"""

from __future__ import annotations

import sys

import rclpy
from genie_robot_interfaces.action import Rollout
from rclpy.action import ActionClient


def main() -> None:
    rclpy.init()
    node = rclpy.create_node("rollout_client")
    rollouts = ActionClient(node, Rollout, "genie_simulator/rollout")
    rollouts.wait_for_server()
    goal = Rollout.Goal(codes=[1] * int(sys.argv[1]))
    rollouts.send_goal_async(goal, feedback_callback=lambda message: print(message.feedback.step, flush=True))
    rclpy.spin(node)


if __name__ == "__main__":
    main()
