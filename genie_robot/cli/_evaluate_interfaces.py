"""`genie-robot evaluate interfaces`: fit action interfaces on few labels, measure and keep them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

EPILOG = """examples:
  genie-robot evaluate interfaces weights/manipulation-tiny --data outputs/tabletop_reach outputs/tabletop_push
  genie-robot evaluate interfaces MODEL --data FOLDER --labels 50,1000 --ceiling-seeds 0
  genie-robot evaluate interfaces MODEL --data FOLDER --interfaces m1:8x2 --labels 10000 --draws 1 --write

Interfaces: m0 (Genie's codes by tables), m1:8, m1:8x2, m1:8x3, m1:continuous (adapter and decoder that look at the
image, with error feedback). m2, the robot's action itself, needs no labels and loses nothing. Labels are whole
episodes, drawn at random. The ceiling is MuJoCo with every action sent through the interface (perfect dynamics).
Finished cells in OUT/cells.jsonl are not run again: after an interruption, give the same command.
--write stores each interface of the most labels in MODEL/interfaces (m0: MODEL/action_adapter.json), where
`evaluate policies` finds it.
"""


def add_interfaces_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate interfaces`."""
    parser.add_argument(
        "model", nargs="?", default="weights/manipulation-tiny", help="model folder (default: %(default)s)"
    )
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="DIR", help="datasets with actions and states"
    )
    parser.add_argument(
        "--suite", default="manipulation", help="where the ceiling is rolled out (default: %(default)s)"
    )
    parser.add_argument(
        "--train-split", default="train", metavar="NAME", help="to fit on (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", help="held out, to measure on (default: %(default)s)")
    parser.add_argument(
        "--interfaces", metavar="A,B", help="comma-separated (default: all that the model can have)"
    )
    parser.add_argument(
        "--labels",
        default="50,200,1000,10000",
        metavar="N,N",
        help="labelled transitions (default: %(default)s)",
    )
    parser.add_argument(
        "--heldout",
        type=int,
        default=2000,
        metavar="N",
        help="transitions to measure on (default: %(default)s)",
    )
    parser.add_argument(
        "--draws", type=int, default=3, metavar="D", help="fits, each on other episodes (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of draws and fits (default: 0)")
    parser.add_argument("--tasks", metavar="A,B", help="of the ceiling (default: all of the suite)")
    parser.add_argument(
        "--ceiling-seeds",
        type=int,
        default=20,
        metavar="K",
        help="paired seeds a policy and task; 0 rolls nothing out (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        default="outputs/evaluate_interfaces",
        metavar="DIR",
        help="cells.jsonl, interfaces.html (default: %(default)s)",
    )
    parser.add_argument("--write", action="store_true", help="store the interfaces in the model folder")
    parser.add_argument("--json", metavar="FILE", help="write the measurements as JSON (- for the screen)")


def run_interfaces(args: argparse.Namespace) -> int:
    """Fit, measure, report, and with --write store; returns the exit code."""
    from tqdm import tqdm

    from genie_robot.cli._evaluation import check_counts, open_model, write_json
    from genie_robot.data.atomic import whole_file
    from genie_robot.evaluation.interface_ceiling import CeilingConfig
    from genie_robot.evaluation.label_efficiency import CurveConfig, LabelCurve
    from genie_robot.evaluation.label_report import html_report, text_table

    check_counts(args, "heldout", "draws")
    ceiling = (
        CeilingConfig(args.suite, _words(args.tasks), args.ceiling_seeds) if args.ceiling_seeds else None
    )
    config = CurveConfig(_words(args.interfaces), _numbers(args.labels), args.draws, args.seed, ceiling)
    model = open_model(args.model)
    pool = 2 * max(config.labels)  # so that draws of the most labels differ
    train = _labelled(model, args.data, args.train_split, pool)
    curve = LabelCurve(config, args.out, model, train, _labelled(model, args.data, args.split, args.heldout))
    with tqdm(total=curve.num_cells(), desc="evaluate interfaces", unit="cell", leave=False) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        result = curve.run(progress)
    report = Path(args.out) / "interfaces.html"
    with whole_file(report) as file:
        file.write(html_report(result).encode())
    if args.write:
        write_interfaces(curve, result, args.model)
    if args.json != "-":
        print(text_table(result))
        print(f"report: {report}")
    write_json(args.json, {"interfaces": result})
    return 0


def write_interfaces(curve: Any, result: dict[str, Any], model_folder: str) -> None:
    """Store what was fitted on the most labels (draw 0) with what was measured of it."""
    from dataclasses import replace

    from genie_robot.data.commands import STEP_M
    from genie_robot.simulation.interfaces import TableInterface, save_interface

    labels = max(curve.config.labels)
    for name in curve.names:
        interface = curve.fit(name, labels, 0).main
        evidence: dict[str, Any] = {"labelled_transitions": labels, "model_hash": curve.model.hash}
        for key in ("curve", "ceilings"):
            found = [row for row in result[key] if row["interface"] == name and row["labels"] == labels]
            evidence |= {key: found[0]} if found else {}
        evidence = json.loads(json.dumps(evidence, default=float))
        if isinstance(interface, TableInterface):
            replace(interface.adapter, evidence=evidence, metres_per_unit=STEP_M).save(model_folder)
        else:
            save_interface(model_folder, interface, curve.model.hash, evidence)


def _labelled(model: Any, places: list[str], split: str, limit: int) -> list[Any]:
    """Labelled episodes of several datasets in turn, at most `limit` transitions (the last episode whole)."""
    import itertools

    from genie_robot.data.open import open_dataset
    from genie_robot.simulation.interfaces import label_transitions

    size = (model.image_height, model.image_width)
    sources = [
        open_dataset(place).episodes(split=split, actions=True, state=True, image_hw=size) for place in places
    ]
    labelled: list[Any] = []
    for episode in filter(None, itertools.chain.from_iterable(itertools.zip_longest(*sources))):
        if episode.num_frames > 1:
            labelled.append(label_transitions(model, [episode], episode.num_frames - 1))
        if sum(map(len, labelled)) >= limit:
            break
    return labelled


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    from genie_robot.errors import ConfigError

    try:
        return tuple(sorted({int(word) for word in _words(text)}))
    except ValueError as error:
        raise ConfigError(f"--labels is {text!r}; wanted whole numbers such as 50,200,1000") from error
