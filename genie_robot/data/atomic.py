"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from genie_robot.errors import DiskFullError

log = logging.getLogger(__name__)


@contextmanager
def whole_file(target: Path, writer: str = "") -> Iterator[BinaryIO]:
    """Give a file to write into that takes the place of `target` when the block ends well, else is removed.

    Processes that may write the same target at once need different names `writer`. DiskFullError when space runs out.
    """
    temporary = target.with_name(f".{target.name}.partial{writer}")
    try:
        with full_disk_is_said(target), temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a temporary folder beside `target` that takes its place when the block ends well, else is removed.

    What was at `target` is replaced. DiskFullError when space runs out; `target` is then as it was.
    """
    _remove_stale(target)
    temporary = target.with_name(f".{target.name}.partial-{os.getpid()}")
    try:
        with full_disk_is_said(target):
            temporary.mkdir(parents=True)
            yield temporary
            replace_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Let one process at a time work on `target`; the others wait here, which is said. The lock ends with its process."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that writes %s", target)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def full_disk_is_said(target: Path) -> Iterator[None]:
    """DiskFullError that names `target` in place of the system's error."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"no space left to write {target}; nothing of it was kept: free some space"
            ) from error
        raise


def replace_folder(temporary: Path, target: Path) -> None:
    """Put the finished folder `temporary` where `target` is; what was there is removed."""
    old = target.with_name(f".{target.name}.old-{os.getpid()}")
    if target.exists():
        target.rename(old)
    try:
        temporary.rename(target)
    except OSError as error:
        # Another process finished the same folder between the two renames: its result stands.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_stale(target: Path) -> None:
    """Remove what a killed process left: temporary folders of process ids that no longer run."""
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        process = leftover.name.rsplit("-", 1)[1]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
