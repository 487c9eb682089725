"""What a judge of films is, and what it says.

Shape legend: B films, T frames (the prompt frame first), Y X pixels, C channels, S numbers of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of B films.

    success_B: bool. score_B: progress, 0 (nothing done) to 1 (success). confidence_B: probability, in the judge's own
    eyes, that success_B is right; NaN where it has no idea. invalid_B: films that it cannot judge, because what they show
    is not readable or not possible; all False where it cannot tell.
    states_BTS, uncertainty_BT: what a judge that reads states read, and the position error that it expects [m].
    """

    success_B: np.ndarray
    score_B: np.ndarray
    confidence_B: np.ndarray
    invalid_B: np.ndarray
    states_BTS: np.ndarray | None = None
    uncertainty_BT: np.ndarray | None = None

    @property
    def probability_B(self) -> np.ndarray:
        """Probability of success in the judge's eyes, (B,)."""
        return np.where(self.success_B, self.confidence_B, 1.0 - self.confidence_B)


class Judge(Protocol):
    """Says of films whether a task was fulfilled. A user's own, such as a vision-language model, has this form too.

    name: what reports call it. hash: of all that decides its verdicts; reports print it.
    """

    name: str
    hash: str

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """Judge films uint8 (B, T, Y, X, 3) of `task`, a task's name as in `Suite.tasks`."""
        ...


def combine(primary: Verdicts, second: Verdicts) -> np.ndarray:
    """What both judges together say of B films: "success", "failure", or "undecided" where they differ; (B,) of str."""
    both = np.where(primary.success_B, "success", "failure")
    return np.where(primary.success_B == second.success_B, both, "undecided")
