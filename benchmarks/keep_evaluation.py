"""Keep a finished policy evaluation in the docs: its page and numbers, every episode, and the main tables as Markdown.

    genie-robot evaluate policies --config nightly --out outputs/nightly
    python benchmarks/keep_evaluation.py outputs/nightly docs/nightly

Copies report.html, report.json and episodes.csv (as .gz), draws scatter.svg and writes README.md. The films stay where they
are: report.html holds the most telling ones.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genie_robot.data.provenance import made_with_text
from genie_robot.evaluation.episodes import WORLDS
from genie_robot.evaluation.policy_report.agreement import policy_scatter
from genie_robot.evaluation.policy_report.causes import chain

Summary = Mapping[str, Any]
FIGURES = {
    "r": "pearson_r",
    "MMRV": "mmrv",
    "bias": "bias",
    "|error|": "mean_abs_error",
    "same outcome": "episode_agreement",
    "kappa": "kappa",
}
WIDTH = 130


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)


def number(value: float | None) -> str:
    """Three digits; a dash for what is not defined."""
    return "-" if value is None else f"{value:.3f}"


def targets(summary: Summary) -> str:
    """What was to be reached, and whether it was."""
    rows = []
    for target in summary["targets"]:
        sign = ">=" if target["at_least"] else "<="
        must = "" if target["must"] is None else f"{sign} {target['must']:g}"
        reached = {None: "", True: "yes", False: "**no**"}[target["must_reached"]]
        rows.append(
            (target["what"], number(target["value"]), must, reached, f"{sign} {target['ambition']:g}")
        )
    return table(("figure", "value", "must", "reached", "to lead the field"), rows)


def causes(summary: Summary) -> str:
    """Each part of the chain against MuJoCo."""
    rows = [(name, *(number(part.get(key)) for key in FIGURES.values())) for name, part in chain(summary)]
    return table(("part of the chain", *FIGURES), rows)


def slices(summary: Summary) -> str:
    """The same figures by task and by horizon."""
    parts = summary["by_task"] | {
        f"all tasks, {horizon} steps": part for horizon, part in summary["by_horizon"].items()
    }
    rows = [(name, *(number(part.get(key)) for key in FIGURES.values())) for name, part in parts.items()]
    return table(("", *FIGURES), rows)


def policies(summary: Summary) -> str:
    """Success rate of each policy in each world, the mean over tasks."""
    worlds = [world for world in WORLDS if world in summary["by_policy"][0]]
    rows = [
        (f"`{each['policy']}`", *(number(each[world]["rate"]) for world in worlds))
        for each in summary["by_policy"]
    ]
    return table(("policy", *(f"`{world}`" for world in worlds)), rows)


def page(summary: Summary) -> str:
    """The part of README.md that follows from report.json alone."""
    line = "\n> ".join(textwrap.wrap(summary["report_line"], WIDTH))
    low, high = summary["drop_family_range"]
    return f"""
> {line}

{summary["n"]} policies, {len(summary["tasks"])} tasks, {summary["seeds"]} paired starts each (seeds from {summary["first_seed"]}), \
{summary["horizon"]} steps: {summary["episodes"]:,} episodes.
With whole families of policies left out (all clones, all scripts of graded skill ...), r is {number(low)} to {number(high)}.
Claims are of agreement with MuJoCo, never with a real robot.
What the figures mean: [statistics](../evaluation_statistics.md). What the worlds are: [evaluation](../evaluation.md).

![Every policy in both worlds](scatter.svg)

## Targets

{targets(summary)}

## Where disagreement comes from

{causes(summary)}

## Tasks and horizons

{slices(summary)}

## Policies

{policies(summary)}

All of it with films: `report.html`; every number: `report.json`; every episode: `episodes.csv.gz`.
"""


def keep(run: Path, out: Path) -> None:
    """Copy and write everything; SystemExit with one line if `run` is no finished evaluation."""
    wanted = [run / name for name in ("report.json", "report.html", "episodes.csv")]
    missing = [path.name for path in wanted if not path.is_file()]
    if missing:
        raise SystemExit(
            f"keep_evaluation: {run} has no {missing[0]}; wanted the folder of a finished `genie-robot evaluate policies`"
        )
    out.mkdir(parents=True, exist_ok=True)
    summary = json.loads(wanted[0].read_text())
    for path in wanted[:2]:
        shutil.copy(path, out)
    with gzip.GzipFile(out / "episodes.csv.gz", "wb", mtime=0) as file:
        file.write(wanted[2].read_bytes())
    svg, _, _ = policy_scatter(summary).partition("<div")  # the names are in the picture: it needs no legend
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background:#fff" ', 1)
    (out / "scatter.svg").write_text(svg)
    name = summary["settings"]["name"]
    hashes = ", ".join(f"{what} {value[:12]}" for what, value in summary["hashes"].items() if value)
    made = (
        f"`genie-robot evaluate policies --config {name}`, {made_with_text(summary['made_with'])}.\n"
        f"This page: `python benchmarks/keep_evaluation.py`.\n" + textwrap.fill(f"Hashes: {hashes}.", WIDTH)
    )
    (out / "README.md").write_text(f"# The evaluation `{name}`\n\n{made}\n{page(summary)}")
    print(f"wrote {out}")


def main() -> int:
    """Keep a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of the finished evaluation")
    parser.add_argument("out", type=Path, help="folder to write, such as docs/nightly")
    args = parser.parse_args()
    keep(args.run, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
