"""What `colcon test` runs beside the code; the node's own tests are in tests/ros at the root of the project."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import genie_robot_ros
import pytest

MODULES = [module.name for module in pkgutil.iter_modules(genie_robot_ros.__path__)]


@pytest.mark.parametrize("module", MODULES)
def test_module_imports(module: str) -> None:
    assert import_module(f"genie_robot_ros.{module}")


def test_every_parameter_is_described() -> None:
    parameters = import_module("genie_robot_ros.parameters").PARAMETERS
    assert parameters
    for parameter in parameters:
        assert parameter.descriptor().description
        assert parameter.minimum is None or parameter.minimum <= parameter.default <= parameter.maximum
