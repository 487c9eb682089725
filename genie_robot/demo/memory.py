"""Peak memory of this process and everything it started, sampled from /proc, with a sign of life for long steps."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

PROC = Path("/proc")


def tree_memory_gib(root_pid: int | None = None) -> float:
    """Proportional memory (PSS: shared pages counted once) of a process and all its descendants, in GiB.

    Falls back to this process's own peak resident size where /proc has no smaps_rollup (not Linux).
    """
    root_pid = os.getpid() if root_pid is None else root_pid
    if not (PROC / str(os.getpid()) / "smaps_rollup").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return sum(_pss_kib(pid) for pid in _descendants(root_pid)) / 2**20


def _descendants(root_pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # ended in between
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    family, grown = {root_pid}, True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in family} - family
        family |= children
        grown = bool(children)
    return family


def _pss_kib(pid: int) -> int:
    try:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:  # ended in between, or another user's
        pass
    return 0


class MemoryWatch:
    """Context manager that samples `tree_memory_gib` every `interval_s` seconds; `peak_gib` is the highest seen."""

    def __init__(self, interval_s: float = 1.0) -> None:
        self.interval_s = interval_s
        self.peak_gib = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.peak_gib = max(self.peak_gib, tree_memory_gib())

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.peak_gib = max(self.peak_gib, tree_memory_gib())
            self._stop.wait(self.interval_s)
