"""Keeping pace with a clock: which command is in force, and what becomes of ticks that a late model misses. No ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Command:
    """A latent action `code`, or a robot action `vector` (7,) in SI units; `stamp_ns` is its header's."""

    stamp_ns: int
    code: int = -1
    vector: np.ndarray | None = None


class HeldCommand:
    """The newest command, in force until it is too old: as the watchdog of a robot base does. Thread-safe."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._newest: tuple[Command, float] | None = None
        self._is_used = True

    def put(self, command: Command) -> Command | None:
        """Take a command; returns the one before it, if that was never used."""
        with self._lock:
            superseded = None if self._is_used or self._newest is None else self._newest[0]
            self._newest, self._is_used = (command, self._now_s()), False
            return superseded

    def get(self, timeout_s: float) -> Command | None:
        """The command in force; None if there is none or it came more than `timeout_s` ago (0: no limit)."""
        with self._lock:
            if self._newest is None:
                return None
            command, came_s = self._newest
            if timeout_s > 0 and self._now_s() - came_s > timeout_s:
                return None
            self._is_used = True
            return command

    def take_expired(self, timeout_s: float) -> Command | None:
        """The newest command, if it came more than `timeout_s` ago and was never used; it is then forgotten."""
        with self._lock:
            if self._newest is None or self._is_used or timeout_s <= 0:
                return None
            command, came_s = self._newest
            if self._now_s() - came_s <= timeout_s:
                return None
            self._newest, self._is_used = None, True
            return command

    def clear(self) -> Command | None:
        """Forget the command, as after a reset; returns it if it was never used."""
        with self._lock:
            unused = None if self._is_used or self._newest is None else self._newest[0]
            self._newest, self._is_used = None, True
            return unused


class Ticks:
    """Decides at each tick of the clock whether a step may begin, and counts what a late model misses. Thread-safe.

    Policy `slow`: no step is skipped, the next one follows at once, imagined time falls behind the clock; `late` counts
    the ticks that found the model at work. Policy `drop`: missed ticks are skipped and counted in `dropped`; stamps jump
    over them, and so keep pace.
    """

    def __init__(self) -> None:
        self.late = self.dropped = 0
        self._lock = threading.Lock()
        self._at_work = False
        self._missed = 0

    def begin(self) -> bool:
        """A tick: True if a step may begin now."""
        with self._lock:
            if self._at_work:
                self.late += 1
                self._missed += 1
                return False
            self._at_work = True
            return True

    def take_missed(self) -> int:
        """Policy `drop`, before a step: how many ticks its stamp must jump over."""
        with self._lock:
            missed, self._missed = self._missed, 0
            self.dropped += missed
            return missed

    def forget_missed(self) -> None:
        """What was missed belongs to another episode."""
        with self._lock:
            self._missed = 0

    def end(self, policy: str) -> bool:
        """The step is done; True if another one begins at once, because a tick was missed and the policy is `slow`."""
        with self._lock:
            self._at_work = policy == "slow" and self._missed > 0
            if self._at_work:
                self._missed = 0
            return self._at_work
