"""From the words of a configuration to clips of several datasets: mixtures, validation, what is too short."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genie_robot.config import TrainConfig
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import DataError
from genie_robot.training import checkpoint, run
from genie_robot.training.clip_sets import clip_sets
from genie_robot.training.parallel import ONE_PROCESS
from tests.training.conftest import moving_square, with_fields

MakeConfig = Callable[..., TrainConfig]


def test_a_mixture_trains_and_goes_on_bit_for_bit(
    make_config: MakeConfig, square_data: Path, tmp_path: Path
) -> None:
    """Two datasets, one at twice the rate; dynamics from tokens, stopped after four steps of six and continued."""
    fast = {split: (_twice(e) for e in moving_square(n, n)) for split, n in (("train", 6), ("val", 2))}
    write_dataset(tmp_path / "data", "fast_squares", "1.0.0", fast, (16, 24), rate_hz=10.0)
    (tmp_path / "mix.yaml").write_text(
        f"balanced: false\nparts:\n  - {{dataset: {square_data}, weight: 0.75}}\n"
        f"  - {{dataset: data/fast_squares, weight: 0.25, max_episodes: 5}}\n"
    )
    data = {"path": "", "mixture": str(tmp_path / "mix.yaml"), "tokens": True, "crop": 0.1, "colour": 0.1}

    def train(output: str, *steps: int) -> Path:
        for number in steps:
            folder = run.run(
                with_fields(make_config("all", output), data=data, training={"dynamics": {"steps": number}})
            )
        return folder

    whole, continued = train("whole", 6), train("continued", 4, 6)
    caches = tmp_path / "cache"
    assert sorted(path.name for path in (caches / "train").iterdir() if path.is_dir()) == [
        "fast_squares_16x24_5hz",
        "squares_16x24_5hz",
    ]
    assert len(list((caches / "tokens").glob("*/fast_squares_*/index.json"))) >= 1
    assert (whole / "model.safetensors").read_bytes() == (continued / "model.safetensors").read_bytes()
    state = checkpoint.newest_run(Path(whole).parent / "tokenizer" / "checkpoints")
    assert state is not None
    assert len(json.dumps(state["source"])) < 1000


def _twice(episode: dict[str, Any]) -> dict[str, Any]:
    return {**episode, "frames_TYXC": episode["frames_TYXC"].repeat(2, axis=0)}


def test_clips_that_are_too_short_for_a_later_stage_are_said_before_the_first(
    make_config: MakeConfig,
) -> None:
    config = make_config("all")
    long = with_fields(config, training={"dynamics": {"num_frames": 11}}, model={"video": {"num_frames": 11}})
    with pytest.raises(DataError, match="has 11 frames"):
        run.run(long)
    assert not (Path(config.output) / "tokenizer").exists()


def test_a_dataset_that_can_spare_no_episode_is_left_out_of_validation(
    make_config: MakeConfig, square_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_dataset(tmp_path / "data", "one", "1.0.0", {"train": moving_square(1, 3)}, (16, 24), rate_hz=5.0)
    (tmp_path / "mix.yaml").write_text(f"parts: [{{dataset: {square_data}}}, {{dataset: data/one}}]\n")
    config = with_fields(make_config("tokenizer"), data={"path": "", "mixture": str(tmp_path / "mix.yaml")})
    train, validation = clip_sets(config, tmp_path / "run", ONE_PROCESS, 6)
    assert [cache.dataset for cache in train.caches] == ["squares", "one"]
    assert [cache.dataset for cache in validation.caches] == ["squares"]
    assert "left out of validation: one has 1 training episode(s)" in caplog.text
    with pytest.raises(DataError, match="no val split"):
        clip_sets(
            with_fields(config, data={"mixture": "", "path": str(tmp_path / "data")}),
            tmp_path,
            ONE_PROCESS,
            6,
        )
