"""The README and the docs name only what exists: links, make targets, commands, modules."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from genie_robot.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_exist(page: Path) -> None:
    named = set(re.findall(r"(?:^|`)genie-robot ([a-z]+)", page.read_text(), flags=re.MULTILINE))
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_imported_modules_exist(page: Path) -> None:
    named = set(re.findall(r"^(?:from|import) (genie_robot[\w.]*)", page.read_text(), flags=re.MULTILINE))
    if any(module.startswith("genie_robot_interfaces") for module in named):
        pytest.importorskip("genie_robot_interfaces", reason="made by `make ros`")
    assert [module for module in named if importlib.util.find_spec(module) is None] == []


def test_readme_begins_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text.split("##")[0]
    assert "make test" in text.split("##")[0]
