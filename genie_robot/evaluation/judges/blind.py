"""Judges that do not look: how well can success be guessed without seeing what happened (evaluation.md section 5.5).

A judge that agrees with MuJoCo no better than these has learned what usually happens, not what did.

Shape legend: B films, T frames, S steps, A numbers of an action, K features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation.judges.calibration import Calibration, calibrate, films_by_task
from genie_robot.evaluation.judges.protocol import Judge, Verdicts
from genie_robot.evaluation.judges.state_judge import is_success
from genie_robot.evaluation.probe_data import LabelledFrames

T = TypeVar("T")
_GRID, _RIDGE, _NEWTON_STEPS = 16, 1.0, 20


class TaskFloor:
    """Knows the task and how long the film is: how often training films of the task had succeeded by then."""

    name = "task and duration"
    hash = ""

    def __init__(self, rates: Mapping[str, np.ndarray]) -> None:
        """rates: task -> share of films that have succeeded by their frame 1, 2, ... (T,)."""
        self.rates = rates

    @classmethod
    def fit(cls, data: LabelledFrames) -> TaskFloor:
        """Count the successes of labelled films."""
        return cls(
            {
                task: np.array(
                    [is_success(data.suite, task, states[:, :t]).mean() for t in range(1, index.shape[1] + 1)]
                )
                for task, index in films_by_task(data)
                for states in [data.states_FS[index]]
            }
        )

    def rate(self, task: str, length: int) -> float:
        """Share of films of a task that had succeeded after `length` frames; ConfigError for a task it does not know."""
        rates = _of_task(self.rates, task)
        return float(rates[min(length, len(rates)) - 1])

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """The same verdict for every film of a task and length."""
        return _guesses(np.full(len(frames_BTYXC), self.rate(task, frames_BTYXC.shape[1])))


class FirstFrameFloor:
    """Knows the task and sees the first frame alone: a ridge logistic regression on its pixels, at 16x16."""

    name = "first frame"
    hash = ""

    def __init__(self, data: LabelledFrames) -> None:
        self._models = {
            task: Logistic.fit(
                _pixels(data.frames_FYXC[index[:, 0]]), is_success(data.suite, task, data.states_FS[index])
            )
            for task, index in films_by_task(data)
        }

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """Guess from the first frames of films (B, T, Y, X, 3)."""
        return _guesses(_of_task(self._models, task).probability(_pixels(frames_BTYXC[:, 0])))


class ShuffledFloor:
    """Another judge on films whose frames are in random order: what it says without the course of events."""

    hash = ""

    def __init__(self, judge: Judge, seed: int = 0) -> None:
        self._judge, self._seed, self.name = judge, seed, f"shuffled frames, {judge.name}"

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """Judge films (B, T, Y, X, 3), each in an order of its own; the first frame stays."""
        rng = np.random.default_rng(self._seed)
        order_BT = rng.permuted(np.tile(np.arange(1, frames_BTYXC.shape[1]), (len(frames_BTYXC), 1)), axis=1)
        order_BT = np.concatenate([np.zeros((len(order_BT), 1), dtype=int), order_BT], axis=1)
        return self._judge.judge(frames_BTYXC[np.arange(len(order_BT))[:, None], order_BT], task)


class ActionFloor:
    """Sees no film at all but the robot's actions: a ridge logistic regression on summaries of them.

    The baseline that needs no world model: a policy that moves like an expert is taken for one. All policies of a seed
    start from the same frame, so of the floors only this one and the shuffled frames can tell policies apart.
    """

    name = "actions only"

    def __init__(self, models: Mapping[str, Logistic]) -> None:
        """models: task -> the regression on `summarise_actions`."""
        self.models = models

    @classmethod
    def fit(cls, data: LabelledFrames) -> ActionFloor:
        """Learn from labelled films which actions go with success."""
        return cls(
            {
                task: Logistic.fit(
                    summarise_actions(data.actions_FA[index[:, :-1]]),
                    is_success(data.suite, task, data.states_FS[index]),
                )
                for task, index in films_by_task(data)
            }
        )

    def probability(self, actions_BSA: np.ndarray, task: str) -> np.ndarray:
        """Probability of success (B,) of episodes with these robot actions (B, S, 7)."""
        return _of_task(self.models, task).probability(summarise_actions(actions_BSA))

    def calibrate(self, data: LabelledFrames) -> Calibration:
        """Compare its guesses with labelled films, of which it takes the actions alone; over all tasks."""
        guessed, truth = [], []
        for task, index_BT in films_by_task(data):
            guessed.append(self.probability(data.actions_FA[index_BT[:, :-1]], task))
            truth.append(is_success(data.suite, task, data.states_FS[index_BT]))
        return calibrate(_guesses(np.concatenate(guessed)), np.concatenate(truth))


def summarise_actions(actions_BSA: np.ndarray) -> np.ndarray:
    """Features (B, K): mean and spread of every action number in each third of the episode, and grip commands."""
    thirds = np.array_split(np.asarray(actions_BSA, dtype=np.float64), 3, axis=1)
    parts = [f for third in thirds for f in (third.mean(axis=1), third.std(axis=1))]
    grip = actions_BSA[..., -1]
    return np.concatenate(
        [*parts, (grip > 0.5).mean(axis=1)[:, None], (grip < -0.5).mean(axis=1)[:, None]], axis=1
    )


def blind_judges(data: LabelledFrames, seeing: Sequence[Judge] = ()) -> list[Judge]:
    """The floors fitted on labelled films, and each of `seeing` on shuffled frames."""
    return [TaskFloor.fit(data), FirstFrameFloor(data), *(ShuffledFloor(judge) for judge in seeing)]


@dataclass(frozen=True)
class Logistic:
    """Ridge logistic regression on standardised features: mean_K, scale_K, and a weight for each and the intercept."""

    mean_K: np.ndarray
    scale_K: np.ndarray
    weight: np.ndarray

    @classmethod
    def fit(cls, features_BK: np.ndarray, success_B: np.ndarray) -> Logistic:
        """Newton's method; the intercept is not penalised."""
        flat = cls(
            features_BK.mean(axis=0), features_BK.std(axis=0) + 1e-6, np.zeros(features_BK.shape[1] + 1)
        )
        x, y, weight = flat._design(features_BK), np.asarray(success_B, dtype=np.float64), flat.weight
        penalty = _RIDGE * len(y) / 10 * np.eye(x.shape[1])
        penalty[-1, -1] = 1e-3
        for _ in range(_NEWTON_STEPS):
            p = _sigmoid(x @ weight)
            curve = (x * (p * (1 - p))[:, None]).T @ x + penalty
            weight = weight + np.linalg.solve(curve, x.T @ (y - p) - penalty @ weight)
        return replace(flat, weight=weight)

    def probability(self, features_BK: np.ndarray) -> np.ndarray:
        """Probability (B,)."""
        return _sigmoid(self._design(features_BK) @ self.weight)

    def _design(self, features_BK: np.ndarray) -> np.ndarray:
        scaled = (features_BK - self.mean_K) / self.scale_K
        return np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30, 30)))


def _pixels(frames_BYXC: np.ndarray) -> np.ndarray:
    batch, height, width, _ = frames_BYXC.shape
    blocks = frames_BYXC.reshape(batch, _GRID, height // _GRID, _GRID, width // _GRID, 3)
    return blocks.mean(axis=(2, 4)).reshape(batch, -1) / 255.0


def _of_task(fitted: Mapping[str, T], task: str) -> T:
    if task not in fitted:
        raise ConfigError(f"task is {task!r}, wanted one that the floor was fitted on: {', '.join(fitted)}")
    return fitted[task]


def _guesses(probability_B: np.ndarray) -> Verdicts:
    success_B = probability_B > 0.5
    return Verdicts(
        success_B,
        probability_B,
        np.where(success_B, probability_B, 1 - probability_B),
        np.zeros(len(success_B), bool),
    )
