"""The episode store: rows survive the way to CSV and back, and an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.errors import ConfigError
from genie_robot.evaluation.episodes import (
    COLUMNS,
    STATUSES,
    WORLDS,
    Row,
    append_rows,
    file_name,
    format_rows,
    read_rows,
)

ROW = Row(
    "imagined", "m2", "manipulation", "push", "scripted-0.8", 1_000_000, 64, "ok", "", True, True, None, 0.5, False, False,
    12, 0.0311,
)  # fmt: skip

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Z"]), max_size=12)
rows = st.builds(
    Row,
    world=st.sampled_from(WORLDS),
    interface=words,
    suite=words,
    task=words,
    policy=words,
    seed=st.integers(0, 2**40),
    horizon=st.integers(1, 999),
    status=st.sampled_from(STATUSES),
    reason=st.lists(words.filter(bool), max_size=4).map(" ".join),
    success=st.booleans(),
    judge_success=st.booleans(),
    second_success=st.none() | st.booleans(),
    progress=st.integers(0, 10_000).map(lambda k: k / 10_000),
    undecided=st.booleans(),
    invalid=st.booleans(),
    first_success_step=st.integers(0, 999),
    goal_distance_m=st.integers(0, 100_000).map(lambda k: k / 10_000),
)


@given(st.lists(rows, max_size=6), st.lists(rows, max_size=6), st.integers(0, 2000))
def test_rows_come_back_and_a_cut_line_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, first: list[Row], second: list[Row], cut: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "episodes.csv"
    append_rows(path, first)
    append_rows(path, second)
    assert read_rows(path) == first + second
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    kept = read_rows(path)
    assert kept == (first + second)[: len(kept)]
    append_rows(path, (first + second)[len(kept) :])
    assert path.read_bytes() == whole


def test_what_is_written_is_short_and_has_no_line_break(tmp_path: Path) -> None:
    text = format_rows(
        [replace(ROW, status="raised", reason='Error: "x",\n  y', progress=1 / 3)], header=True
    )
    assert text.splitlines() == [
        ",".join(COLUMNS),
        'imagined,m2,manipulation,push,scripted-0.8,1000000,64,raised,"Error: ""x"", y",1,1,,0.3333,0,0,12,0.0311',
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("imagined,m2", "2 values"),
        ("moon" + format_rows([ROW]).strip().removeprefix("imagined"), "world 'moon'"),
        (format_rows([ROW]).strip().replace(",ok,", ",fine,"), "status 'fine'"),
        (format_rows([ROW]).strip().replace("1000000", "x"), "invalid literal"),
        (format_rows([ROW]).strip().replace(",1,1,,", ",2,1,,"), "'2', wanted 0 or 1"),
    ],
)
def test_a_damaged_row_is_told_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "episodes.csv"
    append_rows(path, [ROW])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=r"line 3 is no episode") as error:
        read_rows(path)
    assert says in str(error.value)


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text("world,task\nmujoco,push\n")
    with pytest.raises(ConfigError, match="has the columns world, task"):
        read_rows(path)


def test_names_of_policies_as_file_names() -> None:
    assert file_name("ros:/lab/my_policy") == "ros__lab_my_policy"
    assert file_name("../../etc") == ".._.._etc" and file_name("scripted-0.8") == "scripted-0.8"
