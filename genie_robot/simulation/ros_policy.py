"""A policy that runs as a ROS 2 node, as one of the policies of an evaluation: the name is `ros:<namespace>`.

The ROS side is the package `genie_policy_client`, imported only when such a policy is asked for.
"""

from __future__ import annotations

import importlib
import re
from typing import Protocol

import numpy as np

from genie_robot.data.commands import STEP_M
from genie_robot.errors import ConfigError
from genie_robot.simulation.action_interface import action_from_si
from genie_robot.simulation.suites import get_suite

PREFIX = "ros:"
DEFAULT_TIMEOUT_S = 30.0
_NAME = re.compile(r"ros:(/|(/[A-Za-z_][A-Za-z0-9_]*)+)")


class PolicyLink(Protocol):
    """What `genie_policy_client.RemotePolicy` does; PolicyError where the node does not answer as it should."""

    def reset(self, seed: int, task: str, instruction: str) -> None:
        """Begin an episode."""
        ...

    def act(self, image_YXC: np.ndarray) -> np.ndarray:
        """Robot action (7,) in SI units for an image uint8 (Y, X, 3)."""
        ...

    def close(self) -> None:
        """Leave the graph."""
        ...


class RosPolicy:
    """One episode of a policy node: what it answers in metres, in the units of the simulated robot."""

    def __init__(self, name: str, suite: str, task: str, link: PolicyLink) -> None:
        self.name, self.task = name, task
        self._instruction, self._link = get_suite(suite).instruction(task), link

    def reset(self, seed: int) -> None:
        """Start the episode `seed`."""
        self._link.reset(seed, self.task, self._instruction)

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (Y, X, 3)."""
        return action_from_si(self._link.act(image), STEP_M)


def is_ros_policy(name: str) -> bool:
    """Whether `name` is that of a policy node; ConfigError for a ros: name that is no namespace."""
    if name.startswith(PREFIX) and not _NAME.fullmatch(name):
        raise ConfigError(
            f"policy is {name!r}; wanted ros:/<namespace of the policy node>, such as ros:/my_policy"
        )
    return name.startswith(PREFIX)


def connect(name: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> PolicyLink:
    """Find the policy node `name`; close the link at the end.

    ConfigError where ROS 2 is not installed or `timeout_s` is not above 0, PolicyError when the node is not found in
    that time, which is also the limit of each answer [s].
    """
    if not timeout_s > 0:
        raise ConfigError(f"the time limit of policies is {timeout_s:g} s; wanted more than 0")
    try:
        client = importlib.import_module("genie_policy_client")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"policy is {name!r}, and {error.name} is not installed; wanted ROS 2 and this project's packages for it; "
            "run `make ros`, or build and source ros2_ws"
        ) from error
    return client.RemotePolicy(name.removeprefix(PREFIX), timeout_s)
