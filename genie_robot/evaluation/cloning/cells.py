"""Finished cells of an experiment: one JSON line each, safe to be cut anywhere."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from genie_robot.errors import DataError


@dataclass(frozen=True)
class Cell:
    """Outcome of one method, number of labels (0 where it needs none) and seed: by task, which episodes succeeded."""

    method: str
    labels: int
    seed: int
    outcomes: dict[str, tuple[bool, ...]]

    @property
    def key(self) -> tuple[str, int, int]:
        """What names a cell."""
        return self.method, self.labels, self.seed


def read_cells(path: Path) -> list[Cell]:
    """Cells of a file; none if there is no file. A last line that was cut is left out; DataError for another fault."""
    cells = []
    for line in _whole_lines(path):
        try:
            record = json.loads(line)
            outcomes = {task: tuple(map(bool, values)) for task, values in record.pop("outcomes").items()}
            cells.append(Cell(**record, outcomes=outcomes))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} has a line that is no result ({line.strip()[:60]!r}: {type(error).__name__}); "
                "delete it to start over"
            ) from error
    return cells


def append_cell(path: Path, cell: Cell) -> None:
    """Append a cell and force it to the disk; what an interruption left of a line before is dropped."""
    lines = _whole_lines(path)
    if path.is_file() and path.stat().st_size != sum(len(line.encode()) for line in lines):
        path.write_text("".join(lines), encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(cell)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _whole_lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
