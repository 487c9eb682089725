"""How often a judge is right where the truth is known, and whether its probabilities mean what they say.

Shape legend: B films.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from genie_robot.errors import DataError
from genie_robot.evaluation.correction import JudgeErrors, judge_errors
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.evaluation.judges.protocol import Judge, Verdicts
from genie_robot.evaluation.judges.state_judge import is_success
from genie_robot.evaluation.probe_data import LabelledFrames

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """A judge against the truth. brier: mean squared error of its probability. ece: expected calibration error.

    invalid: share of films that it calls invalid; they are counted in the rest.
    """

    errors: JudgeErrors
    brier: float
    ece: float
    invalid: float

    @property
    def accuracy(self) -> float:
        """Share of films judged rightly."""
        e = self.errors
        return (e.found_successes + e.found_failures) / (e.successes + e.failures)


def calibrate(verdicts: Verdicts, truth_B: np.ndarray) -> Calibration:
    """Compare verdicts on B films with their true outcomes (B,) bool."""
    truth_B = np.asarray(truth_B, dtype=bool)
    probability_B = verdicts.probability_B
    return Calibration(
        judge_errors(verdicts.success_B, truth_B),
        brier=float(np.square(probability_B - truth_B).mean()),
        ece=expected_calibration_error(probability_B, truth_B),
        invalid=float(verdicts.invalid_B.mean()),
    )


def expected_calibration_error(probability_B: np.ndarray, truth_B: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of probability and frequency over equal bins, weighted by films (Guo et al. 2017, section 2).

    NaN where a probability is.
    """
    probability_B = np.asarray(probability_B, dtype=np.float64)
    if np.isnan(probability_B).any():
        return float("nan")
    bin_B = np.minimum((probability_B * bins).astype(int), bins - 1)
    gaps = [
        abs(probability_B[bin_B == k].sum() - np.asarray(truth_B)[bin_B == k].sum())
        for k in range(bins)
        if (bin_B == k).any()
    ]
    return float(np.sum(gaps) / len(probability_B))


def films_by_task(data: LabelledFrames) -> Iterator[tuple[str, np.ndarray]]:
    """(task, indices (B, T) of its films' frames); DataError for films of several lengths or of no known task."""
    for task in sorted(set(data.tasks_E)):
        if task not in data.suite.tasks:
            raise DataError(
                f"films of the task {task!r}; wanted datasets of one of {', '.join(data.suite.tasks)} each"
            )
        chosen = [k for k, name in enumerate(data.tasks_E) if name == task]
        lengths = {data.lengths_E[k] for k in chosen}
        if len(lengths) > 1:
            raise DataError(
                f"films of {task} have {min(lengths)} to {max(lengths)} frames; wanted one length"
            )
        yield task, data.starts_E[chosen, None] + np.arange(lengths.pop())


def judge_films(
    judge: Judge, data: LabelledFrames, frames_FYXC: np.ndarray | None = None
) -> dict[str, Calibration]:
    """Calibrate a judge on labelled films, by task and over all ("all").

    frames_FYXC: other pictures of the same films, such as a tokenizer's; by default the true ones.
    """
    frames = data.frames_FYXC if frames_FYXC is None else frames_FYXC
    verdicts, truths, result = [], [], {}
    for task, index_BT in films_by_task(data):
        verdicts.append(judge.judge(frames[index_BT], task))
        truths.append(is_success(data.suite, task, data.states_FS[index_BT]))
        result[task] = calibrate(verdicts[-1], truths[-1])
    fields = ("success_B", "score_B", "confidence_B", "invalid_B")
    together = Verdicts(*(np.concatenate([getattr(v, name) for v in verdicts]) for name in fields))
    return result | {"all": calibrate(together, np.concatenate(truths))}


def calibration_table(figures: dict[str, Calibration]) -> str:
    """Markdown table of `judge_films`' figures, with Wilson intervals of sensitivity and specificity."""
    head = "| task | films | successes | sensitivity | specificity | Brier | ECE | invalid |\n|" + "---|" * 8
    rows = [head]
    for task, c in figures.items():
        e = c.errors
        rows.append(
            f"| {task} | {e.successes + e.failures} | {e.successes} | {_share(e.found_successes, e.successes)} "
            f"| {_share(e.found_failures, e.failures)} | {c.brier:.3f} | {c.ece:.3f} | {c.invalid:.3f} |"
        )
    return "\n".join(rows)


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    low, high = wilson_interval(part, whole)
    return f"{part / whole:.3f} [{low:.3f}, {high:.3f}]"
