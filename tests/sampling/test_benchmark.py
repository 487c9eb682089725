"""The benchmark compares like with like."""

from __future__ import annotations

import numpy as np

from genie_robot.sampling.benchmark import compare_cache
from tests.invariants.conftest import make_model


def test_both_ways_imagine_the_same_tokens_and_the_numbers_are_there() -> None:
    model = make_model("tiny").float()
    video = np.random.default_rng(0).integers(0, 256, (2, 6, 16, 24, 3), np.uint8)
    result = compare_cache(model, video, prompt_frames=2, steps=4, rounds=1)
    assert result["tokens_identical"] is True
    assert result["tokens_compared"] == 2 * 4 * 24
    assert result["speedup"] > 0 and result["cached_frames_per_s"] > 0
    assert (result["batch"], result["prompt_frames"], result["imagined_frames"]) == (2, 2, 4)
