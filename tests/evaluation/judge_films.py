"""Films for the judges' tests: pictures in which the truth can be seen, with states that follow the suite's rules."""

from __future__ import annotations

import numpy as np

from genie_robot.evaluation.probe import StateProbe, untrained_probe
from genie_robot.evaluation.probe_data import LabelledFrames
from genie_robot.simulation.suites import get_suite

SUITE = get_suite("manipulation")
LENGTH = 8


def reach_states(approach_BT: np.ndarray) -> np.ndarray:
    """States (B, T, 14) in which the fingertips are `approach_BT` metres from the point to reach."""
    states = np.zeros((*approach_BT.shape, 14), np.float32)
    states[..., 0:3] = (0.4, 0.0, 0.078)
    states[..., 4:7] = (0.4, 0.0, 0.028)
    states[..., 7:9] = (0.4, 0.1)
    states[..., 1] += approach_BT
    return states


def labelled_films(count: int = 24, seed: int = 0) -> LabelledFrames:
    """Films of reach: every second one gets there. A frame's brightness is the distance that is left."""
    rng = np.random.default_rng(seed)
    ends_B = np.where(np.arange(count) % 2, 0.0, 0.12)
    away_BT = np.linspace(np.full(count, 0.18), ends_B, LENGTH - 2, axis=1)
    away_BT = np.concatenate([away_BT, np.tile(ends_B[:, None], (1, 2))], axis=1)
    frames = rng.integers(0, 20, (count, LENGTH, 64, 64, 3))
    frames += (1200 * away_BT[..., None, None, None]).astype(int)
    actions = np.zeros((count, LENGTH, 7), np.float32)
    actions[..., 1] = np.where(np.arange(count) % 2, -1.0, -0.3)[:, None] + 0.05 * rng.normal(size=(count, 1))
    return LabelledFrames(
        SUITE,
        frames.astype(np.uint8).reshape(-1, 64, 64, 3),
        reach_states(away_BT).reshape(-1, 14),
        actions.reshape(-1, 7),
        (LENGTH,) * count,
        ("reach",) * count,
    )


class KnowingProbe(StateProbe):
    """A probe that reads given states (B, T, S), whatever it sees, and expects errors of `error_m` everywhere."""

    def __init__(self, states_BTS: np.ndarray, error_m: float = 0.001, limits: dict | None = None) -> None:
        names = SUITE.state_names
        base = untrained_probe(names, np.zeros(len(names)), np.ones(len(names)), 0)
        super().__init__(base.net, base.mean_S, base.scale_S, 0, tuple(names), limits)
        self._states, self._error = states_BTS, error_m

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._states.copy(), np.full(self._states.shape, self._error, np.float32)


def black(states_BTS: np.ndarray) -> np.ndarray:
    """Black films of the states' number and length."""
    return np.zeros((*states_BTS.shape[:2], 64, 64, 3), np.uint8)
