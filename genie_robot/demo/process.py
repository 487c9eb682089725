"""Child processes that pass Ctrl-C on once and get the time to save what they have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SAVE_TIME_S = 60.0


def run_child(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    timeout_s: float | None = None,
) -> int:
    """Run `command` to its end and return its exit code; its output goes to the screen, or into the file `log`.

    The child has its own process group, so a Ctrl-C at the terminal reaches it once, through us. After it we wait for
    the child to save and end (at most SAVE_TIME_S), and raise KeyboardInterrupt. TimeoutError after `timeout_s`.
    """
    sys.stdout.flush()
    output = None if log is None else open(log, "w")  # noqa: SIM115 - closed below, after the child
    try:
        with subprocess.Popen(
            list(command),
            cwd=cwd,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=True,
        ) as child:
            try:
                return child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                _end(child, signal.SIGTERM)
                raise TimeoutError(f"no end after {timeout_s:.0f} s: {' '.join(command[:4])}") from None
            except BaseException:
                _end(child, signal.SIGINT)
                raise
    finally:
        if output is not None:
            output.close()


def _end(child: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """Ask the child and all it started to stop, and insist when it does not."""
    for number, patience_s in ((first, SAVE_TIME_S), (signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(patience_s)
            return
        except subprocess.TimeoutExpired:
            continue
