"""Results that grow by one JSON line each, safe to be cut anywhere: a line that was cut counts as not written."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genie_robot.errors import DataError
from genie_robot.evaluation.summary.compare import without_nan


def read_records(path: Path) -> list[dict[str, Any]]:
    """Records of a file; none if there is no file. A last line that was cut is left out; DataError for another fault."""
    records = []
    for line in _whole_lines(path).splitlines():
        try:
            record = json.loads(line)
        except ValueError as error:
            raise not_a_record(path, line.decode(errors="replace"), error) from error
        if not isinstance(record, dict):
            raise not_a_record(path, line.decode(), TypeError())
        records.append(record)
    return records


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record, NaN as null, and force it to the disk; what an interruption left of a line before is dropped."""
    line = json.dumps(without_nan(record), allow_nan=False) + "\n"
    kept = len(_whole_lines(path))
    with path.open("ab") as file:
        file.truncate(kept)
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def not_a_record(path: Path, line: str, error: Exception) -> DataError:
    """What to say of a whole line that holds something else."""
    return DataError(
        f"{path} has a line that is no result ({line.strip()[:60]!r}: {type(error).__name__}); delete it to start over"
    )


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]
