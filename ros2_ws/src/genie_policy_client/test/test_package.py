"""What `colcon test` runs beside the code; the nodes' own tests are in tests/ros at the root of the project."""

from __future__ import annotations

import inspect

import genie_policy_client
import pytest
from genie_policy_client import example_policy, policy_node


@pytest.mark.parametrize("name", genie_policy_client.__all__)
def test_public_names_are_documented(name: str) -> None:
    assert inspect.getdoc(getattr(genie_policy_client, name))


def test_the_example_has_the_interface_of_a_policy() -> None:
    for method in ("reset", "act"):
        wanted = inspect.signature(getattr(policy_node.Policy, method))
        assert list(inspect.signature(getattr(example_policy.ExamplePolicy, method)).parameters) == list(
            wanted.parameters
        )
