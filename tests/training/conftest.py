"""A small real dataset (a square that moves, as RLDS files) and a recipe that trains on it in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.config import StageConfig, TrainConfig, TrainingConfig, from_dict, to_dict
from genie_robot.data.rlds_writer import write_dataset
from tests.invariants.conftest import small_config


def moving_square(num: int, seed: int) -> Iterator[dict[str, Any]]:
    """Episodes of 10 frames 16x24 in which a bright square moves by one of four steps."""
    rng = np.random.default_rng(seed)
    moves = np.array([(0, 2), (0, -2), (2, 0), (-2, 0)])
    for _ in range(num):
        frames = np.full((10, 16, 24, 3), rng.integers(20, 90, 3), np.uint8)
        place = rng.integers(2, 10, 2)
        for frame in frames:
            y, x = place = np.clip(place + moves[rng.integers(4)], 0, (12, 20))
            frame[y : y + 4, x : x + 4] = 230
        yield {"frames_TYXC": frames, "instruction": "move"}


@pytest.fixture(scope="session")
def square_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RLDS dataset with 12 training and 3 validation episodes."""
    root = tmp_path_factory.mktemp("squares")
    splits = {"train": moving_square(12, 0), "val": moving_square(3, 1)}
    return write_dataset(root, "squares", "1.0.0", splits, (16, 24), rate_hz=5.0)


@pytest.fixture
def make_config(square_data: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    """make_config(stage, output="run", steps=6, **hardware) -> TrainConfig."""

    def make(stage: str = "all", output: str = "run", steps: int = 6, **stage_fields: Any) -> TrainConfig:
        fields = {"steps": steps, "batch_size": 4, "num_frames": 6, "warmup_steps": 2, "optimizer": "muon"}
        recipe = StageConfig(**{**fields, "validate_every": 4, "checkpoint_every": 2, **stage_fields})
        pairs = StageConfig(**{**to_dict(recipe), "betas": (0.9, 0.99), "num_frames": 2})
        values = {
            "stage": stage,
            "output": str(tmp_path / output),
            "data": {"path": str(square_data), "cache": str(tmp_path / "cache")},
            "model": to_dict(small_config("tiny")),
            "training": to_dict(TrainingConfig(recipe, pairs, recipe)),
            "hardware": {"precision": "fp32", "threads": 1},
        }
        return from_dict(TrainConfig, values)

    return make


def with_fields(config: TrainConfig, **groups: dict[str, Any]) -> TrainConfig:
    """`config` with other fields in nested groups, e.g. model={"tokenizer": {"quantizer": "lfq"}}."""

    def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return old | {k: merged(old[k], v) if isinstance(v, dict) else v for k, v in new.items()}

    return from_dict(TrainConfig, merged(to_dict(config), groups))
