"""The world `tokenizer`: what happens is MuJoCo's, what is seen is made of tokens."""

from __future__ import annotations

import numpy as np
import pytest

from genie_robot.evaluation.worlds import MujocoWorld, Recorded, TokenizerWorld, roll_out
from genie_robot.simulation.suites import FIRST_SEED, get_suite

pytest.importorskip("mujoco")

SEEDS = (FIRST_SEED, FIRST_SEED + 1)
STEPS = 6


def test_states_are_those_of_mujoco_and_images_those_of_the_tokens(model) -> None:
    suite = get_suite("tabletop")
    actions = np.random.default_rng(0).uniform(-1, 1, (2, STEPS, 7)).astype(np.float32)
    recorded = Recorded(list(actions), ["ok", "ok"], ["", ""])
    truth = roll_out(MujocoWorld(suite, "push", SEEDS), recorded, SEEDS, STEPS)
    seen = roll_out(TokenizerWorld(suite, "push", SEEDS, model), recorded, SEEDS, STEPS)

    assert truth.states_BTK is not None and np.ptp(truth.states_BTK, axis=1).max() > 0.01
    np.testing.assert_array_equal(seen.states_BTK, truth.states_BTK)
    np.testing.assert_array_equal(seen.frames_BTYXC[:, 0], truth.frames_BTYXC[:, 0])
    window = model.config.video.num_frames
    for step in range(1, STEPS + 1):
        recent = truth.frames_BTYXC[:, max(0, step + 1 - window) : step + 1]
        np.testing.assert_array_equal(seen.frames_BTYXC[:, step], model.decode(model.encode(recent))[:, -1])
        assert (seen.frames_BTYXC[:, step] != truth.frames_BTYXC[:, step]).any()
