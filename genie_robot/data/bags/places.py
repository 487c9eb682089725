"""Where bags are: which files and folders are one. Looks at names only, and needs nothing installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SUFFIXES = (".mcap", ".db3", ".bag")
_SEARCH_DEPTH = 2


def is_bag(path: str | Path) -> bool:
    """Whether there is a bag: a rosbag2 folder, a .mcap, .db3 or .bag file, or a folder with some of these below it."""
    return next(_bags(Path(path), _SEARCH_DEPTH), None) is not None


def find_bags(path: str | Path) -> list[Path]:
    """The bags at `path` or at most two folders below, in natural order of their names; empty when there is none."""
    return list(_bags(Path(path), _SEARCH_DEPTH))


def storage_files(bag: Path) -> list[Path]:
    """What of a bag is opened, one after another: the MCAP files of a folder, else the bag itself."""
    return (
        sorted(bag.glob("*.mcap"), key=natural_order) if bag.is_dir() and any(bag.glob("*.mcap")) else [bag]
    )


def natural_order(path: Path) -> list[Any]:
    """Sort key: by name, the numbers in it as numbers (bag_2 before bag_10)."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _bags(path: Path, depth: int) -> Iterator[Path]:
    if path.is_file():
        if path.suffix in _SUFFIXES:
            yield path
    elif path.is_dir():
        metadata = path / "metadata.yaml"
        if metadata.is_file() and b"rosbag2_bagfile_information" in metadata.read_bytes()[:4096]:
            yield path
            return
        for child in sorted(path.iterdir(), key=natural_order):
            if not child.name.startswith(".") and (depth or child.is_file()):
                yield from _bags(child, depth - 1)
