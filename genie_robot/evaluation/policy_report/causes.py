"""The report's sections on where disagreement comes from, and on comparing two policies."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from genie_robot.evaluation.policy_report.agreement import interval
from genie_robot.report.page import number, paragraph, section, table

Summary = Mapping[str, Any]


def chain(summary: Summary) -> list[tuple[str, Summary]]:
    """Each part of the chain that was measured, in words, and its agreement with MuJoCo."""
    judge = summary["judge"]
    parts = [
        ("imagination, everything together", summary),
        (f"action interface {summary['interface']} alone, perfect dynamics", summary.get("action_interface")),
        ("tokenizer alone: MuJoCo seen through it, closed loop", summary.get("in_tokenizer")),
        ("dynamics and judge: MuJoCo's actions, open loop", summary.get("in_replay")),
        ("judge alone, on MuJoCo's own pictures", judge["primary"]),
        ("second judge alone, on MuJoCo's own pictures", judge.get("second")),
        *((f"blind: {name}", part) for name, part in summary.get("floors", {}).items()),
    ]
    return [(name, part) for name, part in parts if part is not None]


def causes_section(summary: Summary) -> str:
    """One row for each part of the chain, measured alone; then the rates after correction."""
    rows = []
    for name, part in chain(summary):
        text = escape(name)
        if "gate" in part:
            passes = "passes" if part["passes"] else "does <b>not</b> pass"
            text += f" ({passes} r &ge; {part['gate']['pearson_r']:g}, MMRV &le; {part['gate']['mmrv']:g})"
        rows.append(_chain_row(text, part))
    return section(
        "causes",
        "Where disagreement comes from",
        table(
            ["part of the chain", "r", "MMRV", "bias", "|error|", "same outcome", "kappa"],
            rows,
            numbers=range(1, 7),
        ),
        paragraph(
            "<small>Blind rows are rates made without looking at what was imagined: what agreement is worth is what it has above "
            "them.</small>"
        )
        if summary.get("floors")
        else "",
        _judges(summary),
        _optimism(summary),
        _corrected(summary),
    )


def _chain_row(name: str, part: Summary) -> list[str]:
    figures = ("pearson_r", "mmrv", "bias", "mean_abs_error", "episode_agreement", "kappa")
    return [name, *(number(part.get(key), 3) for key in figures)]


def _judges(summary: Summary) -> str:
    judge = summary["judge"]
    names = [name for name in ("primary", "second") if name in judge]
    parts = [("all tasks", *(judge[name] for name in names))]
    parts += [(task, *(judge[name]["by_task"][task] for name in names)) for task in summary["tasks"]]
    rows = [
        [escape(task), *(cell for errors in columns for cell in _error_cells(errors))]
        for task, *columns in parts
    ]
    head = ["", "successes found", "failures found", "2nd: successes found", "2nd: failures found"]
    text = paragraph(
        f"The two judges differ on {_share(judge, 'mujoco')} of MuJoCo's films and on {_share(judge, 'imagined')} of the "
        "imagined ones (undecided; the first judge counts). By the second judge's verdicts alone, imagination would have "
        f"r = {number(judge.get('by_second', {}).get('pearson_r'), 3)} and |error| "
        f"{number(judge.get('by_second', {}).get('mean_abs_error'), 3)}."
    )
    alarms = paragraph(
        f"Of MuJoCo's own films, which all can be judged, the first judge calls "
        f"{number(_percent(judge['invalid_share'].get('mujoco')), 1)} % invalid."
    )
    return (
        "<h3>The judges against the truth, on MuJoCo's own pictures</h3>"
        + table(head[: 1 + 2 * len(names)], rows, numbers=range(1, 5))
        + (text if "second" in judge else "")
        + alarms
    )


def _error_cells(errors: Summary) -> list[str]:
    return [
        f"{number(errors[rate], 3)} of {number(errors[count])} <small>({interval(errors[rate + '_interval'])})</small>"
        for rate, count in (("sensitivity", "successes"), ("specificity", "failures"))
    ]


def _share(judge: Summary, world: str) -> str:
    return f"{number(_percent(judge['undecided_share'].get(world)), 1)} %"


def _optimism(summary: Summary) -> str:
    part = summary.get("optimism_replay")
    if part is None:
        return ""
    tasks = ", ".join(f"{escape(task)} {number(each['rate'])}" for task, each in part["by_task"].items())
    missed = part["missed_successes"]
    invalid = number(_percent(part["invalid_share"]), 1)
    return "<h3>Optimism: failures that look like a success</h3>" + paragraph(
        f"The recorded actions of MuJoCo's {part['trials']:,} failures were replayed in imagination, open loop: "
        f"<b>{number(part['rate'], 3)}</b> ({interval(part['wilson'], 3)}) are judged a success ({tasks}); "
        f"{invalid} % of them cannot be judged and are left out. Of the "
        f"{missed['trials']:,} successes, {number(missed['rate'], 3)} are judged a failure."
    )


def _corrected(summary: Summary) -> str:
    powered, judged = summary["corrected"]["prediction_powered"], summary["corrected"]["rogan_gladen"]
    others = summary["seeds"] - powered["paired_seeds"]
    rows = [
        [
            "as imagined",
            *(number(summary[key], 3) for key in ("pearson_r", "mmrv", "bias", "mean_abs_error")),
        ],
        *(
            [name, *(number(part[key], 3) for key in ("pearson_r", "mmrv", "bias", "mean_abs_error"))]
            for name, part in (
                (f"the other {others} starts as imagined", powered["imagined_alone"]),
                (f"MuJoCo's {powered['paired_seeds']} starts alone, for the others", powered["mujoco_alone"]),
                ("prediction-powered: both together, for the others", powered),
            )
        ),
        [
            "corrected for the judge's errors (Rogan-Gladen)",
            *(number(judged[key], 3) for key in ("pearson_r", "mmrv", "bias", "mean_abs_error")),
        ],
    ]
    return (
        "<h3>Rates after correction</h3>"
        + table(["", "r", "MMRV", "bias", "|error|"], rows, numbers=range(1, 5))
        + paragraph(
            f"Prediction-powered rates add what a few true episodes show of imagination's error. Their 95 % interval is "
            f"{number(powered['mean_width'], 3)} wide on average; those true episodes alone give "
            f"{number(powered['mujoco_only_width'], 3)}. "
            f"{_effort(powered['effort_saved'])}"
        )
    )


def _effort(saved: float | None) -> str:
    if saved is None or saved <= 0:
        return "Here imagination adds nothing to them: it is too noisy a witness."
    return f"At equal width, imagination spares {100 * saved:.0f} % of the MuJoCo episodes."


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def pairs_section(summary: Summary) -> str:
    """Two policies against each other: right, wrong and undecided, and the neighbours in the ranking."""
    counts = summary["decisions"]
    rows = [
        [
            escape(pair["better"]),
            escape(pair["worse"]),
            *(
                cell
                for world in ("mujoco", "imagined")
                for cell in (
                    number(pair[world]["gap"], 3),
                    f"{pair[world]['p_value']:.2g}",
                    _decision(pair, world),
                )
            ),
        ]
        for pair in summary["neighbours"]
    ]
    return section(
        "pairs",
        "Which of two policies is better?",
        paragraph(
            f"Asked of imagination with a sequential test that may be looked at after every episode (of pairs that are equal in "
            "imagination, it tells at most 5 % apart; that imagination is right is another matter): of "
            f"{counts['pairs']} pairs it decides {counts['right'] + counts['wrong']}, <b>{counts['right']} as MuJoCo does</b> and "
            f"{counts['wrong']} the other way; {counts['undecided']} stay undecided. Of the {summary['pairs']} pairs whose true rates "
            f"differ by 0.10 or more, {number(_percent(summary['pairs_ranked']), 1)} % are ranked right."
        ),
        table(
            ["better in MuJoCo", "worse", "MuJoCo gap", "p", "decided", "imagined gap", "p", "decided"],
            rows,
            numbers=(2, 3, 5, 6),
        ),
        paragraph(
            "<small>Neighbours in MuJoCo's ranking. p: McNemar's exact test on paired episodes. Decided: winner of the sequential test "
            "and the episodes that it took.</small>"
        ),
    )


def _decision(pair: Summary, world: str) -> str:
    winner, episodes = pair[world]["sequential_winner"], pair[world]["sequential_episodes"]
    if not winner:
        return '<span class="none">no</span>'
    name = pair["better"] if winner == "first" else pair["worse"]
    return f"{escape(name)} <small>({episodes})</small>"
