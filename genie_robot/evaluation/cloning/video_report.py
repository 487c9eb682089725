"""What cloning from video reached: rates with intervals, as JSON and as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.atomic import whole_file
from genie_robot.data.provenance import made_with_text
from genie_robot.evaluation.cloning.cells import Cell
from genie_robot.evaluation.cloning.from_video import WITH_LABELS, WITHOUT_LABELS, CloningConfig
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.report.charts import line_chart
from genie_robot.report.page import figure, page, paragraph, section, table

TITLE = "Behaviour cloning from video"
BASELINE = "inverse dynamics"
DRAWS = 2000


def summarise(
    config: CloningConfig, cells: Sequence[Cell], model_hash: str, made_with: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """Success by method and number of labels: all tasks together and each, with Wilson intervals and the range of seeds.

    The Wilson interval treats all episodes as independent; `of_seeds` (least and greatest rate of a seed) shows what another
    training and other labels change, and `bootstrap` (seeds and starts are resampled) takes both in. `differences`: what latent
    codes gain over inverse dynamics from as many labels, paired by seed, task and start.
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
        "made_with": made_with,
        "seeds": len({c.seed for c in cells}),
        "rows": rows,
        "differences": _differences(config, cells),
    }


def _differences(config: CloningConfig, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    found = {cell.key: _array(cell, config.tasks) for cell in cells}
    rows = []
    for method in (m for m in WITH_LABELS if m != BASELINE):
        for labels in config.labels:
            pairs = [
                (found[method, labels, seed], found[BASELINE, labels, seed])
                for seed in range(config.seeds)
                if {(method, labels, seed), (BASELINE, labels, seed)} <= set(found)
            ]
            if pairs:
                gains_SMK = np.stack([ours - theirs for ours, theirs in pairs])
                rows.append(
                    {
                        "method": method,
                        "labels": labels,
                        "gain": float(gains_SMK.mean()),
                        "bootstrap": _bootstrap(gains_SMK),
                    }
                )
    return rows


def _array(cell: Cell, tasks: Sequence[str]) -> np.ndarray:
    """Outcomes (tasks, starts) as 0 / 1."""
    return np.array([cell.outcomes[task] for task in tasks], dtype=np.float64)


def _bootstrap(values_SMK: np.ndarray) -> list[float]:
    """95 % percentile interval of the mean of (seeds, tasks, starts): seeds are resampled, and the starts of each task for all."""
    rng, (seeds, tasks, starts) = np.random.default_rng(0), values_SMK.shape
    means = [
        values_SMK[
            rng.integers(seeds, size=seeds)[:, None, None],
            np.arange(tasks)[:, None],
            rng.integers(starts, size=(tasks, starts)),
        ].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return [float(low), float(high)]


def _rates(cells: Sequence[Cell], tasks: Sequence[str]) -> dict[str, Any]:
    by_seed = [list(chain.from_iterable(cell.outcomes.values())) for cell in cells]
    means = [sum(values) / len(values) for values in by_seed]
    by_task = {task: _rate([v for cell in cells for v in cell.outcomes[task]]) for task in tasks}
    every = list(chain.from_iterable(by_seed))
    return {
        "all": _rate(every),
        "bootstrap": _bootstrap(np.stack([_array(cell, tasks) for cell in cells])),
        "of_seeds": [min(means), max(means)],
        "tasks": by_task,
    }


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
    for row in summary["differences"]:
        low, high = row["bootstrap"]
        lines.append(
            f"{row['method']} over {BASELINE}, {row['labels']} labels: {row['gain']:+.2f} [{low:+.2f}, {high:+.2f}]"
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
    ends = min(config["labels"]), max(config["labels"])
    for row in summary["rows"]:
        places = (row["labels"],) if row["labels"] else ends
        series.setdefault(row["method"], []).extend((place, row["all"]["rate"]) for place in places)
    chart = line_chart(
        series, "labelled steps", "success in MuJoCo", width=560, height=320, marks=True, log_x=True
    )
    head = ["method", "labelled steps", "success", "Wilson 95 %", "bootstrap 95 %", "seeds", *tasks]
    rows = [
        [
            row["method"],
            str(row["labels"] or ("all" if row["method"] == "oracle" else "none")),
            f"{row['all']['rate']:.2f}",
            "{:.2f} to {:.2f}".format(*row["all"]["wilson"]),
            "{:.2f} to {:.2f}".format(*row["bootstrap"]),
            "{:.2f} to {:.2f}".format(*row["of_seeds"]),
            *(f"{row['tasks'][task]['rate']:.2f}" for task in tasks),
        ]
        for row in summary["rows"]
    ]
    protocol = (
        f"{config['video']} expert demonstrations a task as video; labels from {config['labelled_from']} others; "
        f"{summary['seeds']} seeds (other weights and other labels); {config['episodes']} episodes a task and seed, "
        f"{config['horizon']} steps; {trials} episodes a row. Latent action model {summary['model']}. Success is MuJoCo's, "
        "by true state. Wilson's intervals count episodes as independent; the bootstrap resamples seeds and starts. "
        f"Made with {made_with_text(summary['made_with'])}."
    )
    body = section(
        "results",
        "Success by labelled steps",
        figure(chart, "Oracle and random use no such labels: level lines."),
        table(head, rows, numbers=range(2, len(head))),
        table(
            ["gain over inverse dynamics", "labelled steps", "success", "bootstrap 95 %"],
            [
                [
                    row["method"],
                    str(row["labels"]),
                    f"{row['gain']:+.2f}",
                    "{:+.2f} to {:+.2f}".format(*row["bootstrap"]),
                ]
                for row in summary["differences"]
            ],
            numbers=(2, 3),
        ),
        paragraph(protocol),
    )
    header = f"<h1>{TITLE}</h1><p>Latent actions label the video, few labelled steps say what they mean.</p>"
    return page(TITLE, header, body, "Agreement and success are with MuJoCo, not with a real robot.")
