"""Finished cells of an experiment: one JSON line each, safe to be cut anywhere."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from genie_robot.evaluation.json_lines import append_record, not_a_record, read_records


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
    for record in read_records(path):
        try:
            outcomes = {task: tuple(map(bool, values)) for task, values in record.pop("outcomes").items()}
            cells.append(Cell(**record, outcomes=outcomes))
        except (KeyError, TypeError, AttributeError) as error:
            raise not_a_record(path, json.dumps(record), error) from error
    return cells


def append_cell(path: Path, cell: Cell) -> None:
    """Append a cell and force it to the disk; what an interruption left of a line before is dropped."""
    append_record(path, asdict(cell))
