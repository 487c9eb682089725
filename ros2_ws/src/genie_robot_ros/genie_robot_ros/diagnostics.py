"""What the node reports on /diagnostics. Pure: facts in, DiagnosticArray out."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from genie_robot.errors import GenieError

PROBLEM_SHOWN_S = 5.0


class ProblemLog:
    """Counts problems by kind and remembers the last one for a few seconds. Thread-safe."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._last: tuple[float, str] | None = None
        self._lock = threading.Lock()

    def add(self, kind: str, message: str, count: int = 1) -> None:
        """Count a problem; `kind` becomes a key of the diagnostics."""
        with self._lock:
            self._counts[kind] += count
            self._last = (time.monotonic(), message)

    def count(self, kind: str) -> int:
        """How many of this kind since the node started."""
        with self._lock:
            return self._counts[kind]

    def recent(self) -> str | None:
        """The last problem, if it is younger than five seconds."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > PROBLEM_SHOWN_S:
                return None
            return self._last[1]


def one_line(error: Exception) -> str:
    """An error as one line of a log: its message, with its type where we did not write the message."""
    text = " ".join(str(error).split())
    return text[:500] if isinstance(error, GenieError) and text else f"{type(error).__name__}: {text[:500]}"


def diagnostic_array(
    stamp: Time,
    node_name: str,
    hardware_id: str,
    error: str | None,
    world_problem: str | None,
    camera_problem: str | None,
    camera_error: str | None,
    state: str,
    world_values: Mapping[str, object],
    camera_values: Mapping[str, object],
) -> DiagnosticArray:
    """Two statuses, `<node>: world model` and `<node>: camera`; ERROR if the model could not be loaded or failed."""
    if error is not None:
        level, message = DiagnosticStatus.ERROR, error
    elif world_problem is not None:
        level, message = DiagnosticStatus.WARN, world_problem
    else:
        level, message = DiagnosticStatus.OK, state
    world = _status(
        f"{node_name}: world model", hardware_id, level, message, {"state": state, **world_values}
    )
    camera_level = DiagnosticStatus.OK if camera_problem is None else DiagnosticStatus.WARN
    if camera_error is not None:
        camera_level = DiagnosticStatus.ERROR
    camera = _status(
        f"{node_name}: camera",
        hardware_id,
        camera_level,
        camera_error or camera_problem or "ok",
        camera_values,
    )
    array = DiagnosticArray(status=[world, camera])
    array.header.stamp = stamp
    return array


def _status(
    name: str, hardware_id: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    pairs = [
        KeyValue(key=key, value=f"{value:.2f}" if isinstance(value, float) else str(value))
        for key, value in values.items()
    ]
    return DiagnosticStatus(name=name, hardware_id=hardware_id, level=level, message=message, values=pairs)
