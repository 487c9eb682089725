"""Judges by name: a classifier's folder, or an entry point of the group `genie_robot.judges` (a user's own judge).

A package offers one by

    [project.entry-points."genie_robot.judges"]
    my-vlm = "my_package.judge:make_judge"

where `make_judge(suite: str)` returns a `Judge`. None is asked unless an evaluation names it: nothing here touches the
network by itself.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError, GenieError, PolicyError
from genie_robot.evaluation.judges.classifier import load_classifier
from genie_robot.evaluation.judges.protocol import Judge, Verdicts

GROUP = "genie_robot.judges"


def load_judge(name: str | Path, suite: str) -> Judge:
    """Open a judge: a folder, or a name of the entry point group `genie_robot.judges`. ConfigError, ModelFolderError."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if str(name) in found:
        return CheckedJudge(_make(found[str(name)], suite))
    if not Path(name).is_dir():
        known = f"; installed judges: {', '.join(sorted(found))}" if found else f"; no package offers {GROUP}"
        raise ConfigError(
            f"judge is {str(name)!r}, wanted the folder of a classifier or an installed judge's name{known}"
        )
    return load_classifier(name, suite)


def _make(entry: EntryPoint, suite: str) -> Any:
    try:
        judge = entry.load()(suite)
    except GenieError:
        raise
    except Exception as error:  # whatever a user's package does wrong
        raise ConfigError(
            f"judge {entry.name} ({entry.value}) could not be made ({type(error).__name__}: {error}); mend that package"
        ) from error
    if not callable(getattr(judge, "judge", None)) or not isinstance(getattr(judge, "name", None), str):
        raise ConfigError(
            f"judge {entry.name} ({entry.value}) made a {type(judge).__name__}; wanted an object with name, hash and "
            "judge(frames, task)"
        )
    return judge


class CheckedJudge:
    """A user's judge whose verdicts are checked before anything is counted."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self.name: str = judge.name
        self.hash = str(getattr(judge, "hash", ""))

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """Judge films uint8 (B, T, Y, X, 3); PolicyError when the judge raises or its verdicts have another form."""
        try:
            verdicts = self._judge.judge(frames_BTYXC, task)
            success, invalid = np.asarray(verdicts.success_B), getattr(verdicts, "invalid_B", None)
            invalid = (
                np.zeros(success.shape, dtype=bool) if invalid is None else np.asarray(invalid, dtype=bool)
            )
            score, confidence = (
                np.asarray(part, dtype=np.float64) for part in (verdicts.score_B, verdicts.confidence_B)
            )
        except Exception as error:
            raise PolicyError(
                f"judge {self.name} failed on {len(frames_BTYXC)} films of {task} ({type(error).__name__}: {error}); "
                "mend it or run without it"
            ) from error
        wanted = (len(frames_BTYXC),)
        if (
            any(part.shape != wanted for part in (success, score, confidence, invalid))
            or success.dtype != bool
            or not _are_shares(score, confidence)
        ):
            raise PolicyError(
                f"judge {self.name} gave {success.dtype} {success.shape}, score {score.shape}, confidence "
                f"{confidence.shape}, invalid {invalid.shape}; wanted bool {wanted}, two arrays {wanted} of numbers from 0 "
                f"to 1, and bool {wanted} if any; mend it"
            )
        return Verdicts(success, score, confidence, invalid)


def _are_shares(score: np.ndarray, confidence: np.ndarray) -> bool:
    known = np.concatenate([score.ravel(), confidence[~np.isnan(confidence)].ravel()])
    return bool(np.isfinite(known).all() and (known >= 0).all() and (known <= 1).all())
