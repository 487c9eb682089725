"""The report's last sections: what went wrong, and what another group needs to repeat the evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from genie_robot.report.page import paragraph, section, table

Summary = Mapping[str, Any]
STATUS = {
    "raised": "the policy raised an error",
    "bad_action": "it answered with what is no action",
    "timed_out": "it answered too late",
}
SHOWN = 40  # kinds of failure; the rest is in episodes.csv


def failures_section(summary: Summary) -> str:
    """Episodes in which a policy failed itself, and films that could not be judged."""
    failed = summary["failed_episodes"]
    rows = [
        [
            escape(each["policy"]),
            escape(each["task"]),
            escape(each["world"]),
            f"{each['episodes']:,}",
            f"{STATUS.get(each['status'], escape(each['status']))}: {escape(each['reason'])}",
        ]
        for each in failed[:SHOWN]
    ]
    total = sum(each["episodes"] for each in failed)
    text = (
        f"In {total:,} episodes the policy itself failed. They "
        "count as failures of the policy in the world where they happened, and in its replay."
        if failed
        else "No policy raised an error, gave what is no action, or came too late."
    )
    if len(failed) > SHOWN:
        text += f" The {SHOWN} most frequent kinds of {len(failed)} are shown; episodes.csv has all."
    invalid = {policy: share for policy, share in summary["invalid_by_policy"].items() if share}
    films = ", ".join(f"{escape(policy)} {100 * share:.1f} %" for policy, share in invalid.items())
    return section(
        "failures",
        "What went wrong",
        paragraph(text),
        table(["policy", "task", "world", "episodes", "what"], rows, numbers=(3,)) if rows else "",
        paragraph(
            f"{100 * summary['invalid_share']:.1f} % of the imagined films cannot be judged and are left out of the main figures"
            + (f": {films}." if films else ".")
        ),
    )


def protocol_section(summary: Summary) -> str:
    """Everything that decides the numbers, for a repeat elsewhere."""
    first, last = summary["first_seed"], summary["first_seed"] + summary["seeds"] - 1
    facts = {
        "suite and tasks": f"{summary['suite']}: {', '.join(summary['tasks'])}",
        "policies": ", ".join(summary["policies"]),
        "seeds": f"{first} to {last}, the same for every policy; training data never has them",
        "episode": f"{summary['horizon']} steps of {summary['dt_s']:g} s, never cut short",
        "horizons": ", ".join(map(str, summary["horizons"])),
        "pairing": "start state, first picture and the policy's random stream depend on suite, task, policy and seed only",
        "success": "the suite's predicate holds in two consecutive frames, ever; on true states in MuJoCo, on states read from the "
        "pictures in imagination",
        "policies see": "pictures only",
        "action interface": summary["interface"],
        "worlds": ", ".join(summary["worlds"]),
        "a policy's rate": "mean over tasks; a policy that fails itself has failed; a film that cannot be judged is left out",
        **{
            f"setting: {name}": _text(value)
            for name, value in summary["settings"].items()
            if _is_own(name, summary)
        },
        **{
            "made with" + (f" ({index + 1})" if index else ""): ", ".join(
                f"{k} {v}" for k, v in made.items() if v
            )
            for index, made in enumerate(summary["made_with"])
        },
        **{f"SHA-256 of {name}": _hash(value) for name, value in summary["hashes"].items() if value},
    }
    cells = "".join(
        f"<b>{escape(name)}</b><span>{escape(str(value))}</span>" for name, value in facts.items()
    )
    return section(
        "protocol",
        "To repeat this",
        f'<div class="facts">{cells}</div>',
        paragraph(
            "The same configuration and seeds give the same rows in a fresh folder, byte for byte on one make of processor; in bfloat16 "
            "another make may round otherwise. Definitions of every figure: docs/evaluation_statistics.md."
        ),
    )


def _is_own(name: str, summary: Summary) -> bool:
    """Settings that are not said above already."""
    return name not in summary or name == "n"


def _hash(value: str) -> str:
    """A hash, marked where only its beginning is known."""
    return value if len(value) >= 64 else f"{value}..."


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in ("", None) else str(value)
