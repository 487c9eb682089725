"""Policies named ros:<namespace>, as far as they need no ROS; the rest is in tests/ros/test_policy_evaluation.py."""

from __future__ import annotations

import sys

import pytest

from genie_robot.errors import ConfigError
from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.simulation.ros_policy import connect, is_ros_policy

NAME = "ros:/lab/my_policy"


def test_names_of_nodes_are_told_from_names_of_policies() -> None:
    assert is_ros_policy(NAME) and is_ros_policy("ros:/") and not is_ros_policy("expert-0.8")


@pytest.mark.parametrize("name", ["ros:", "ros:my_policy", "ros:/my policy", "ros:/a/", "ros://a", "ros:/1a"])
def test_names_that_are_no_namespace_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"wanted ros:/<namespace"):
        EvaluationConfig(policies=(name,))


def test_episodes_of_a_node_run_one_by_one() -> None:
    config = EvaluationConfig(policies=("no-op", NAME), seeds=5, block=4, tasks=("push",), worlds=("mujoco",))
    sizes = [(block.policies, len(block.seeds)) for block in config.blocks("mujoco")]
    assert sizes == [(("no-op",), 4), (("no-op",), 1), *[((NAME,), 1)] * 5]


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_time_limit_must_be_above_zero(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="time limit of policies"):
        connect(NAME, timeout_s)


def test_without_the_ros_packages_one_line_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genie_policy_client", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"genie_policy_client is not installed; .* run `make ros`"):
        connect(NAME)
