"""`genie-robot evaluate model`: the numbers of a world model on held-out clips, its drift curves and a page."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from genie_robot.config import TEMPERATURE

EPILOG = """examples:
  genie-robot evaluate model --data outputs/tabletop
  genie-robot evaluate model weights/tabletop-tiny --data outputs/tabletop --clips 64 --draws 5 --json model.json
  genie-robot evaluate model outputs/run/model --data ../shared/data/rt1_rlds --split train --probe none

Held-out clips only. t = 4 is the 4th imagined frame after the prompt. Delta PSNR: inferred codes against codes drawn
at random from the used ones, and robot actions against those of another episode, the same sampling seed in both arms.
With --probe none neither states nor actions are read, so that any dataset will do; otherwise latent actions are
compared with the true motion, and what is imagined with the true state, which wants simulated episodes.

A part that cannot be measured is named with the reason; the exit code is 0 all the same. What each number means:
docs/evaluate_model.md. ST-LPIPS and fvd_el0 want pip install 'genie_robot[perceptual]'; the name fvd is only used
with your own I3D network (--i3d).
"""


def add_model_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate model`."""
    parser.add_argument(
        "model", nargs="?", default="weights/tabletop-tiny", help="model folder (default: %(default)s)"
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="dataset with held-out episodes")
    parser.add_argument("--split", default="test", help="held-out split (default: %(default)s)")
    parser.add_argument(
        "--probe",
        default="weights/tabletop-probe",
        metavar="DIR",
        help="state probe, or none (default: %(default)s)",
    )
    parser.add_argument(
        "--clips", type=int, default=64, metavar="N", help="clips, one an episode (default: %(default)s)"
    )
    parser.add_argument(
        "--prompt-frames", type=int, default=1, metavar="T", help="true frames before (default: 1)"
    )
    parser.add_argument(
        "--horizon", type=int, default=8, metavar="H", help="imagined frames (default: %(default)s)"
    )
    parser.add_argument(
        "--long-horizon",
        type=int,
        default=64,
        metavar="H",
        help="imagined frames of the drift curves, at most as far as half of the episodes reach (default: %(default)s)",
    )
    parser.add_argument(
        "--draws", type=int, default=5, metavar="D", help="draws of other actions (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of clips, sampling and other actions (default: 0)"
    )
    parser.add_argument(
        "--maskgit-steps", type=int, default=8, metavar="M", help="sampling passes a frame (default: 8)"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--i3d", type=Path, metavar="FILE", help="TorchScript of I3D: adds fvd, with the SHA-256 of the file"
    )
    parser.add_argument(
        "--out",
        default="outputs/evaluate_model",
        metavar="DIR",
        help="page and pictures (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON (- for the screen)")


def run_model(args: argparse.Namespace) -> int:
    """Run `evaluate model`; returns the exit code."""
    from genie_robot.cli._evaluation import check_counts, write_json
    from genie_robot.evaluation.model_eval import strip_picture
    from genie_robot.evaluation.model_page import render
    from genie_robot.evaluation.pictures import write_png

    check_counts(args, "clips", "prompt_frames", "horizon", "long_horizon", "draws", "maskgit_steps")
    report = _measure(args)
    out = Path(args.out)
    strips = strip_picture(report.evaluation)
    picture = write_png(out / "strips.png", strips)
    page = _write_text(out / "model.html", render(report, Path(args.model).name, strips))
    if args.json != "-":
        _print_numbers(report.metrics)
        print(f"page: {page}\npicture: {picture}")
    for name, reason in report.metrics["not_measured"].items():
        print(f"not measured: {name}: {reason}", file=sys.stderr)
    curves = {name: drift.curves for name, drift in report.drifts.items()}
    metrics = json.loads(json.dumps(report.metrics, default=float))
    write_json(args.json, {"model": metrics, "curves": curves, "picture": str(picture), "page": str(page)})
    return 0


def _measure(args: argparse.Namespace) -> Any:
    """Open model, probe, adapter and episodes, and measure everything with a progress bar."""
    from tqdm import tqdm

    from genie_robot.cli._evaluation import load_episodes, open_model
    from genie_robot.evaluation.imagination import ModelEvalConfig
    from genie_robot.evaluation.model_protocol import Protocol
    from genie_robot.evaluation.probe import load_probe
    from genie_robot.simulation.action_interface import ADAPTER_FILE, load_adapter

    model = open_model(args.model)
    model.require_codes("genie-robot evaluate model")
    probes = None if args.probe == "none" else load_probe(args.probe)
    config = ModelEvalConfig(
        prompt_frames=args.prompt_frames,
        horizon=args.horizon,
        draws=args.draws,
        seed=args.seed,
        maskgit_steps=args.maskgit_steps,
        temperature=args.temperature,
    )
    episodes = load_episodes(
        args.data,
        args.split,
        limit=2 * args.clips,
        actions=probes is not None,
        state=probes is not None,
        image_hw=(model.image_height, model.image_width),
    )
    has_adapter = (Path(args.model) / ADAPTER_FILE).is_file()
    protocol = Protocol(
        model,
        episodes,
        config,
        clips=args.clips,
        probes=probes,
        adapter=load_adapter(args.model) if has_adapter else None,
        i3d=args.i3d,
        longest_horizon=args.long_horizon,
    )
    with tqdm(total=protocol.steps, desc="evaluate model", leave=False) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        return protocol.run(progress)


def _print_numbers(metrics: dict[str, Any]) -> None:
    from genie_robot.evaluation.model_page import NUMBERS, lookup

    flat = {key: value for key, value in metrics.items() if isinstance(value, float | int)}
    nested = {place: lookup(metrics, place) for place in NUMBERS if "." in place}
    for key, value in (flat | nested).items():
        if value is not None:
            print(f"{key:40s} {value:.4g}")


def _write_text(path: Path, text: str) -> Path:
    from genie_robot.errors import DataError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror}); name another place with --out") from error
    return path
