"""Small real things: a world model of random weights, simulated episodes, two untrained probes."""

from __future__ import annotations

import numpy as np
import pytest

from genie_robot.data.episode import Episode
from genie_robot.evaluation.probe import ProbePair, StateProbe
from genie_robot.evaluation.probe import untrained_probe as random_probe
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import fit_adapter
from genie_robot.simulation.mujoco.tasks import STATE_NAMES
from tests.small_models import small_world_model


@pytest.fixture(scope="session")
def model() -> WorldModel:
    return small_world_model()


@pytest.fixture(scope="session")
def episodes() -> list[Episode]:
    """Six simulated episodes of random play, 12 frames each, with actions and states."""
    pytest.importorskip("mujoco")
    from genie_robot.simulation.mujoco.behaviours import Play
    from genie_robot.simulation.mujoco.env import TabletopSimulator

    result, simulator = [], TabletopSimulator()
    for seed in range(6):
        rng = np.random.default_rng(500 + seed)
        simulator.reset(rng)
        play = Play(noise=True)
        play.reset(rng)
        frames, states, actions = [simulator.frame()], [simulator.state], []
        for _ in range(11):
            actions.append(play.act(simulator.state))
            simulator.step(actions[-1])
            frames.append(simulator.frame())
            states.append(simulator.state)
        actions.append(np.zeros(7, dtype=np.float32))
        result.append(
            Episode(
                np.stack(frames),
                0.2,
                f"test/{seed}",
                actions_TA=np.stack(actions).astype(np.float32),
                state_TS=np.stack(states),
            )
        )
    return result


def untrained_probe(seed: int) -> StateProbe:
    """A net of random weights that reads plausible states of the suite tabletop."""
    mean = np.array([0.4, 0, 0.1, 0.5, 0.4, 0, 0.03, 0.4, 0])
    scale = np.array([0.1, 0.1, 0.05, 0.5, 0.05, 0.06, 0.03, 0.05, 0.1])
    return random_probe(STATE_NAMES, mean, scale, seed)


@pytest.fixture(scope="session")
def probes() -> ProbePair:
    return ProbePair(untrained_probe(0), untrained_probe(1), hash="test")


@pytest.fixture(scope="session")
def adapter():
    from genie_robot.simulation.mujoco.behaviours import KEYS, key_action

    actions = np.stack([key_action(key) for key in KEYS] * 10)
    return fit_adapter(actions, np.tile(np.arange(8), 10), 8)
