"""A policy of the tabletop tasks as a node: it sees pixels, finds gripper, object and goal in them, and acts.

$ python -m genie_policy_client.example_policy --policy expert-0.8 --ros-args -r __ns:=/my_policy
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from rclpy.utilities import remove_ros_args

from genie_policy_client.policy_node import run_policy
from genie_robot.data.commands import STEP_M
from genie_robot.errors import ConfigError, GenieError
from genie_robot.evaluation.probe import load_probe
from genie_robot.simulation.action_interface import action_to_si
from genie_robot.simulation.mujoco.tasks import TASKS
from genie_robot.simulation.policies import Eyes, Policy, Resources, make_policy

_EPILOG = """examples:
  python -m genie_policy_client.example_policy --ros-args -r __ns:=/my_policy
  genie-robot evaluate policies --policies ros:/my_policy,no-op --seeds 4

  python -m genie_policy_client.example_policy --policy expert-1.0 --ros-args \\
      -r image_raw:=imagined/image_raw -p task:=lift -p seed:=7

ROS 2 arguments follow --ros-args. Parameters: image_transport, image_reliability, seed, task, instruction.
"""


class ExamplePolicy:
    """A policy of `genie_robot.simulation.policies` with the interface of `genie_policy_client.Policy`."""

    def __init__(self, name: str, eyes: Eyes) -> None:
        """`eyes` reads the state from images. ConfigError for an unknown name."""
        self._name, self._resources = name, Resources(eyes=eyes)
        self._policy: Policy = make_policy(name, "tabletop", TASKS[0], self._resources)

    def reset(self, seed: int, task: str, instruction: str) -> None:
        """Begin an episode of a task, push if none is named; ConfigError for an unknown one."""
        if seed < 0:
            raise ConfigError(f"seed is {seed}; wanted 0 or more")
        self._policy = make_policy(self._name, "tabletop", task or TASKS[0], self._resources)
        self._policy.reset(seed)

    def act(self, image_YXC: np.ndarray) -> np.ndarray:
        """Robot action (7,) in SI units for a 64x64 image."""
        return action_to_si(self._policy.act(image_YXC), STEP_M)


def main() -> int:
    """Run the node; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="example_policy",
        description=__doc__.splitlines()[0],
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--policy",
        default="expert-0.8",
        metavar="NAME",
        help="expert-<skill 0..1>, random-keys or no-op (default: %(default)s)",
    )
    parser.add_argument(
        "--probe",
        default="weights/tabletop-probe",
        metavar="DIR",
        help="state probe, the policy's eyes (default: %(default)s)",
    )
    args = parser.parse_args(remove_ros_args(sys.argv)[1:])
    try:
        return run_policy(ExamplePolicy(args.policy, load_probe(args.probe).eyes), "example_policy")
    except GenieError as error:
        print(f"example_policy: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
