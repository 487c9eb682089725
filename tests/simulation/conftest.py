"""What the tests of action interfaces share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.small_models import small_world_model


@pytest.fixture(scope="module")
def mixed_model() -> Any:
    """A model that takes codes of one to three levels, vectors and robot actions."""
    return small_world_model(robot_action_dim=7, num_codebooks=3)


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters and decoders of a few steps."""
    monkeypatch.setattr("genie_robot.simulation.interfaces.networks._STEPS", 600)
