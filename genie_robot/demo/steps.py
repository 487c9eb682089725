"""Resumable steps: each keeps its result and a hash of what it was made from, and runs again only when that changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genie_robot.demo.memory import MemoryWatch
from genie_robot.errors import DiskFullError

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
REPOSITORY_ROOT = PACKAGE_ROOT.parent

Result = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """What a step may use: its own folder (emptied before a first run), the whole demo's folder, earlier results."""

    folder: Path
    root: Path
    results: Mapping[str, Result]
    say: Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One step: `run(context) -> result` (plain JSON values), done again when `inputs` or an earlier step changed.

    `resumable` steps keep their half-done folder after an interruption and go on in it by themselves.
    `optional` steps may fail without stopping the demo; the reason goes into the result under `skipped`.
    """

    name: str
    title: str
    run: Callable[[Context], Result]
    inputs: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    resumable: bool = False


@dataclass
class StepRecord:
    """What is kept of a finished step."""

    name: str
    hash: str
    duration_s: float
    peak_memory_gib: float
    result: Result
    reused: bool = field(default=False)


def hash_of(value: object) -> str:
    """Short hash of plain JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_files(paths: Iterable[Path]) -> str:
    """Short hash of the content of files and folders; a missing one counts as missing, not as an error."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts or file.suffix == ".pyc":
                continue
            digest.update(file.name.encode())
            digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()[:16]


def hash_sources(*parts: str) -> str:
    """Short hash of the package's own source files or folders, named relative to `genie_robot/`; each must be there."""
    missing = [part for part in parts if not (PACKAGE_ROOT / part).exists()]
    assert not missing, missing  # a file that was moved would never make a step run again
    return hash_files(PACKAGE_ROOT / part for part in parts)


def write_json(path: Path, value: object) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskFullError(
            f"could not write {path} ({error.strerror}); free some space and run it again"
        ) from error


def run_steps(steps: Iterable[Step], root: Path, *, force: bool = False) -> dict[str, StepRecord]:
    """Run `steps` in order in `root`, reusing those whose inputs did not change; returns their records by name."""
    steps = list(steps)
    records: dict[str, StepRecord] = {}
    for number, step in enumerate(steps, start=1):
        label = f"[{number}/{len(steps)}] {step.title}"
        wanted = hash_of({"inputs": dict(step.inputs), "needs": {n: records[n].hash for n in step.needs}})
        record = None if force else _stored(root, step.name, wanted)
        if record is not None:
            _say(f"{label}: done before in {record.duration_s:.0f} s, reused")
        else:
            record = _run_one(step, root, label, wanted, {n: r.result for n, r in records.items()}, force)
        records[step.name] = record
    return records


def _record_path(root: Path, name: str) -> Path:
    return root / "steps" / name / "step.json"


def _stored(root: Path, name: str, wanted: str) -> StepRecord | None:
    path = _record_path(root, name)
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text())
        record = StepRecord(**stored)
    except (ValueError, TypeError):  # written by another version: make it again
        return None
    record.reused = True
    return record if record.hash == wanted else None


def _run_one(
    step: Step, root: Path, label: str, wanted: str, results: Mapping[str, Result], force: bool
) -> StepRecord:
    folder = _record_path(root, step.name).parent
    unfinished = folder / "unfinished"  # holds the hash that a half-done folder was begun with
    goes_on = step.resumable and not force and unfinished.is_file() and unfinished.read_text() == wanted
    if not goes_on:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(wanted)
    _say(f"{label}{' (goes on where it was stopped)' if goes_on else ''} ...")
    started = time.monotonic()
    with MemoryWatch() as memory:
        result = step.run(
            Context(folder=folder, root=root, results=results, say=lambda text: _say(f"      {text}"))
        )
    duration_s = round(time.monotonic() - started, 2)
    record = StepRecord(step.name, wanted, duration_s, round(memory.peak_gib, 3), result)
    write_json(_record_path(root, step.name), {k: v for k, v in vars(record).items() if k != "reused"})
    unfinished.unlink()
    note = f", left out: {result['skipped']}" if "skipped" in result else ""
    _say(f"{label}: {duration_s:.0f} s, peak {memory.peak_gib:.2f} GiB{note}")
    return record


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
