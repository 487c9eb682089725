"""The paired episode store: one `Row` a rollout and horizon in `episodes.csv`, its trajectory and its video beside it.

    episodes.csv                                     every finished episode, in the order in which they finished
    trajectories/<world>/<task>/<policy>/<seed>.npz  actions_S7 (float32), states_TS (float32; true, or read by the judge)
    videos/<world>/<task>/<policy>/<seed>.mp4        the film, prompt frame first

A row says nothing that varies between runs, so that two runs of one config have equal rows. A line is written after
the files it speaks of, and a line cut by an interruption counts as not written.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from genie_robot.errors import ConfigError

WORLDS = ("mujoco", "interface", "tokenizer", "imagined", "replay")
"""mujoco: the truth. interface: MuJoCo, each action passed through the interface there and back (perfect dynamics).
tokenizer: MuJoCo, seen as the model's tokenizer shows it (perfect dynamics, robot actions as they are).
imagined: closed loop in the world model. replay: MuJoCo's recorded actions, open loop in the world model."""
TRUE_STATE_WORLDS = ("mujoco", "interface", "tokenizer")
_WITHOUT_INTERFACE = ("mujoco", "tokenizer")
STATUSES = ("ok", "raised", "bad_action", "timed_out")
"""ok: ran to its horizon. raised: the policy raised. bad_action: NaN, wrong shape or type. timed_out: it answered too late."""


def interface_in(world: str, interface: str) -> str:
    """Name of the interface that actions pass in `world`: "" in mujoco and tokenizer, which have none."""
    return "" if world in _WITHOUT_INTERFACE else interface


class EpisodeKey(NamedTuple):
    """What names a row; the same seven values give the same row on every run."""

    world: str
    interface: str
    suite: str
    task: str
    policy: str
    seed: int
    horizon: int


@dataclass(frozen=True)
class Row:
    """One episode of `horizon` steps.

    interface: as `interface_in` names it.
    status, reason: one of STATUSES, and in words what a policy did wrong ("" for ok). An episode that is not ok is no
    success, and what was judged of it is of the frames until then.
    success: by the true state in TRUE_STATE_WORLDS, else by the primary judge.
    judge_success: the primary judge on this world's pictures. second_success: the independent judge's; None without one.
    progress: 0..1, by the independent judge, else by the primary one.
    undecided: the two judges differ. invalid: the judge finds that these pictures cannot be judged.
    first_success_step: step (from 1) at which the success was complete, by the rule of `success`; 0 without success.
    goal_distance_m: at the end of the horizon, of the true or the read state [m].
    """

    world: str
    interface: str
    suite: str
    task: str
    policy: str
    seed: int
    horizon: int
    status: str
    reason: str
    success: bool
    judge_success: bool
    second_success: bool | None
    progress: float
    undecided: bool
    invalid: bool
    first_success_step: int
    goal_distance_m: float

    @property
    def key(self) -> EpisodeKey:
        """What names this row."""
        return EpisodeKey(
            self.world, self.interface, self.suite, self.task, self.policy, self.seed, self.horizon
        )


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Row))
_TYPES = {field.name: field.type for field in fields(Row)}


def file_name(policy: str) -> str:
    """Name of a policy as part of a path: what is no letter, digit, dot, dash or underscore becomes an underscore."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in policy) or "_"


def format_rows(rows: Iterable[Row], *, header: bool = False) -> str:
    """CSV lines of `rows`: booleans as 0 / 1, None as nothing, metres and shares to four digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(getattr(row, name)) for name in COLUMNS])
    return text.getvalue()


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append `rows` in one write that is forced to the disk; a cut last line is dropped first."""
    whole = _whole_lines(path)
    text = format_rows(rows, header=not whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.truncate(len(whole))
        file.seek(len(whole))
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """Rows of an `episodes.csv`; none if there is no file. ConfigError for a file of other columns or values."""
    records = csv.reader(io.StringIO(_whole_lines(path).decode(errors="replace"), newline=""))
    header = next(records, None)
    if header is None:
        return []
    if tuple(header) != COLUMNS:
        raise ConfigError(
            f"{path} has the columns {', '.join(header)[:200]}; wanted {', '.join(COLUMNS)}; it is of another version: "
            "give another --out folder"
        )
    return [_parse(path, number, record) for number, record in enumerate(records, start=2)]


def _whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.is_file() else b""
    return content[: content.rfind(b"\n") + 1]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.4f}"
    return " ".join(value.split()) if isinstance(value, str) else str(value)


def _parse(path: Path, line: int, record: list[str]) -> Row:
    try:
        if len(record) != len(COLUMNS):
            raise ValueError(f"{len(record)} values")
        row = Row(**{name: _value(_TYPES[name], text) for name, text in zip(COLUMNS, record, strict=True)})
        if row.world not in WORLDS or row.status not in STATUSES:
            raise ValueError(f"world {row.world!r}, status {row.status!r}")
    except ValueError as error:
        raise ConfigError(
            f"{path}, line {line} is no episode ({error}); wanted {len(COLUMNS)} values; delete the line to run it again"
        ) from error
    return row


def _value(kind: object, text: str) -> Any:
    if kind == "str":
        return text
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind == "bool | None" and not text:
        return None
    return {"0": False, "1": True}[text] if text in ("0", "1") else _not_a_flag(text)


def _not_a_flag(text: str) -> bool:
    raise ValueError(f"{text!r}, wanted 0 or 1")
