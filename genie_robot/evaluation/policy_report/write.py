"""report.html and report.json of a summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from genie_robot.data.atomic import whole_file
from genie_robot.errors import ConfigError
from genie_robot.evaluation.policy_report import agreement, causes, films, protocol
from genie_robot.report.page import page, tile

Summary = Mapping[str, Any]
TITLE = "Robot policies judged in imagination, checked against MuJoCo"


def write_report(summary: Summary, out_dir: Path | str) -> Path:
    """Write `out_dir`/report.html and report.json; returns the path of the page, which needs no other file.

    summary: of `summarise`. Films come from `out_dir`/videos; one that is not there, or cannot be read, is said to be
    missing. ConfigError without imagined episodes, DiskFullError without space.
    """
    if "pearson_r" not in summary:
        raise ConfigError(
            "the evaluation has no imagined episodes; wanted the worlds mujoco and imagined; run it with both"
        )
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    target = out_dir / "report.html"
    for path, text in (
        (out_dir / "report.json", json.dumps(summary, indent=1, allow_nan=False) + "\n"),
        (target, _html(summary, out_dir)),
    ):
        with whole_file(path) as file:
            file.write(text.encode())
    return target


def _html(summary: Summary, out_dir: Path) -> str:
    body = "".join(
        (
            agreement.statement_section(summary),
            agreement.scatter_section(summary),
            agreement.breakdown_section(summary),
            agreement.cells_section(summary),
            causes.causes_section(summary),
            causes.pairs_section(summary),
            films.films_section(summary, out_dir),
            protocol.failures_section(summary),
            protocol.protocol_section(summary),
        )
    )
    footer = f"genie_robot, schema {escape(summary['schema'])}. Every number is in report.json, every episode in episodes.csv."
    return page(TITLE, _header(summary), body, footer)


def _header(summary: Summary) -> str:
    def shown(value: float | None, digits: int = 3) -> str:
        return "undefined" if value is None else f"{value:.{digits}f}"

    tiles = [
        tile(
            f"r = {shown(summary['pearson_r'])}",
            f"of success rates over {summary['n']} policies; a perfect evaluator with other seeds: {shown(summary['ceiling_r'])}",
        ),
        tile(
            f"MMRV {shown(summary['mmrv'])}",
            f"rank violations, 0 is best; a perfect evaluator with other seeds: {shown(summary['ceiling_mmrv'])}",
        ),
        tile(shown(summary["mean_abs_error"]), "mean error of a policy's success rate"),
    ]
    if summary.get("replay_optimism") is not None:
        tiles.append(
            tile(shown(summary["replay_optimism"]), "of MuJoCo's failures look like a success when replayed")
        )
    return (
        f"<h1>{escape(TITLE)}</h1><p>{summary['n']} policies, {len(summary['tasks'])} tasks, {summary['seeds']} paired starts "
        f"each, {summary['horizon']} steps: {summary['episodes']:,} episodes. The same start, first picture and random "
        f"stream in both worlds.</p>"
        f'<div class="tiles">{"".join(tiles)}</div>'
    )
