"""The launch file. launch itself is in no package index, so a small double records what the file describes.

With a system ROS 2 the same checks run against the real `launch` classes being importable (first test).
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PACKAGE
from genie_robot_ros.parameters import PARAMETERS

LAUNCH_FILE = PACKAGE / "launch" / "genie_simulator.launch.py"


class Recorded:
    """Stands for any launch class: keeps what it was made with."""

    def __init__(self, kind: str, arguments: tuple, keywords: dict[str, Any]) -> None:
        self.kind, self.arguments, self.keywords = kind, arguments, keywords

    def __getitem__(self, name: str) -> Any:
        return self.keywords[name]


# The names that exist in launch 3.4 and launch_ros 0.26 (Jazzy) and that a launch file may use, with their keywords.
KNOWN = {
    "launch": {"LaunchDescription": set()},
    "launch.actions": {"DeclareLaunchArgument": {"default_value", "description", "choices"}},
    "launch.conditions": {"IfCondition": set(), "UnlessCondition": set()},
    "launch.substitutions": {"LaunchConfiguration": {"default"}, "PathJoinSubstitution": set()},
    "launch_ros": {},
    "launch_ros.actions": {
        name: {
            "package",
            "executable",
            "name",
            "namespace",
            "output",
            "parameters",
            "remappings",
            "arguments",
            "condition",
        }
        for name in ("Node", "LifecycleNode")
    },
    "launch_ros.parameter_descriptions": {"ParameterValue": {"value_type"}},
    "launch_ros.substitutions": {"FindPackageShare": set()},
}


def maker(kind: str, keywords_allowed: set[str]):
    def make(*arguments: Any, **keywords: Any) -> Recorded:
        assert set(keywords) <= keywords_allowed, f"{kind} has no argument {set(keywords) - keywords_allowed}"
        return Recorded(kind, arguments, keywords)

    return make


@pytest.fixture
def entities(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    for module_name, names in KNOWN.items():
        module = types.ModuleType(module_name)
        for name, keywords in names.items():
            setattr(module, name, maker(name, keywords))
        monkeypatch.setitem(sys.modules, module_name, module)
    scope: dict[str, Any] = {"__name__": "launch_file"}
    exec(compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec"), scope)
    description = scope["generate_launch_description"]()
    assert description.kind == "LaunchDescription"
    return description.arguments[0]


def of_kind(entities: list[Recorded], kind: str) -> list[Recorded]:
    return [entity for entity in entities if entity.kind == kind]


def walk(value: Any):
    yield value
    if isinstance(value, Recorded):
        value = [*value.arguments, *value.keywords.values()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from walk(item)


def test_the_node_is_an_installed_executable(entities: list[Recorded]) -> None:
    [node] = of_kind(entities, "LifecycleNode")
    setup = (PACKAGE / "setup.py").read_text()
    assert node["package"] == "genie_robot_ros"
    assert re.search(rf'"{node["executable"]} = genie_robot_ros\.', setup)


def test_files_exist_and_are_installed(entities: list[Recorded]) -> None:
    setup = (PACKAGE / "setup.py").read_text()
    found = 0
    for item in walk(entities):
        if isinstance(item, Recorded) and item.kind == "PathJoinSubstitution":
            share, *parts = item.arguments[0]
            assert share.kind == "FindPackageShare"
            assert share.arguments == ("genie_robot_ros",)
            assert PACKAGE.joinpath(*parts).is_file(), parts
            assert f'shared("{parts[0]}")' in setup
            found += 1
    assert found == 2


def test_every_configuration_is_declared_and_every_argument_used(entities: list[Recorded]) -> None:
    declared = {entity.arguments[0] for entity in of_kind(entities, "DeclareLaunchArgument")}
    used = {
        item.arguments[0]
        for item in walk(entities)
        if isinstance(item, Recorded) and item.kind == "LaunchConfiguration"
    }
    assert used == declared
    assert all(entity["description"] for entity in of_kind(entities, "DeclareLaunchArgument"))


def test_parameters_and_remaps_exist(entities: list[Recorded]) -> None:
    [node] = of_kind(entities, "LifecycleNode")
    names = {p.name for p in PARAMETERS} | {"use_sim_time"}
    for part in node["parameters"]:
        if isinstance(part, dict):
            assert set(part) <= names
    assert [source for source, _ in node["remappings"]] == ["image_raw"]


@pytest.mark.parametrize("path", sorted((PACKAGE / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_parameters_are_the_declared_ones_within_their_ranges(path: Path) -> None:
    values = yaml.safe_load(path.read_text())["/**"]["ros__parameters"]
    parameters = {p.name: p for p in PARAMETERS}
    assert set(values) == set(parameters)
    for name, value in values.items():
        parameter = parameters[name]
        assert type(value) is type(parameter.default), name
        assert not parameter.choices or value in parameter.choices
        assert parameter.minimum is None or parameter.minimum <= value <= parameter.maximum
        if name != "model_path":
            assert value == parameter.default, f"{name}: file and code disagree"
