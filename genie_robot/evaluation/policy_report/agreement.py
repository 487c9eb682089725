"""The report's sections on agreement: statement, scatter, breakdown, cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from genie_robot.evaluation.summary.facts import family
from genie_robot.report.charts import PALETTE, ScatterPoint, scatter_chart
from genie_robot.report.page import figure, number, paragraph, section, table, verdict_mark

Summary = Mapping[str, Any]
HEAD = (
    "",
    "k",
    "r",
    "drop one",
    "rho",
    "MMRV",
    "ceiling",
    "bias",
    "|error|",
    "agree",
    "kappa",
    "invalid",
)


def interval(pair: list[float | None], digits: int = 2) -> str:
    """An interval as small text; a dash where there is none."""
    return "&ndash;" if None in pair else f"{number(pair[0], digits)} to {number(pair[1], digits)}"


def statement_section(summary: Summary) -> str:
    """The report line, what it does and does not say, and the targets."""
    rows = []
    for target in summary["targets"]:
        sign = "&ge;" if target["at_least"] else "&le;"
        rows.append(
            [
                escape(target["what"]),
                number(target["value"], 4),
                "&ndash;" if target["must"] is None else f"{sign} {target['must']:g}",
                "" if target["must"] is None else verdict_mark(target["must_reached"]),
                f"{sign} {target['ambition']:g}",
                verdict_mark(target["ambition_reached"]),
            ]
        )
    return section(
        "statement",
        "What was found",
        f'<p class="line">{escape(summary["report_line"])}</p>',
        '<p class="note">These figures say how far <b>imagination agrees with MuJoCo</b>, a simulator. They say nothing about '
        "agreement with a real robot, and a learned model is more easily like the simulator that made its data than a simulator is "
        "like the world. Published figures against real robots are therefore no yardstick for these.</p>",
        table(["figure", "value", "wanted", "", "to lead the field", ""], rows, numbers=(1, 2, 4)),
    )


def scatter_section(summary: Summary) -> str:
    """Each policy in both worlds, over all tasks and on each task."""
    small = []
    for task in summary["tasks"]:
        mine = [entry for entry in summary["table"] if entry["task"] == task]
        chart = scatter_chart(
            [p for e in mine if (p := _point(e, e["policy"], "policy"))],
            "MuJoCo",
            "imagination",
            band=_band(summary["seeds"]),
            named=False,
            width=300,
            height=280,
        )
        r = number(summary["by_task"][task]["pearson_r"], 3)
        small.append(f'<figure class="chart"><b>{escape(task)}, r = {r}</b>{chart}</figure>')
    return section(
        "scatter",
        "Every policy in both worlds",
        figure(
            policy_scatter(summary),
            "A dot is a policy, its rate the mean over all tasks, with 95 % Wilson intervals. On the dashed line both worlds agree. "
            "Grey: where a perfect evaluator with seeds of its own would land 19 times of 20. Paired seeds can beat it.",
        ),
        f'<div class="row">{"".join(small)}</div>',
    )


def policy_scatter(summary: Summary) -> str:
    """SVG of each policy's success rate in both worlds, the mean over all tasks, and a legend in HTML."""
    families = _families(summary)
    points = [_point(entry, entry["policy"], families[entry["policy"]]) for entry in summary["by_policy"]]
    return scatter_chart(
        [p for p in points if p],
        "success rate in MuJoCo",
        "success rate in imagination",
        band=_band(summary["seeds"] * len(summary["tasks"])),
        width=720,
        height=560,
    )


def _point(entry: Summary, label: str, group: str) -> ScatterPoint | None:
    truth, dream = entry["mujoco"], entry["imagined"]
    if truth["rate"] is None or dream["rate"] is None:
        return None
    return ScatterPoint(
        truth["rate"], dream["rate"], tuple(truth["wilson"]), tuple(dream["wilson"]), label, group
    )


def _families(summary: Summary) -> dict[str, str]:
    """Policy -> its family, for the colour; the rarest share one colour."""
    words = {name: family(name) for name in summary["policies"]}
    counts = {word: list(words.values()).count(word) for word in words.values()}
    kept = sorted(counts, key=lambda word: -counts[word])
    if len(kept) > len(PALETTE):
        kept = kept[: len(PALETTE) - 1]
    return {name: word if word in kept else "other" for name, word in words.items()}


def _band(trials: int) -> list[tuple[float, float, float]]:
    """Where the rate in the other world lies for a rate measured in this one, both from `trials` episodes of one truth."""
    band = []
    for step in range(41):
        x = step / 40
        p = (x * trials + 1) / (trials + 2)  # a rate of 0 or 1 was not measured exactly either
        half = 1.96 * math.sqrt(2 * p * (1 - p) / trials)
        band.append((x, max(0.0, x - half), min(1.0, x + half)))
    return band


