"""`genie-robot evaluate cloning`: policies cloned from video without actions, measured in MuJoCo."""

from __future__ import annotations

import argparse
import sys

EPILOG = """examples:
  genie-robot evaluate cloning weights/manipulation-tiny --out outputs/cloning
  genie-robot evaluate cloning outputs/run/model --tasks reach,push --labels 50,200 --seeds 2 --episodes 50

An expert's video is labelled by the model's latent actions, a policy is cloned from these codes, and a few labelled
steps say which robot action a code means: by a dictionary (Genie, section 3.3), or a decoder that sees the image too.
Beside it stand cloning with all true actions (oracle), cloning from an inverse dynamics model trained on the same
labels, and random actions. Every row is success in MuJoCo with its interval. After an interruption, give the same
command: finished cells are kept in OUT. docs/cloning.md says more.
"""


def add_cloning_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate cloning`."""
    parser.add_argument("model", help="model folder whose latent action model labels the video")
    parser.add_argument(
        "--tasks",
        default="reach,push,pick_lift,drawer,pick_place",
        metavar="A,B",
        help="comma-separated (default: all five)",
    )
    parser.add_argument(
        "--labels", default="50,200,1000", metavar="N,N", help="labelled steps (default: %(default)s)"
    )
    counts = {
        "seeds": (3, "of weights and of which steps are labelled"),
        "video": (100, "demonstrations a task that are the video"),
        "labelled_from": (20, "other demonstrations a task that labelled steps are drawn from"),
        "steps": (6000, "optimiser steps of a policy"),
        "episodes": (20, "MuJoCo episodes of a task, for each seed"),
        "horizon": (64, "steps of an episode"),
    }
    for name, (default, meaning) in counts.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=default,
            metavar="N",
            help=f"{meaning} (default: {default})",
        )
    parser.add_argument(
        "--out",
        default="outputs/evaluate_cloning",
        metavar="DIR",
        help="cells, networks, page (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON (- for the screen)")


def run_cloning(args: argparse.Namespace) -> int:
    """Run `evaluate cloning`; returns the exit code."""
    from tqdm import tqdm

    from genie_robot.cli._evaluation import open_model, write_json
    from genie_robot.evaluation.cloning.from_video import CloningConfig, VideoCloning
    from genie_robot.evaluation.cloning.video_report import summarise, text_table, write_report
    from genie_robot.evaluation.settings import made_with

    config = CloningConfig(
        tasks=_words(args.tasks),
        labels=_numbers(args.labels),
        seeds=args.seeds,
        video=args.video,
        labelled_from=args.labelled_from,
        steps=args.steps,
        episodes=args.episodes,
        horizon=args.horizon,
    )
    experiment = VideoCloning(config, open_model(args.model), args.out)
    with tqdm(total=len(config.cells), desc="cells", leave=False, file=sys.stderr) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        cells = experiment.run(progress)
    summary = summarise(config, cells, experiment.model.hash, made_with(experiment.out_dir))
    _, page = write_report(args.out, summary)
    if args.json != "-":
        print(text_table(summary))
        print(f"page: {page}")
    write_json(args.json, {"cloning": summary})
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[int, ...]:
    from genie_robot.errors import ConfigError

    words = _words(text)
    if not words or not all(word.isdecimal() for word in words):
        raise ConfigError(
            f"--labels is {text!r}; wanted whole numbers with commas between, such as 50,200,1000"
        )
    return tuple(int(word) for word in words)
