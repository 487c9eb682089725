"""The label-efficiency curve as text for the screen and as one HTML file: light, printable, nothing loaded from outside."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from genie_robot.data.provenance import made_with_text
from genie_robot.evaluation.agreement import GATE_MMRV, GATE_R, passes_gate
from genie_robot.report.charts import line_chart
from genie_robot.report.page import figure, number, page, paragraph, section, table

Result = Mapping[str, Any]


def text_table(result: Result) -> str:
    """One line for each interface and number of labels; means over draws."""
    lines = [
        f"{'interface':16s} {'labels':>7s} {'top-1':>6s} {'nll':>6s} {'label R2':>9s} {'passed R2':>10s} {'drift@16':>9s}"
    ]
    for row in result["curve"]:
        cells = (_mean(row, "top1"), _mean(row, "nll"), _mean(row, "label_r2"), _mean(row, "passed_r2"))
        shown = " ".join(
            f"{_text(value):>{width}s}" for value, width in zip(cells, (6, 6, 9, 10), strict=True)
        )
        lines.append(
            f"{row['interface']:16s} {row['labels']:7d} {shown} {_text(_mean(row, 'drift_cm'), 1):>6s} cm"
        )
    if result["ceilings"]:
        lines += [
            "",
            f"{'ceiling of':28s} {'labels':>7s} {'r':>6s} {'MMRV':>6s} {'bias':>6s} {'kappa':>6s}  fit to score",
        ]
    for row in result["ceilings"]:
        numbers = " ".join(f"{_text(row[key]):>6s}" for key in ("r", "mmrv", "bias", "kappa"))
        lines.append(
            f"{row['interface']:28s} {row['labels']:7d} {numbers}  {'yes' if passes_gate(row['r'], row['mmrv']) else 'no'}"
        )
    return "\n".join(lines)


def html_report(result: Result) -> str:
    """The whole document."""
    settings = result["settings"]
    header = (
        "<h1>Label efficiency of action interfaces</h1><p>How many transitions with known robot actions it takes to "
        "drive a world model that was trained on video, and what is lost on the way.</p>"
    )
    parts = [_kept(result), _named(result), _probe(result)]
    if result["ceilings"]:
        parts.insert(0, _ceilings(result))
    footer = (
        f"World model {escape(settings['model_hash'])}; {settings['transitions']['train']:,} labelled transitions to draw "
        f"from, {settings['transitions']['heldout']:,} held out; {settings['draws']} draws of whole episodes; seed "
        f"{settings['seed']}. Curves: mean over draws. Made with {escape(made_with_text(result['made_with']))}."
    )
    return page("Label efficiency of action interfaces", header, "\n".join(parts), footer)


def _ceilings(result: Result) -> str:
    rows = [
        [
            *_names(row),
            *(
                number(row[key], 3)
                for key in ("r", "mmrv", "pooled_r", "task_r", "task_mmrv", "bias", "agreement")
            ),
            '<span class="yes">yes</span>'
            if passes_gate(row["r"], row["mmrv"])
            else '<span class="no">no</span>',
        ]
        for row in result["ceilings"]
    ]
    head = [
        "interface",
        "labels",
        "r",
        "MMRV",
        "pooled r",
        "task r",
        "task MMRV",
        "bias",
        "agreement",
        "fit to score",
    ]
    mains = [row for row in result["ceilings"] if " " not in row["interface"]]
    charts = _pair(
        line_chart(_series(mains, "r"), "labelled transitions", "r", marks=True, target=GATE_R, log_x=True),
        line_chart(
            _series(mains, "mmrv"), "labelled transitions", "MMRV", marks=True, target=GATE_MMRV, log_x=True
        ),
    )
    ceiling = result["settings"]["ceiling"]
    tasks = ", ".join(result["ceilings"][0]["tasks"])
    return section(
        "ceiling",
        "Ceiling: perfect dynamics, only the action goes through the interface",
        paragraph(
            "Scripted policies that know the true state act in MuJoCo, once freely and once through the interface, from "
            f"the same states: suite {escape(ceiling['suite'])}, tasks {escape(tasks)}, {ceiling['seeds']} paired seeds a "
            f"policy and task, {result['ceilings'][0]['episodes']:,} episodes a row. M2 hands on the action itself: its "
            "ceiling is r 1, MMRV 0. An interface is fit to score policies in imagination from r "
            f"{GATE_R} and MMRV {GATE_MMRV}."
        ),
        figure(charts, "r and MMRV of the policies' mean success rates, with decoder and error feedback"),
        table(head, rows, numbers=range(1, 9)),
    )


def _kept(result: Result) -> str:
    curve = result["curve"]
    read = [
        [
            *_names(row),
            *(_spread(row, key) for key in ("label_r2", "dictionary_label_r2")),
            *(_spread(row, key, 3) for key in ("label_mse", "dictionary_label_mse")),
        ]
        for row in curve
    ]
    passed = [
        [
            *_names(row),
            *(_spread(row, key) for key in ("passed_r2", "dictionary_passed_r2", "grip")),
            *(_spread(row, key, 1) for key in ("drift_cm", "no_feedback_drift_cm")),
        ]
        for row in curve
    ]
    read_head = ["interface", "labels", "label R²", "by dictionary", "label MSE", "by dictionary"]
    passed_head = [
        "interface",
        "labels",
        "passed R²",
        "by dictionary",
        "grips passed",
        "drift @16 [cm]",
        "no feedback",
    ]
    charts = _pair(
        line_chart(
            _series(curve, "passed_r2"), "labelled transitions", "R² there and back", marks=True, log_x=True
        ),
        line_chart(
            _series(curve, "drift_cm"), "labelled transitions", "drift @16 [cm]", marks=True, log_x=True
        ),
    )
    return section(
        "kept",
        "What is left of an action",
        paragraph(
            "Label R²: the robot's motion read from the model's own latent action of the true frames, by the decoder that "
            "looks at the image or by the dictionary (M0 has the dictionary alone). Passed R²: the motion that went "
            "through adapter and decoder. Drift: distance between where 16 steps lead as asked and as executed. Lowest "
            "and highest of the draws in brackets."
        ),
        figure(charts, "Motion x, y, z on held-out episodes"),
        table(read_head, read, numbers=range(1, 6)),
        table(passed_head, passed, numbers=range(1, 7)),
    )


def _named(result: Result) -> str:
    rows = [
        [
            *_names(row),
            *(_spread(row, key) for key in ("top1", "majority", "nll", "vector_error")),
        ]
        for row in result["curve"]
    ]
    return section(
        "adapter",
        "How well the adapter names the model's own label",
        paragraph(
            "Top-1: all levels as the latent action model has them; beside it what the most frequent label reaches. NLL "
            "in nats a step. Vector error: squared error over variance, for the vector before the quantizer."
        ),
        table(["interface", "labels", "top-1", "majority", "NLL", "vector error"], rows, numbers=range(1, 6)),
    )


def _probe(result: Result) -> str:
    names = list(next(iter(result["probe"].values()))["r2"])
    rows = [
        [
            escape(name),
            *(f"{probe['r2'][one]:.2f} <small>({probe['floor'][one]:.2f})</small>" for one in names),
        ]
        for name, probe in result["probe"].items()
    ]
    return section(
        "probe",
        "What the latent actions hold at all",
        paragraph(
            "Linear probe with all training labels: R² of each number of the robot's action on held-out episodes, in "
            "brackets with shuffled labels."
        ),
        table(["latent actions", *(escape(name) for name in names)], rows, numbers=range(1, len(names) + 1)),
    )


def _names(row: Mapping[str, Any]) -> tuple[str, str]:
    return escape(row["interface"]), f"{row['labels']:,}"


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[tuple[float, float]]]:
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        value = row.get(key)
        value = value["mean"] if isinstance(value, Mapping) else value
        if value is not None:
            series.setdefault(row["interface"], []).append((row["labels"], value))
    return series


def _pair(*charts: str) -> str:
    return '<div class="row">' + "".join(f"<div>{chart}</div>" for chart in charts) + "</div>"


def _spread(row: Mapping[str, Any], key: str, digits: int = 2) -> str:
    cell = row.get(key)
    if cell is None or cell["mean"] is None:
        return "&ndash;"
    shown = f"{cell['mean']:.{digits}f}"
    if cell["low"] == cell["high"]:
        return shown
    return f"{shown} <small>({cell['low']:.{digits}f}&ndash;{cell['high']:.{digits}f})</small>"


def _mean(row: Mapping[str, Any], key: str) -> float:
    return row[key]["mean"] if key in row else float("nan")


def _text(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
