"""What made a result: commit, versions, processor."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("genie_robot", "torch", "numpy", "mujoco")


@cache  # asked for at each checkpoint
def git_hash() -> str:
    """Commit of the working copy, "unknown" outside of one."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu_name() -> str:
    """Model name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def provenance() -> dict[str, str]:
    """Commit, Python and package versions ("" for one that is not installed) and processor of this process."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = ""
    return {"commit": git_hash(), "python": platform.python_version(), **versions, "cpu": cpu_name()}


def made_with_text(entries: Iterable[Mapping[str, str]]) -> str:
    """Entries of `provenance` on one line, the versions that decide most; "unknown" for none."""
    texts = (f"commit {made['commit']}, torch {made['torch']}, {made['cpu']}" for made in entries)
    return "; ".join(texts) or "unknown"
