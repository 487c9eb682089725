"""ament_pep257, without the rules that pyproject.toml leaves out for ruff too."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]
# D403 would write the name of a class in small letters
TASTE = ("D205", "D213", "D400", "D401", "D403", "D413", "D415")


def test_pep257() -> None:
    pep257 = pytest.importorskip(
        "ament_pep257.main", reason="rosdep install, or ros2_ws/requirements-ros.txt"
    )
    assert pep257.main(argv=["--add-ignore", *TASTE, "--", str(PACKAGE / PACKAGE.name)]) == 0
