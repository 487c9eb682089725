"""What cloning from video reached: rates with intervals, as JSON and as one HTML page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

from genie_robot.data.atomic import whole_file
from genie_robot.evaluation.cloning.cells import Cell
from genie_robot.evaluation.cloning.from_video import WITH_LABELS, WITHOUT_LABELS, CloningConfig
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.report.charts import line_chart
from genie_robot.report.page import figure, page, paragraph, section, table

TITLE = "Behaviour cloning from video"


def summarise(config: CloningConfig, cells: Sequence[Cell], model_hash: str) -> dict[str, Any]:
    """Success by method and number of labels: all tasks together and each, with Wilson intervals and the range of seeds.

    The interval treats all episodes as independent; `of_seeds` (least and greatest rate of a seed) shows what another
    training and other labels change.
    """
    rows = []
    for method in (*WITHOUT_LABELS, *WITH_LABELS):
        for labels in config.labels if method in WITH_LABELS else (0,):
            mine = [cell for cell in cells if (cell.method, cell.labels) == (method, labels)]
            if mine:
                rows.append({"method": method, "labels": labels} | _rates(mine, config.tasks))
    return {
        "config": asdict(config),
        "model": model_hash,
        "seeds": len({c.seed for c in cells}),
        "rows": rows,
    }


def _rates(cells: Sequence[Cell], tasks: Sequence[str]) -> dict[str, Any]:
    by_seed = [list(chain.from_iterable(cell.outcomes.values())) for cell in cells]
    means = [sum(values) / len(values) for values in by_seed]
    by_task = {task: _rate([v for cell in cells for v in cell.outcomes[task]]) for task in tasks}
    every = list(chain.from_iterable(by_seed))
    return {"all": _rate(every), "of_seeds": [min(means), max(means)], "tasks": by_task}


def _rate(outcomes: Sequence[bool]) -> dict[str, Any]:
    successes, trials = sum(outcomes), len(outcomes)
    return {
        "successes": successes,
        "trials": trials,
        "rate": successes / trials,
        "wilson": list(wilson_interval(successes, trials)),
    }


def text_table(summary: dict[str, Any]) -> str:
    """The summary for the screen."""
    tasks = summary["config"]["tasks"]
    lines = [f"{'method':18s} {'labels':>6s} {'success [95 %]':>22s} {'seeds':>11s} " + _cells(tasks)]
    for row in summary["rows"]:
        low, high = row["all"]["wilson"]
        least, most = row["of_seeds"]
        rates = [f"{row['tasks'][task]['rate']:.2f}" for task in tasks]
        lines.append(
            f"{row['method']:18s} {row['labels'] or '':>6} {row['all']['rate']:8.2f} [{low:.2f}, {high:.2f}] "
            f"{least:5.2f}-{most:.2f} " + _cells(rates)
        )
    return "\n".join(lines)


def _cells(texts: Sequence[str]) -> str:
    return " ".join(f"{text:>10s}" for text in texts)


def write_report(out_dir: Path | str, summary: dict[str, Any]) -> tuple[Path, Path]:
    """Write `cloning.json` and `cloning.html`; returns their paths. DiskFullError without space."""
    json_path, html_path = Path(out_dir) / "cloning.json", Path(out_dir) / "cloning.html"
    for path, text in ((json_path, json.dumps(summary, indent=1) + "\n"), (html_path, _html(summary))):
        with whole_file(path) as file:
            file.write(text.encode())
    return json_path, html_path


def _html(summary: dict[str, Any]) -> str:
    config = summary["config"]
    tasks, trials = config["tasks"], summary["rows"][0]["all"]["trials"] if summary["rows"] else 0
    series: dict[str, list[tuple[float, float]]] = {}
    ends = math.log10(min(config["labels"])), math.log10(max(config["labels"]))
    for row in summary["rows"]:
        places = (math.log10(row["labels"]),) if row["labels"] else ends
        series.setdefault(row["method"], []).extend((place, row["all"]["rate"]) for place in places)
    chart = line_chart(series, "log10 of labelled steps", "success in MuJoCo", width=560, height=320)
    head = ["method", "labelled steps", "success", "95 % interval", "seeds", *tasks]
    rows = [
        [
            row["method"],
            str(row["labels"] or ("all" if row["method"] == "oracle" else "none")),
            f"{row['all']['rate']:.2f}",
            "{:.2f} to {:.2f}".format(*row["all"]["wilson"]),
            "{:.2f} to {:.2f}".format(*row["of_seeds"]),
            *(f"{row['tasks'][task]['rate']:.2f}" for task in tasks),
        ]
        for row in summary["rows"]
    ]
    protocol = (
        f"{config['video']} expert demonstrations a task as video; labels from {config['labelled_from']} others; "
        f"{summary['seeds']} seeds (other weights and other labels); {config['episodes']} episodes a task and seed, "
        f"{config['horizon']} steps; {trials} episodes a row. Latent action model {summary['model']}. Success is MuJoCo's, "
        "by true state; intervals are Wilson's and count episodes as independent."
    )
    body = section(
        "results",
        "Success by labelled steps",
        figure(chart, "Oracle and random use no such labels: level lines."),
        table(head, rows, numbers=range(2, len(head))),
        paragraph(protocol),
    )
    header = f"<h1>{TITLE}</h1><p>Latent actions label the video, few labelled steps say what they mean.</p>"
    return page(TITLE, header, body, "Agreement and success are with MuJoCo, not with a real robot.")
