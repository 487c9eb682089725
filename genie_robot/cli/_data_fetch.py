"""`genie-robot data fetch`: what a download would be, and the download."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genie_robot.cli._data_output import say, write_json

if TYPE_CHECKING:
    from genie_robot.data.fetch import Wish

_EPILOG = """examples:
  genie-robot data fetch rt1                                     the plan: shards, GB, time; touches no network
  genie-robot data fetch rt1 --shards 8 --root /data --yes       the first 8 shards of each split
  genie-robot data fetch oxe_magic_soup --root /data --yes       goes on where it stopped, as often as need be
  genie-robot data fetch fractal20220817_data --source file:///mnt/mirror --yes
  genie-robot data fetch bc_z taco_play:0.1.0 --yes

WHAT is a registered dataset with or without its version, a mixture (genie-robot data list) or the YAML file of one. Files
lie in ROOT/NAME/VERSION, where data.path=NAME and TFDS find them. Of a mixture, the parts that are folders, bags or videos
on this machine need no fetching, and those that are addresses (gs://, tfds:) are read where they are.
"""


def add_parser(commands: Any) -> None:
    """Add `fetch`."""
    parser = commands.add_parser(
        "fetch",
        help="plan a download of datasets or of a mixture, and do it",
        description="Print what would be downloaded (shards, GB, time); with --yes, download it, resuming and verifying.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", metavar="WHAT", nargs="+", help="dataset, mixture, or YAML file of a mixture")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="default: the mixture's own root, $GENIE_ROBOT_DATA, $TFDS_DATA_DIR or ~/tensorflow_datasets",
    )
    parser.add_argument("--shards", type=int, metavar="N", help="only the first N shards of each split")
    parser.add_argument("--yes", action="store_true", help="download; without it, only the plan is printed")
    parser.add_argument(
        "--source", default="", metavar="URL", help="a mirror of the bucket, https://... or file://..."
    )
    parser.add_argument(
        "--speed", type=float, default=20.0, metavar="MB/S", help="for the plan's time (default: 20)"
    )
    parser.add_argument("--json", metavar="FILE", help="write plan and result as JSON (- for the screen)")
    parser.set_defaults(run_data=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan, and with --yes do it; returns the exit code."""
    from genie_robot.data.fetch import fetch, plan
    from genie_robot.data.locate import data_roots
    from genie_robot.errors import ConfigError

    if args.shards is not None and args.shards < 1:
        raise ConfigError(f"--shards is {args.shards}; wanted at least 1")
    if not args.speed > 0:
        raise ConfigError(f"--speed is {args.speed}; wanted MB/s above 0")
    wishes: dict[Path, Wish] = {}
    elsewhere: dict[str, str] = {}
    for what in args.what:
        names, own_root, others = _parts(what, args.root)
        elsewhere |= others
        wishes |= {
            wish.folder: wish for wish in plan(names, data_roots(args.root or own_root)[0], args.shards)
        }
    say(args.json, _plan_text(list(wishes.values()), elsewhere, args.speed, args.yes))
    folders = []
    if args.yes:
        for wish in wishes.values():
            folders.append(str(fetch(wish, args.source)))
            say(args.json, f"{wish.facts.name}: whole and verified in {folders[-1]}")
    write_json(
        args.json,
        {
            "datasets": [_as_json(wish, args.speed) for wish in wishes.values()],
            "not_fetched": elsewhere,
            "fetched": folders,
        },
    )
    return 0


def _parts(what: str, root: str | None) -> tuple[list[str], str, dict[str, str]]:
    """Names to fetch, the mixture's own root ("" for none), and what else there is of it, with the reason it is not fetched."""
    from genie_robot.data.locate import registered
    from genie_robot.data.mixture import MIXTURES, load_mixture, whereabouts
    from genie_robot.errors import DatasetNotFoundError

    if registered(what):
        return [what], "", {}
    if what not in MIXTURES and Path(what).suffix not in (".yaml", ".yml"):
        raise DatasetNotFoundError(
            f"got {what!r}; wanted a dataset or a mixture of `genie-robot data list`, or the .yaml file of a mixture"
        )
    mixture = load_mixture(what)
    names = [part.dataset for part in mixture.parts if registered(part.dataset)]
    where = whereabouts(mixture, root)
    unknown = {name: reason for name, reason in where.missing.items() if name not in names}
    if unknown:
        raise DatasetNotFoundError(f"{what}: {'; '.join(unknown.values())}")
    addresses = ("gs://", "tfds:")
    others = [name for name in (*where.here, *where.cloud) if name not in names]
    reasons = {
        name: "read where it is, through TFDS" if name.startswith(addresses) else "here already"
        for name in others
    }
    return names, mixture.root, reasons


def _as_json(wish: Wish, speed_mb_s: float) -> dict[str, Any]:
    gigabytes = None if wish.gib is None else wish.gib * 2**30 / 1e9
    return {
        "name": wish.facts.name,
        "folder": str(wish.folder),
        "address": f"{wish.facts.server}/{wish.facts.path}",
        "shards": wish.shards,
        "shards_present": wish.present,
        "gb": gigabytes,
        "seconds": None if gigabytes is None else gigabytes * 1e3 / speed_mb_s,
        "licence": wish.facts.licence,
    }


def _plan_text(wishes: list[Wish], elsewhere: dict[str, str], speed_mb_s: float, doing: bool) -> str:
    rows = [_as_json(wish, speed_mb_s) for wish in wishes]
    lines = [f"{'dataset':<60}{'shards':>8}{'here':>6}{'GB':>9}{'time':>10}"]
    for row in rows:
        size, wait = ("?", "?") if row["gb"] is None else (f"{row['gb']:,.2f}", _duration(row["seconds"]))
        shards = "?" if row["shards"] is None else row["shards"]
        lines.append(f"{row['name']:<60}{shards:>8}{row['shards_present']:>6}{size:>9}{wait:>10}")
    total = sum(row["gb"] or 0 for row in rows)
    wait = _duration(total * 1e3 / speed_mb_s)
    lines.append(f"{'together':<60}{'':>8}{'':>6}{total:>9,.2f}{wait:>10}   at {speed_mb_s:g} MB/s")
    roots = dict.fromkeys(str(wish.folder.parents[1]) for wish in wishes)
    lines += [f"into {root}" for root in roots]
    lines += [f"{name}: {reason}" for name, reason in elsewhere.items()]
    unknown = sorted({row["name"] for row in rows if "unknown" in row["licence"]})
    if unknown:
        lines.append(f"licence to be cleared by you: {', '.join(unknown)} (genie-robot data list NAME)")
    if not doing:
        lines.append("nothing was downloaded: add --yes to do it")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"
