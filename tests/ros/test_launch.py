"""The launch file. launch itself is in no package index, so a small double records what the file describes.

With a system ROS 2 the last test gives the file to the real launch.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PACKAGE
from genie_robot_ros.parameters import PARAMETERS
from genie_robot_ros.rviz import rviz_config, rviz_remaps

LAUNCH_FILE = PACKAGE / "launch" / "genie_simulator.launch.py"
Context = dict[str, Any]


class Recorded:
    """Stands for any launch class: keeps what it was made with."""

    def __init__(self, kind: str, arguments: tuple, keywords: dict[str, Any]) -> None:
        self.kind, self.arguments, self.keywords = kind, arguments, keywords

    def __getitem__(self, name: str) -> Any:
        return self.keywords[name]

    def perform(self, context: Context) -> str:
        """The text of a LaunchConfiguration or of a path put together."""
        if self.kind == "LaunchConfiguration":
            return text_of(context[self.arguments[0]], context)
        assert self.kind == "PathJoinSubstitution"
        share, *parts = self.arguments[0]
        assert share.kind == "FindPackageShare" and share.arguments == ("genie_robot_ros",)
        return str(PACKAGE.joinpath(*parts))


def text_of(value: Any, context: Context) -> str:
    return value.perform(context) if isinstance(value, Recorded) else value


NODE_KEYWORDS = "package executable name namespace output parameters remappings arguments condition"
# The names that exist in launch and launch_ros of Jazzy and that a launch file may use, with their keywords.
KNOWN = {
    "launch": {"LaunchDescription": set(), "LaunchContext": set()},
    "launch.actions": {
        "DeclareLaunchArgument": {"default_value", "description", "choices"},
        "OpaqueFunction": {"function"},
        "SetEnvironmentVariable": {"condition"},
    },
    "launch.conditions": {"IfCondition": set(), "UnlessCondition": set()},
    "launch.substitutions": {"LaunchConfiguration": {"default"}, "PathJoinSubstitution": set()},
    "launch_ros": {},
    "launch_ros.actions": {"Node": set(NODE_KEYWORDS.split())},
    "launch_ros.parameter_descriptions": {"ParameterValue": {"value_type"}},
    "launch_ros.substitutions": {"FindPackageShare": set()},
}


def maker(kind: str, keywords_allowed: set[str]) -> Callable[..., Recorded]:
    def make(*arguments: Any, **keywords: Any) -> Recorded:
        assert set(keywords) <= keywords_allowed, f"{kind} has no argument {set(keywords) - keywords_allowed}"
        return Recorded(kind, arguments, keywords)

    return make


Launch = Callable[..., list[Recorded]]


@pytest.fixture
def launch(monkeypatch: pytest.MonkeyPatch) -> Launch:
    """What `ros2 launch` would do with these arguments: the entities whose condition holds."""
    for module_name, names in KNOWN.items():
        module = types.ModuleType(module_name)
        for name, keywords in names.items():
            setattr(module, name, maker(name, keywords))
        monkeypatch.setitem(sys.modules, module_name, module)
    scope: dict[str, Any] = {"__name__": "launch_file"}
    exec(compile(LAUNCH_FILE.read_text(), str(LAUNCH_FILE), "exec"), scope)

    def run(**given: str) -> list[Recorded]:
        description = scope["generate_launch_description"]()
        assert description.kind == "LaunchDescription"
        context: Context = {}
        entities = []
        for entity in description.arguments[0]:
            if entity.kind == "DeclareLaunchArgument":
                context[entity.arguments[0]] = given.pop(
                    entity.arguments[0], entity.keywords.get("default_value")
                )
            entities += entity["function"](context) if entity.kind == "OpaqueFunction" else [entity]
        assert not given, f"no such arguments: {given}"
        return [entity for entity in entities if holds(entity, context)]

    return run


def holds(entity: Recorded, context: Context) -> bool:
    condition = entity.keywords.get("condition")
    return condition is None or text_of(condition.arguments[0], context) == "true"


def of_kind(entities: list[Recorded], kind: str) -> list[Recorded]:
    return [entity for entity in entities if entity.kind == kind]


def nodes(entities: list[Recorded], executable: str) -> list[Recorded]:
    return [node for node in of_kind(entities, "Node") if node["executable"] == executable]


def walk(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, Recorded):
        value = [*value.arguments, *value.keywords.values()]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from walk(item)


def test_by_default_the_simulator_rviz_and_a_root_for_the_frames(launch: Launch) -> None:
    entities = launch(model_path="/models/tabletop")
    assert [node["executable"] for node in of_kind(entities, "Node")] == [
        "genie_simulator",
        "rviz2",
        "static_transform_publisher",
    ]
    [simulator] = nodes(entities, "genie_simulator")
    assert simulator["arguments"] == [] and simulator["remappings"] == [("image_raw", "image_raw")]
    file, own, _ = simulator["parameters"]
    assert file == str(PACKAGE / "config" / "genie_simulator.yaml")
    assert {name: value.arguments[0] for name, value in own.items()} == {"model_path": "/models/tabletop"}
    [rviz] = nodes(entities, "rviz2")
    assert rviz["arguments"] == ["-d", rviz_config()] and rviz["remappings"] == []
    assert not of_kind(entities, "SetEnvironmentVariable")


def test_every_argument_does_what_it_says(launch: Launch) -> None:
    entities = launch(
        model_path="/models/tabletop",
        mode="shadow",
        device="cuda",
        image_topic="/camera/image_raw",
        params_file="/my.yaml",
        use_sim_time="true",
        rviz="false",
        standalone="false",
        record="bags/first",
        large_images="true",
    )
    assert [node["executable"] for node in of_kind(entities, "Node")] == ["genie_simulator", "record"]
    [simulator] = nodes(entities, "genie_simulator")
    assert simulator["remappings"] == [("image_raw", "/camera/image_raw")]
    file, own, sim_time = simulator["parameters"]
    assert file == "/my.yaml" and set(own) == {"model_path", "mode", "device"}
    assert own["mode"].arguments[0] == "shadow" and own["device"].arguments[0] == "cuda"
    assert sim_time["use_sim_time"]["value_type"] is bool
    [recorder] = nodes(entities, "record")
    assert recorder["arguments"] == ["bags/first"]
    [variable] = of_kind(entities, "SetEnvironmentVariable")
    assert variable.arguments[0] == "FASTRTPS_DEFAULT_PROFILES_FILE"
    assert Path(variable.arguments[1].perform({})).is_file()


def test_several_namespaces_are_one_process_and_an_rviz_each(launch: Launch) -> None:
    entities = launch(model_path="/models/tabletop", namespaces="robot_1 robot_2")
    [simulator] = nodes(entities, "genie_simulator")
    assert simulator["arguments"] == ["--namespaces", "robot_1", "robot_2"]
    views = nodes(entities, "rviz2")
    assert [view["namespace"] for view in views] == ["robot_1", "robot_2"]
    for view in views:
        remaps = dict(view["remappings"])
        assert remaps["/imagined/image_raw"] == f"/{view['namespace']}/imagined/image_raw"
        assert set(remaps) == set(re.findall(r"Value: (/[\w/]+)", Path(rviz_config()).read_text()))


def test_rviz_shows_the_mode_of_the_parameter_file(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "parameters.yaml"
    path.write_text("/robot_1/genie_simulator: {ros__parameters: {mode: shadow}}\n")
    given = {"model_path": "/m", "params_file": str(path), "namespaces": "robot_1 robot_2"}
    views = nodes(launch(**given), "rviz2")
    assert [view["arguments"][1] for view in views] == [rviz_config("shadow"), rviz_config()]
    assert views[0]["remappings"] == rviz_remaps("robot_1", "image_raw", "shadow")
    [first, _] = nodes(launch(**given, mode="step"), "rviz2")
    assert first["arguments"][1] == rviz_config()


def test_executables_files_and_parameters_exist(launch: Launch) -> None:
    setup = (PACKAGE / "setup.py").read_text()
    entities = launch(model_path="/m", mode="step", device="cpu", record="bag", large_images="true")
    for node in of_kind(entities, "Node"):
        if node["package"] == "genie_robot_ros":
            assert re.search(rf'"{node["executable"]} = genie_robot_ros\.\w+:main"', setup)
    names = {p.name for p in PARAMETERS} | {"use_sim_time"}
    [simulator] = nodes(entities, "genie_simulator")
    assert all(set(part) <= names for part in simulator["parameters"] if isinstance(part, dict))
    for item in walk(entities):
        if isinstance(item, Recorded) and item.kind == "PathJoinSubstitution":
            _, *parts = item.arguments[0]
            assert PACKAGE.joinpath(*parts).is_file(), parts
            assert f'shared("{parts[0]}")' in setup
    assert all(entity["description"] for entity in of_kind(entities, "DeclareLaunchArgument"))


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


@pytest.mark.skipif(
    not importlib.util.find_spec("launch_ros"), reason="launch comes with a system ROS 2 only; not on PyPI"
)
def test_the_real_launch_reads_it() -> None:
    from launch import LaunchContext
    from launch.actions import OpaqueFunction
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    description = get_launch_description_from_python_launch_file(str(LAUNCH_FILE))
    context = LaunchContext()
    for argument in description.get_launch_arguments():
        argument.execute(context)
    context.launch_configurations.update(model_path="/m", namespaces="robot_1 robot_2", record="bag")
    [opaque] = [entity for entity in description.entities if isinstance(entity, OpaqueFunction)]
    made = opaque.execute(context)
    assert made is not None and len(made) == 4  # the simulator, two RViz, the recorder
