"""`genie-robot actions`: what each latent action does, measured; a picture of it over several prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from genie_robot.config import TEMPERATURE

_EPILOG = """examples:
  genie-robot actions --data outputs/tabletop
  genie-robot actions weights/tabletop-tiny --data outputs/tabletop --out actions.png --json actions.json
  genie-robot actions outputs/run/model --data outputs/tabletop --write

Each code is imagined from the same held-out prompts with the same sampling seed; the state probe reads where the
gripper went. --write stores names and directions in the model folder (latent_actions.json) and fits the adapter
robot action -> latent code (action_adapter.json) from --labels transitions whose robot actions are known.
"""


def add_parser(subparsers: Any) -> None:
    """Add `actions`."""
    parser = subparsers.add_parser(
        "actions",
        help="grid picture: the same latent action over several prompts, with its measured direction",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", default="weights/tabletop-tiny", help="model folder (default: %(default)s)"
    )
    parser.add_argument(
        "--data", required=True, metavar="DIR", help="tabletop dataset (RLDS) with held-out episodes"
    )
    parser.add_argument("--split", default="test", help="held-out split (default: %(default)s)")
    parser.add_argument(
        "--probe", default="weights/tabletop-probe", metavar="DIR", help="state probe (default: %(default)s)"
    )
    parser.add_argument(
        "--prompts", type=int, default=16, metavar="P", help="prompts to measure from (default: %(default)s)"
    )
    parser.add_argument(
        "--prompt-frames", type=int, default=1, metavar="T", help="frames of each prompt (default: 1)"
    )
    parser.add_argument(
        "--steps", type=int, default=2, metavar="S", help="steps of each code (default: %(default)s)"
    )
    parser.add_argument(
        "--columns", type=int, default=6, metavar="N", help="prompts in the picture (default: 6)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of prompts and sampling (default: 0)")
    parser.add_argument(
        "--maskgit-steps", type=int, default=8, metavar="M", help="sampling passes a frame (default: 8)"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default="outputs/actions.png", metavar="FILE", help="picture (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help="store what was measured in the model folder")
    parser.add_argument(
        "--labels",
        type=int,
        default=500,
        metavar="N",
        help="labelled transitions for the adapter (default: 500)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the measurements as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    """Measure, draw, and with --write store; returns the exit code."""
    from dataclasses import asdict

    from genie_robot.cli._evaluation import check_counts, load_episodes, open_model, write_json
    from genie_robot.data.commands import STEP_M
    from genie_robot.evaluation.measure import action_grid, measure_codebook, write_adapter, write_codebook
    from genie_robot.evaluation.pictures import write_png
    from genie_robot.evaluation.probe import load_probe

    check_counts(args, "prompts", "prompt_frames", "steps", "columns", "labels")
    model, probes = open_model(args.model), load_probe(args.probe)
    model.require_codes("genie-robot actions")
    episodes = load_episodes(args.data, args.split, limit=200, actions=True, state=True)
    codebook = measure_codebook(
        model,
        episodes,
        probes,
        prompts=args.prompts,
        prompt_frames=args.prompt_frames,
        steps=args.steps,
        seed=args.seed,
        maskgit_steps=args.maskgit_steps,
        temperature=args.temperature,
    )
    picture = write_png(args.out, action_grid(codebook, columns=args.columns))
    result: dict[str, Any] = codebook.metrics | {
        "latent_actions": [asdict(action) for action in codebook.latent_actions],
        "labels": asdict(codebook.labels) if codebook.labels else None,
        "picture": str(picture),
    }
    if args.write:
        write_codebook(model, args.model, codebook)
        labelled = load_episodes(args.data, "train", limit=1 + args.labels // 10, actions=True, state=True)
        adapter = write_adapter(
            model,
            args.model,
            labelled,
            transitions=args.labels,
            heldout_episodes=episodes,
            metres_per_unit=STEP_M,
        )
        result["adapter"] = adapter.evidence
    if args.json != "-":
        _print_table(codebook, result, Path(args.model) if args.write else None)
    write_json(args.json, json.loads(json.dumps(result, default=float)))
    return 0


def _print_table(codebook: Any, result: dict[str, Any], written: Path | None) -> None:
    print("code  name            forward  left    up   (cm a step)   fingers  cosine")
    for action, m in zip(codebook.latent_actions, codebook.measurements, strict=True):
        x, y, z = (100 * v for v in action.displacement_m)
        print(
            f"{action.code:4d}  {action.name:14s} {x:+8.1f} {y:+5.1f} {z:+5.1f}  {action.gripper:+20.2f} {m.cosine:+7.2f}"
        )
    print(f"mean cosine over the codes that move the gripper: {codebook.code_cosine:.2f}")
    print(f"picture: {result['picture']}")
    if written is not None:
        print(f"wrote {written}/latent_actions.json and action_adapter.json ({result['adapter']})")
