"""`genie-robot data list`: what is known of the datasets of Open X-Embodiment, and the mixtures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from genie_robot.cli._data_output import say, write_json

if TYPE_CHECKING:
    from genie_robot.data.mixture import Mixture
    from genie_robot.data.registry import DatasetFacts

_EPILOG = """examples:
  genie-robot data list
  genie-robot data list bridge              all that is known of the datasets with 'bridge' in their name
  genie-robot data list --json datasets.json

cam: the camera that is used. act: whether end-effector motion can be had (data.label_share, --actions):
yes = the authors state what the numbers mean, likely = inferred, no. opened: read with this code from real files.
"""
_DETAILS_BELOW = 5  # so few hits are shown in full
_NUMBERS = (1, 4, 5)  # columns
_ENDING = "_converted_externally_to_rlds"


def add_parser(commands: Any) -> None:
    """Add `list`."""
    parser = commands.add_parser(
        "list",
        help="datasets of Open X-Embodiment: rate, camera, size, actions, licence, faults; and the mixtures",
        description="List the datasets of Open X-Embodiment with what is known of each, and the mixtures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("part", metavar="NAME-PART", nargs="?", default="", help="only names that hold this")
    parser.add_argument("--json", metavar="FILE", help="write it all as JSON (- for the screen)")
    parser.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> int:
    """Print the table; returns the exit code (1: no such name)."""
    from genie_robot.data.mixture import MIXTURES
    from genie_robot.data.registry import REGISTRY

    part = args.part.lower()
    found = [facts for name, facts in REGISTRY.items() if part in " ".join((name, *facts.aliases)).lower()]
    mixtures = {name: mixture for name, mixture in MIXTURES.items() if part in name.lower()}
    details = "".join(f"\n\n{describe(facts)}" for facts in found) if len(found) <= _DETAILS_BELOW else ""
    say(args.json, f"{_table(found)}{details}\n\n{_mixtures(mixtures)}")
    write_json(
        args.json,
        {
            "datasets": {facts.name: asdict(facts) for facts in found},
            "mixtures": {name: {p.dataset: p.weight for p in one.parts} for name, one in mixtures.items()},
        },
    )
    return 0 if found or mixtures else 1


def _motion(facts: DatasetFacts) -> str:
    if not facts.actions:
        return "no"
    return "yes" if facts.actions[0].sure == "documented" else "likely"


def _gib(size: float | None) -> str:
    if size is None:
        return "?"
    return f"{size:,.0f}" if size >= 100 else f"{size:.3g}"


def _row(facts: DatasetFacts) -> tuple[str, ...]:
    camera = facts.cameras[0] if facts.cameras else None
    return (
        facts.name.removesuffix(_ENDING),
        f"{facts.rate_hz:g}" if facts.rate_hz else "?",
        camera.key if camera else "-",
        f"{camera.height}x{camera.width}" if camera else "-",
        f"{sum(facts.episodes.values()):,}" if facts.episodes else "?",
        _gib(facts.gib),
        _motion(facts),
        facts.licence.partition(" (")[0].partition(";")[0],
        ", ".join((*facts.flags, *(("opened",) if facts.opened else ()))),
    )


def _table(found: Sequence[DatasetFacts]) -> str:
    """One line per dataset, the largest first."""
    rows = [("name", "Hz", "cam", "H x W", "episodes", "GiB", "act", "licence", "notes")]
    rows += [_row(facts) for facts in sorted(found, key=lambda one: -(one.gib or 0))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    size = sum(facts.gib or 0 for facts in found)
    return "\n".join([*lines, f"{len(found)} datasets, {size:,.0f} GiB of those whose size is known"])


def describe(facts: DatasetFacts) -> str:
    """All that is known of one dataset."""
    splits = ", ".join(
        f"{split} {count:,} in {facts.shards.get(split, '?')} shards"
        for split, count in facts.episodes.items()
    )
    first, *others = facts.actions or (None,)
    lines = [
        f"{facts.name}: {facts.about}",
        f"  files      {facts.server}/{facts.path}{'' if facts.tfds else ' (not registered in TFDS)'}",
        f"  episodes   {splits or 'unknown'}",
        f"  cameras    {', '.join(f'{c.key} {c.height}x{c.width} ({c.role})' for c in facts.cameras) or 'none'}",
        f"  images     {facts.code or 'encoding unknown'}; rate {facts.rate_hz or 'unknown'} Hz",
        f"  actions    none: {facts.no_action}"
        if first is None
        else f"  actions    {first.kind} from {', '.join(first.places)} ({first.sure})"
        + (f", or {len(others)} other layout" if others else ""),
        f"  licence    {facts.licence}",
        f"  cite       {facts.cite or 'unknown'} {facts.home}".rstrip(),
    ]
    if facts.drop_first:
        lines.append(f"  drops      steps at the start of each episode: {facts.drop_first}")
    if facts.soup_weight:
        lines.append(f"  soup       weight {facts.soup_weight:.3g} in oxe_magic_soup")
    return "\n".join([*lines, *(f"  note       {note}" for note in facts.notes)])


def _mixtures(mixtures: dict[str, Mixture]) -> str:
    """One line per mixture."""
    lines = ["mixtures (data.mixture=NAME):"] if mixtures else ["no mixture of that name"]
    for name, mixture in mixtures.items():
        parts = ", ".join(f"{p.dataset.removesuffix(_ENDING)} {p.weight:g}" for p in mixture.parts[:4])
        more = f" and {len(mixture.parts) - 4} more" if len(mixture.parts) > 4 else ""
        lines.append(f"  {name:<16} {mixture.about}: {parts}{more}")
    return "\n".join(lines)
