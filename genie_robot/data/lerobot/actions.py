"""LeRobot's actions in the common convention, where their names say what they are. No LeRobot file needed: pure numpy.

The format gives names but no units or frames, so only seven end-effector deltas are read: three translations, three
rotations and a gripper. What the numbers mean is decided once for a dataset, from these in turn:

- a name the registry knows: units, rotation and gripper are those of its entry;
- names that say "delta": metres and radians. Plain x, y, z, roll, pitch, yaw, gripper (as the conversions of Open
  X-Embodiment have them) may also be absolute poses or joystick units, so the dataset's statistics must stay below `MAX_STEP_M`;
- the gripper of a dataset that the registry does not know: as the caller says (`GRIPPERS`), else left out (0, keep). Its
  numbers do not tell: from 0 to 1, some datasets mean how far it is open, and some how far closed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.actions import convert
from genie_robot.data.registry import FACTS, ActionLayout
from genie_robot.errors import ConfigError, DataError

log = logging.getLogger(__name__)

MAX_STEP_M = 0.2
#: what a gripper's number can say: +1 close, -1 open, 0 keep; 0 to 1 how far closed or open; or by its sign
GRIPPERS = ("step", "closed", "open", "close_positive", "open_positive")
_TRANSLATION, _EULER, _VECTOR = ("x", "y", "z"), ("roll", "pitch", "yaw"), ("rx", "ry", "rz")
_DELTA_PREFIX = re.compile(r"^(?:(?:ee|eef|end_effector|motor|action)[._])*(?:delta|d)[._]?")


def flat_names(feature: Mapping[str, Any]) -> list[str]:
    """Names of a feature's numbers: a list, {"motors": [...]} or {"delta_x": 0, ...}; empty when there are none."""
    names = feature.get("names") or []
    if isinstance(names, Mapping):
        values = list(names.values())
        if values and all(isinstance(value, int) for value in values):
            return sorted(names, key=lambda name: names[name])
        names = values[0] if values else []
    return [str(name) for name in names] if isinstance(names, list) else []


class DeltaActions:
    """How a dataset's action column becomes the common convention; DataError when it is not known to hold such deltas.

    `name`: to ask the registry by. `gripper`: one of `GRIPPERS` for a dataset that it does not know; ConfigError for another.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any], name: str, gripper: str | None = None) -> None:
        if gripper is not None and gripper not in GRIPPERS:
            raise ConfigError(f"gripper is {gripper!r}; wanted one of {', '.join(GRIPPERS)}")
        features = info["features"]
        self.column = next((key for key in ("action", "actions") if key in features), "")
        names = flat_names(features.get(self.column, {}))
        stems = [_DELTA_PREFIX.sub("", name.lower()).removesuffix(".pos") for name in names]
        layout = tuple(stems[:3]), tuple(stems[3:6]) in (_EULER, _VECTOR), tuple(stems[6:])
        if layout != (_TRANSLATION, True, ("gripper",)):
            raise DataError(
                f"{folder}: its actions are {', '.join(names) or 'without names'}; wanted seven end-effector deltas "
                "(x y z, roll pitch yaw or rx ry rz, gripper): read it without actions"
            )
        turn = "vector" if tuple(stems[3:6]) == _VECTOR else "rpy"
        self._layout = ActionLayout(
            "delta", "action[0:3]", "action[3:6]", turn, "action[6]", gripper or "step"
        )
        if name in FACTS:
            self._as_registered(folder, name)
        else:
            if not all(_DELTA_PREFIX.match(name.lower()) for name in names[:3]):
                _check_size(folder, self.column)
            if gripper is None:
                self._layout = replace(self._layout, gripper="")
        one = self._layout
        meaning = one.gripper_as if one.gripper else "left out: say what it means to have it"
        log.info(
            "%s: reading actions %s as deltas (%g m, %g rad, rotation %s; gripper %s)",
            folder,
            ", ".join(names),
            one.metres,
            one.radians,
            one.rotation_as,
            meaning,
        )

    def _as_registered(self, folder: Path, name: str) -> None:
        """Take what the registry says of the dataset this folder is named as."""
        deltas = [one for one in FACTS[name].actions if one.kind == "delta"]
        if not deltas:
            raise DataError(
                f"{folder}: the registry knows no end-effector deltas among the actions of {name}: read it without actions"
            )
        known = deltas[0]
        self._layout = replace(self._layout, metres=known.metres, radians=known.radians)
        if known.rotation_as in ("rpy", "vector"):
            self._layout = replace(self._layout, rotation_as=known.rotation_as)
        in_action = known.gripper.startswith("action")
        self._layout = replace(
            self._layout, gripper="action[6]" if in_action else "", gripper_as=known.gripper_as
        )

    def common(self, actions_NA: np.ndarray) -> np.ndarray:
        """Stored actions (N, 7) -> common convention (N, 7); DataError for numbers that are not finite."""
        if not np.isfinite(actions_NA).all():
            raise DataError("an action is NaN or infinity; wanted finite numbers")
        return convert(self._layout, {"steps/action": np.asarray(actions_NA, np.float64)})


def _check_size(folder: Path, column: str) -> None:
    """DataError unless the dataset's statistics say that no step is too long for a delta in metres."""
    lows, highs = _extremes(folder, column)
    if not lows:
        raise DataError(
            f'{folder}: the names of its actions do not say "delta", and meta/stats.json is not there to tell; '
            "fetch it, or read it without actions"
        )
    longest = max(abs(number) for row in (*lows, *highs) for number in row[:3])
    if not longest <= MAX_STEP_M:
        raise DataError(
            f'{folder}: a step of {longest:.2f} is no delta in metres (its names do not say "delta"); '
            "wanted end-effector deltas: read it without actions"
        )


def _extremes(folder: Path, column: str) -> tuple[list[list[float]], list[list[float]]]:
    """Rows of smallest and of largest actions: of the dataset, or of each episode; empty without statistics."""
    stats, per_episode = folder / "meta" / "stats.json", folder / "meta" / "episodes_stats.jsonl"
    try:
        if stats.is_file():
            tables = [json.loads(stats.read_text(encoding="utf-8"))]
        else:
            lines = per_episode.read_text(encoding="utf-8").splitlines() if per_episode.is_file() else []
            tables = [json.loads(line)["stats"] for line in lines if line.strip()]
        lows, highs = ([[float(n) for n in t[column][key]] for t in tables] for key in ("min", "max"))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{folder / 'meta'}: the statistics cannot be read ({error!r}); fetch them again"
        ) from error
    return lows, highs
