"""What the commands evaluate, actions, imagine and label share: opening things, numbers to JSON."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from genie_robot.errors import ConfigError, DataError


def check_counts(args: argparse.Namespace, *names: str) -> None:
    """ConfigError for an option of `names` that is below 1."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; wanted 1 or more")


def open_model(path: str) -> Any:
    """Open a model folder on the CPU."""
    import genie_robot

    return genie_robot.load(path)


def load_episodes(
    path: str,
    split: str,
    *,
    limit: int | None = None,
    actions: bool = False,
    state: bool = False,
    image_hw: tuple[int, int] | None = None,
) -> list[Any]:
    """First `limit` episodes of a split, at the size `image_hw`; DataError for a split that is empty."""
    from genie_robot.data.open import open_dataset

    source = open_dataset(path).episodes(split=split, actions=actions, state=state, image_hw=image_hw)
    episodes = list(itertools.islice(source, limit))
    if not episodes:
        raise DataError(f"split {split!r} of {path} has no episodes; wanted at least one; name another split")
    return episodes


def write_json(target: str | None, result: Any) -> None:
    """Write `result` to a file, to the screen for "-", or nowhere for None."""
    if target is None:
        return
    from genie_robot.evaluation.summary.compare import without_nan

    text = json.dumps(without_nan(result), indent=1, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {target} ({error.strerror}); name another file") from error
