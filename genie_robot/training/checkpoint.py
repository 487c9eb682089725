"""Checkpoints: written whole or not at all, so that a kill at any moment leaves the one before intact."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from genie_robot.errors import CheckpointError, DiskFullError

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def save(folder: Path, step: int, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `folder/step_<step>.pt` atomically and keep the newest `keep`. Raises DiskFullError."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{step:08d}.pt"
    partial = path.with_suffix(".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause.errno in _DISK_FULL:
            newest = (checkpoints(folder) or ["none"])[-1]
            raise DiskFullError(
                f"{path}: no space to save step {step}; free some and run the same command again, "
                f"it goes on from {newest}"
            ) from error
        raise
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(folder.glob("step_*.pt"))


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; None when there is none. Raises CheckpointError when none can."""
    found = checkpoints(folder)
    reason: Exception | None = None
    for path in reversed(found):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            reason = error
    if found:
        raise CheckpointError(
            f"{folder}: none of {len(found)} checkpoints can be read (last: {reason}); "
            "delete the folder to start again"
        )
    return None
