"""The ROS packages say what they need and install what they have."""

from __future__ import annotations

import ast
import re
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

SOURCES = ROOT / "ros2_ws" / "src"
PYTHON_PACKAGES = ("genie_policy_client", "genie_robot_ros")
PACKAGES = ("genie_robot_interfaces", *PYTHON_PACKAGES)
#: Python package -> its rosdep key; pip brings genie_robot and torch, for which there is none
ROSDEP_KEYS = {
    "numpy": "python3-numpy",
    "cv2": "python3-opencv",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
FROM_PIP = {"genie_robot", "torch"}
#: needed at run time without being imported: what the launch files start
STARTED = {"rviz2", "tf2_ros", "python3-opencv"}


def manifest(package: str) -> ElementTree.Element:
    return ElementTree.parse(SOURCES / package / "package.xml").getroot()


def named(package: str, *tags: str) -> set[str]:
    return {element.text or "" for tag in tags for element in manifest(package).iter(tag)}


def imported(folder: Path) -> Iterator[str]:
    """Top-level names imported anywhere in a folder, the standard library left out."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = (name or "").partition(".")[0]
                if top not in sys.stdlib_module_names:
                    yield top


@pytest.mark.parametrize("package", PYTHON_PACKAGES)
def test_every_import_is_a_dependency_and_every_dependency_is_used(package: str) -> None:
    folder = SOURCES / package
    used = {name for part in (folder / package, folder / "launch") for name in imported(part)}
    used = {ROSDEP_KEYS.get(name, name) for name in used - FROM_PIP - {package}}
    needed = named(package, "exec_depend", "depend")
    assert used <= needed
    assert needed - used <= STARTED


def test_the_interfaces_build_with_what_they_declare() -> None:
    folder = SOURCES / "genie_robot_interfaces"
    cmake = (folder / "CMakeLists.txt").read_text()
    listed = set(re.findall(r'"(\w+/\w+\.(?:msg|srv|action))"', cmake))
    assert listed == {
        path.relative_to(folder).as_posix()
        for kind in ("msg", "srv", "action")
        for path in folder.glob(f"{kind}/*")
    }
    used = {
        package
        for path in folder.glob("*/*.*")
        for package in re.findall(r"^(\w+)/\w+", path.read_text(), flags=re.MULTILINE)
        if path.suffix in (".msg", ".srv", ".action")
    }
    depends = named(folder.name, "depend")
    assert used | {"action_msgs"} == depends  # every action uses goal ids and goal states
    found = set(re.findall(r"find_package\((\w+) REQUIRED\)", cmake))
    assert found == depends | named(folder.name, "buildtool_depend")


@pytest.mark.parametrize("package", PACKAGES)
def test_versions_licence_and_papers(package: str) -> None:
    folder, root = SOURCES / package, manifest(package)
    project = (ROOT / "pyproject.toml").read_text()
    assert root.findtext("version") == re.search(r'^version = "(.+)"', project, re.MULTILINE)[1]
    licence = root.find("license")
    assert licence is not None and licence.text == "Apache-2.0"
    assert (folder / licence.attrib["file"]).read_text() == (ROOT / "LICENSE").read_text()
    for paper in ("README.md", "QUALITY_DECLARATION.md", "CHANGELOG.rst"):
        assert package in (folder / paper).read_text(), paper


@pytest.mark.parametrize("package", PYTHON_PACKAGES)
def test_setup_agrees_with_the_manifest(package: str) -> None:
    folder, root = SOURCES / package, manifest(package)
    setup = (folder / "setup.py").read_text()
    for field in ("version", "description"):
        said = re.search(rf'{field}="(.+)",', setup)
        assert said and said[1] in (root.findtext(field) or "")
    assert (folder / "resource" / package).is_file()
    assert f"script_dir=$base/lib/{package}" in (folder / "setup.cfg").read_text()
    commands = re.findall(r'"\w+ = ([\w.]+):main"', setup)
    assert commands
    for module in commands:
        assert "\ndef main(" in (folder / f"{module.replace('.', '/')}.py").read_text(), module
