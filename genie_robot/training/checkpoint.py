"""Checkpoints of a stage: torch.distributed.checkpoint folders, written in the background, whole or not at all.

    <stage>/checkpoints/step_00000250/   tensors in shards (readable by any number of processes), run.json
    <stage>/checkpoints/latest           link to the newest

A checkpoint is written under another name and renamed when every process has finished, so a kill at any moment
leaves the one before intact.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from genie_robot.errors import CheckpointError, DiskFullError
from genie_robot.training.parallel import ONE_PROCESS, Processes

log = logging.getLogger(__name__)
# Said from a thread at each save of a single process, which is no news to anyone.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PARTIAL = ".partial"
_RUN = "run.json"

Tensors = dict[str, Any]


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(
        path for path in folder.glob("step_*") if path.is_dir() and not path.name.endswith(_PARTIAL)
    )


class Checkpoints:
    """Checkpoints of one stage; one save may be under way at a time."""

    def __init__(self, folder: Path, keep: int, processes: Processes = ONE_PROCESS) -> None:
        self.folder, self.keep, self.processes = folder, keep, processes
        self._pending: Future[Any] | None = None
        self._step = 0
        if processes.is_first:
            for left in folder.glob(f"step_*{_PARTIAL}"):
                shutil.rmtree(left)

    def save(self, step: int, tensors: Tensors, run: dict[str, Any]) -> None:
        """Copy the state and write it in the background. Raises DiskFullError for this save or the one before."""
        self.wait()
        self._step = step
        partial = self._path(step, _PARTIAL)
        try:
            if self.processes.is_first:
                partial.mkdir(parents=True, exist_ok=True)
                (partial / _RUN).write_text(json.dumps(run, sort_keys=True) + "\n")
            self.processes.wait_for_all()
            future = dcp.async_save(
                tensors,
                checkpoint_id=str(partial),
                process_group=self.processes.background,
                no_dist=self.processes.world_size == 1,
            )
        except (OSError, RuntimeError, CheckpointException) as error:
            self._fail(error)
        assert isinstance(future, Future)
        self._pending = future

    def wait(self) -> Path | None:
        """End the save under way; returns its folder. Raises DiskFullError."""
        if self._pending is None:
            return None
        pending, self._pending = self._pending, None
        try:
            pending.result()
        except (OSError, RuntimeError, CheckpointException) as error:
            self._fail(error)
        path = self._path(self._step)
        if self.processes.is_first:
            self._publish(path)
        return path

    def poll(self) -> None:
        """Publish the save under way if it has ended; never waits."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def _path(self, step: int, suffix: str = "") -> Path:
        return self.folder / f"step_{step:08d}{suffix}"

    def _publish(self, path: Path) -> None:
        if path.exists():  # the same step again, after going on from an older checkpoint
            shutil.rmtree(path)
        os.replace(self._path(self._step, _PARTIAL), path)
        link = self.folder / "latest.new"
        link.unlink(missing_ok=True)
        link.symlink_to(path.name)
        os.replace(link, self.folder / "latest")
        for old in checkpoints(self.folder)[: -self.keep]:
            shutil.rmtree(old)

    def _fail(self, error: BaseException) -> None:
        """Remove what was written of a failed save and raise: DiskFullError with one line, else the error."""
        partial = self._path(self._step, _PARTIAL)
        shutil.rmtree(partial, ignore_errors=True)
        if not any(isinstance(e, OSError) and e.errno in _DISK_FULL for e in _causes(error)):
            raise error
        found = checkpoints(self.folder)
        then = f"goes on from {found[-1]}" if found else "starts again"
        raise DiskFullError(
            f"{self._path(self._step)}: no space to save step {self._step}; free some and run the same command again, "
            f"it {then}"
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, CheckpointException):
            for failure, _ in error.failures.values():
                yield from _causes(failure)
        error = error.__cause__ or error.__context__


def newest_run(folder: Path) -> dict[str, Any] | None:
    """What the newest readable checkpoint says of its run (step, loader position, configuration); None without one."""
    for path in reversed(checkpoints(folder)):
        try:
            return json.loads((path / _RUN).read_text())
        except (OSError, ValueError):
            continue
    return None


def load_newest(folder: Path, tensors: Tensors, processes: Processes = ONE_PROCESS) -> dict[str, Any] | None:
    """Fill `tensors` in place from the newest checkpoint that can be read, and return its run record.

    None when there is no checkpoint; CheckpointError when none can be read. Keys that are asked for must be there;
    others are left on disk, so weights can be read without the optimizer.
    """
    found = checkpoints(folder)
    reason: BaseException | None = None
    for path in reversed(found):
        try:
            run = json.loads((path / _RUN).read_text())
            dcp.load(tensors, checkpoint_id=str(path), no_dist=processes.world_size == 1)
            return run
        except (CheckpointException, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
            log.warning("%s cannot be read, trying the one before", path)
            reason = error
    if found:
        line = " ".join(str(reason).split())[:200]
        raise CheckpointError(
            f"{folder}: none of {len(found)} checkpoints can be read (last: {line}); delete the folder to start again"
        )
    return None


def load_weights(
    folder: Path, network: str, module: torch.nn.Module, averaged: bool
) -> dict[str, Any] | None:
    """Fill `module` with the weights of `network` in the newest checkpoint, averaged ones if the run kept them."""
    weights: dict[str, Tensor] = {f"{network}.{name}": t for name, t in module.state_dict().items()}
    wanted: Tensors = {"model": weights}
    if averaged:
        names = {name for name, _ in module.named_parameters()}
        wanted = {
            "model": {f"{network}.{n}": t for n, t in module.state_dict().items() if n not in names},
            "average": {f"{network}.{n}": t for n, t in module.state_dict().items() if n in names},
        }
    return load_newest(folder, {key: value for key, value in wanted.items() if value})
