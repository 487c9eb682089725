"""Ctrl-C and SIGTERM end a run between two steps, with everything saved."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the checkpoint was written."""


class StopOnSignal:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a step is never cut; the second one interrupts."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
