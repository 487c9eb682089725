from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.data.rlds_writer import write_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
STATE_NAMES = ("ee_x_m", "ee_y_m", "gripper")


def make_episode(
    number: int, num_frames: int, image_hw: tuple[int, int] = (24, 32), **more: Any
) -> dict[str, Any]:
    """An episode whose every frame is unique: noise, with the episode and frame numbers in the corner pixel."""
    rng = np.random.default_rng([number, num_frames])
    frames = rng.integers(0, 256, (num_frames, *image_hw, 3), dtype=np.uint8)
    for step in range(num_frames):
        frames[step, 0, 0] = (number % 256, step % 256, 7)
    episode = {
        "frames_TYXC": frames,
        "actions": rng.normal(size=(max(num_frames - 1, 0), 7)).astype(np.float32),
        "rewards": np.arange(num_frames, dtype=np.float32),
        "instruction": f"schiebe den W\u00fcrfel {number} \u2192 \U0001f7e5",
        "state": rng.normal(size=(num_frames, len(STATE_NAMES))).astype(np.float32),
        "success": number % 2 == 0,
        "attributes": {"task_family_name": "push", "env": -number},
    }
    return {**episode, **more}


def make_episodes(lengths: list[int], **more: Any) -> Iterator[dict[str, Any]]:
    return (make_episode(number, length, **more) for number, length in enumerate(lengths))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a little dataset: write(train=[5, 6], val=[3]) -> builder directory."""

    def writer(
        name: str = "toy", encoding: str = "png", shard_bytes: int = 10**8, **splits: list[int]
    ) -> Path:
        parts = {split: make_episodes(lengths) for split, lengths in splits.items()}
        return write_dataset(
            tmp_path / "data",
            name,
            "0.1.0",
            parts,
            (24, 32),
            5.0,
            encoding=encoding,
            state_names=STATE_NAMES,
            shard_bytes=shard_bytes,
        )

    return writer


@pytest.fixture
def record_spans() -> Callable[[Path], list[tuple[int, int]]]:
    """(offset of the payload, its length) of each record of a healthy shard."""

    def spans_of(shard: Path) -> list[tuple[int, int]]:
        content, spans, offset = shard.read_bytes(), [], 0
        while offset < len(content):
            (length,) = struct.unpack_from("<Q", content, offset)
            spans.append((offset + 12, length))
            offset += 16 + length
        return spans

    return spans_of


@pytest.fixture
def shared_dataset() -> Callable[[str], Path]:
    """A real dataset from the data folder beside the repository (or GENIE_ROBOT_SHARED_DATA); skips without it."""

    def find(name: str) -> Path:
        root = Path(os.environ.get("GENIE_ROBOT_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(
                f"no real robot data at {root / name}: set GENIE_ROBOT_SHARED_DATA to a folder with {name}"
            )
        return root / name

    return find


@pytest.fixture
def new_episode() -> Callable[..., dict[str, Any]]:
    """make_episode(number, num_frames, image_hw, **changed keys), for tests that write their own dataset."""
    return make_episode
