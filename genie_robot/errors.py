"""Exceptions for mistakes a user can make and mend.

GenieError
  ConfigError              a configuration value is not allowed                       exit code 2
  ActionError              an action code or robot action that does not exist         exit code 2
  ModelFolderError         a model folder with a missing, altered or foreign file     exit code 2
  DataError                data that cannot be read or used                           exit code 1
    DatasetNotFoundError   no dataset at the given place                              exit code 2
    ImageError             an image of the wrong encoding, type or size               exit code 2
    CorruptRecordError     a truncated or altered record                              exit code 1
  CheckpointError          a checkpoint that cannot be read or continued              exit code 1
  DiskFullError            no space to save; what was saved before is intact          exit code 1
  TrainingDivergedError    the loss became NaN or infinite                            exit code 1
  PolicyError              a policy that does not answer, or with no action           exit code 1

Every message is one line: what was got, what was wanted, what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn


class GenieError(Exception):
    """Base of all errors that `genie_robot` raises on purpose."""

    exit_code = 1


class ConfigError(GenieError, ValueError):
    """A configuration value is not allowed."""

    exit_code = 2


class ActionError(GenieError, ValueError):
    """An action code or robot action does not exist."""

    exit_code = 2


class ModelFolderError(GenieError, ValueError):
    """A model folder is missing a file, or a file was altered or belongs to another model."""

    exit_code = 2


class DataError(GenieError, ValueError):
    """Data cannot be read or used."""


class DatasetNotFoundError(DataError):
    """There is no dataset at the given place."""

    exit_code = 2


class ImageError(DataError):
    """An image has the wrong encoding, type or size."""

    exit_code = 2


class CorruptRecordError(DataError):
    """A record is truncated or was altered."""


class CheckpointError(GenieError, ValueError):
    """A checkpoint cannot be read or continued."""


class DiskFullError(GenieError, OSError):
    """There is no space left to save; what was saved before is intact."""


class TrainingDivergedError(GenieError, ArithmeticError):
    """The loss became NaN or infinite."""


class PolicyError(GenieError, RuntimeError):
    """A policy that is a program of its own refuses to begin, or answers with something that is no action."""


class PolicyTimeoutError(PolicyError, TimeoutError):
    """It does not answer in time."""


class PolicyGoneError(PolicyError):
    """It has ended, or was not found, or is not alone."""


def run_script(name: str, main: Callable[[], int]) -> NoReturn:
    """Run `main` and end the process with its exit code; a GenieError is one line that begins with `name`."""
    try:
        sys.exit(main())
    except GenieError as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
