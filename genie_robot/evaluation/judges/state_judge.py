"""The primary judge: a state probe reads every frame, and MuJoCo's own success rule is applied to what it read."""

from __future__ import annotations

import hashlib

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation.judges.protocol import Verdicts
from genie_robot.evaluation.judges.validity import Limits, is_invalid, place_errors
from genie_robot.evaluation.probe import StateProbe, check_images
from genie_robot.simulation.success import success_step
from genie_robot.simulation.suites import Suite, get_suite

DRAWS = 16
"""How many times the reading errors are drawn to see whether the verdict depends on them."""
_STATIC = ("goal_x_m", "goal_y_m")


class StateJudge:
    """Probe -> states -> predicate, fulfilled in two frames in a row (evaluation.md section 5.1).

    The goal does not move in any task, so it is read as the median over the film: a hand in front of it for some frames
    does not matter. Films are invalid above the limits frozen on validation films; a probe without limits calls none so.
    """

    name = "state-probe"

    def __init__(self, probe: StateProbe, suite: str) -> None:
        """Make it for a suite; ConfigError for a probe that reads another suite's state."""
        self._probe, self._suite = probe, get_suite(suite)
        if tuple(probe.state_names) != self._suite.state_names:
            raise ConfigError(
                f"the probe reads {len(probe.state_names)} numbers ({', '.join(probe.state_names)[:80]}), the suite {suite} "
                f"has {len(self._suite.state_names)}; give a probe trained on this suite"
            )
        self._limits = Limits(**probe.limits) if probe.limits else None
        self.hash = _hash(probe)

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """Judge films uint8 (B, T, 64, 64, 3) of `task`; ConfigError, ImageError."""
        self._suite.check_task(task)
        check_images(frames_BTYXC, "the state judge")
        states_BTS, errors_BTS = self._probe.read(frames_BTYXC)
        static = [self._suite.state_names.index(name) for name in _STATIC]
        states_BTS[..., static] = np.median(states_BTS[..., static], axis=1, keepdims=True)
        uncertainty_BT = place_errors(errors_BTS, self._suite.state_names)
        success_B = is_success(self._suite, task, states_BTS)
        return Verdicts(
            success_B=success_B,
            score_B=np.where(success_B, 1.0, progress(self._suite, task, states_BTS)),
            confidence_B=self._confidence(task, states_BTS, errors_BTS, success_B),
            invalid_B=is_invalid(states_BTS, uncertainty_BT, self._limits),
            states_BTS=states_BTS,
            uncertainty_BT=uncertainty_BT,
        )

    def _confidence(
        self, task: str, states_BTS: np.ndarray, errors_BTS: np.ndarray, success_B: np.ndarray
    ) -> np.ndarray:
        """Share of DRAWS of the reading errors with which the verdict stays the same.

        The errors are drawn once a film, not once a frame: a thing that is read too far left is read so in all frames.
        """
        if np.isnan(errors_BTS).any():
            return np.full(len(states_BTS), np.nan)
        noise = np.random.default_rng(0).laplace(size=(DRAWS, 1, 1, states_BTS.shape[-1]))
        same = [success_B == is_success(self._suite, task, states_BTS + errors_BTS * draw) for draw in noise]
        return (np.sum(same, axis=0) + 1) / (DRAWS + 1)


def is_success(suite: Suite, task: str, states_BTS: np.ndarray) -> np.ndarray:
    """Whether each of B episodes fulfilled `task` by the rule of all worlds, from states (B, T, S); (B,) bool."""
    films = [[suite.task_success(task, state) for state in states_TS] for states_TS in states_BTS]
    return np.array([success_step(np.array(film)) > 0 for film in films], dtype=bool)


def progress(suite: Suite, task: str, states_BTS: np.ndarray) -> np.ndarray:
    """Share of the way to the goal that was made at best, 0..1, from states (B, T, S); (B,)."""
    distance_BT = np.array([[suite.goal_distance_m(task, s) for s in states_TS] for states_TS in states_BTS])
    start_B = np.maximum(distance_BT[:, 0], 1e-3)
    return np.clip(1.0 - distance_BT.min(axis=1) / start_B, 0.0, 1.0)


def _hash(probe: StateProbe) -> str:
    digest = hashlib.sha256(repr((probe.state_names, probe.limits)).encode())
    for name, value in sorted(probe.net.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()