def breakdown_section(summary: Summary) -> str:
    """The report line's figures for each task, group of policies and horizon."""
    parts = [("all tasks", summary)]
    parts += [(f"task {task}", part) for task, part in summary["by_task"].items()]
    parts += [
        (f"{name} policies", part)
        for name, part in summary["by_group"].items()
        if len(summary["by_group"]) > 1
    ]
    if len(summary["by_horizon"]) > 1:
        parts += [(f"first {steps} steps", part) for steps, part in summary["by_horizon"].items()]
    return section(
        "breakdown",
        "By task, policy group and horizon",
        '<div class="dense">',
        table(HEAD, [_row(name, part) for name, part in parts], numbers=range(1, len(HEAD))),
        "</div>",
        paragraph(
            "<small>k: policies; unseen ones had no rollout in any training. Below r: 95 % Fisher-z interval. Drop one: smallest "
            "and largest r when one policy is left out; below it the permutation p-value. "
            f"{_families_left_out(summary)} Below MMRV: 95 % bootstrap interval, "
            "policies then episodes (none for five policies or fewer). Ceiling: r and MMRV of a perfect evaluator with seeds of "
            f"its own and as many episodes. {_other_ways(summary)}</small>"
        ),
    )


def _families_left_out(summary: Summary) -> str:
    low_high = interval(summary["drop_family_range"], 3)
    return (
        f"With whole families of policies (clones, scripts of graded skill ...) left out instead: {low_high}."
    )


def _other_ways(summary: Summary) -> str:
    """The main figures over cells, and with the other treatments of what cannot be counted."""
    cells, ways = summary["cells"], summary["treatments"]
    strict, kind = ways["invalid_counts_as_failure"], ways["failed_left_out"]
    return (
        f"Over all {cells['cells']} cells (policy x task) r = {number(cells['pearson_r'], 3)}; cells of one policy are not "
        f"independent. With films that cannot be judged counted as failures: r = {number(strict['pearson_r'], 3)}, |error| "
        f"{number(strict['mean_abs_error'], 3)}; without the episodes in which a policy failed itself: r = "
        f"{number(kind['pearson_r'], 3)}."
    )


def _row(name: str, part: Summary) -> list[str]:
    p = part["permutation_p"]

    def over(above: str, below: str) -> str:
        return f"{above}<br><small>{below}</small>"

    return [
        f'<span style="white-space:nowrap">{escape(name)}</span>',
        str(part["n"]),
        over(f"<b>{number(part['pearson_r'], 3)}</b>", interval(part["fisher_interval"])),
        over(interval(part["drop_one_range"], 3), "" if p is None else f"p = {p:.2g}"),
        number(part["spearman_rho"], 3),
        over(f"<b>{number(part['mmrv'], 3)}</b>", interval(part["mmrv_bootstrap_interval"], 3)),
        over(number(part["ceiling_r"], 3), number(part["ceiling_mmrv"], 3)),
        number(part["bias"], 3),
        number(part["mean_abs_error"], 3),
        number(part["episode_agreement"], 2),
        number(part["kappa"], 2),
        number(part.get("invalid_share"), 3),
    ]


def cells_section(summary: Summary) -> str:
    """Success of each policy on each task, MuJoCo and imagination, coloured by the error."""
    by_place = {(entry["policy"], entry["task"]): entry for entry in summary["table"]}
    rows = []
    for entry in summary["by_policy"]:
        policy = entry["policy"]
        cells = [_cell(by_place[policy, task]) for task in summary["tasks"]]
        rows.append([escape(policy), _cell(entry), *cells])
    return section(
        "cells",
        "Success rates, policy by policy",
        table(
            ["policy", "all tasks", *map(escape, summary["tasks"])],
            rows,
            numbers=range(1, len(summary["tasks"]) + 2),
        ),
        paragraph(
            "<small>Per cent in MuJoCo &rarr; in imagination. Red: imagination is too kind; blue: too strict; the deeper the worse. "
            f"{summary['seeds']} episodes a cell: two rates within "
            f"{196 * math.sqrt(0.5 / summary['seeds']):.0f} points of each other can be one.</small>"
        ),
    )


def _cell(entry: Summary) -> str:
    truth, dream = entry["mujoco"]["rate"], entry["imagined"]["rate"]
    if truth is None or dream is None:
        return "&ndash;"
    error = dream - truth
    colour = "185,28,28" if error > 0 else "29,78,216"
    depth = min(0.55, 1.4 * abs(error))
    return (
        f'<span style="background:rgba({colour},{depth:.2f});padding:2px 7px;border-radius:4px;'
        f'-webkit-print-color-adjust:exact;print-color-adjust:exact">{100 * truth:.0f} &rarr; {100 * dream:.0f}</span>'
    )
