"""ament_flake8 with the settings of setup.cfg."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]


def test_flake8() -> None:
    flake8 = pytest.importorskip(
        "ament_flake8.main", reason="rosdep install, or ros2_ws/requirements-ros.txt"
    )
    code, errors = flake8.main_with_errors(argv=["--config", str(PACKAGE / "setup.cfg"), str(PACKAGE)])
    assert code == 0, "\n".join(errors)
