"""`genie-robot evaluate model | policies`: judge a world model, or policies inside it and in MuJoCo."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from genie_robot.config import TEMPERATURE

_EPILOG = """examples:
  genie-robot evaluate model --data outputs/tabletop --json model.json
  genie-robot evaluate policies --seeds 16 --out outputs/policies --json policies.json
"""
_MODEL_EPILOG = """examples:
  genie-robot evaluate model --data outputs/tabletop
  genie-robot evaluate model weights/tabletop-tiny --data outputs/tabletop --clips 64 --draws 5 --json model.json
  genie-robot evaluate model outputs/run/model --data ../shared/data/rt1_rlds --split train --probe none

Held-out clips only. t = 4 is the 4th imagined frame after the prompt. Delta PSNR: inferred codes against codes drawn
at random from the used ones, the same sampling seed in both arms. Moving pixels: those of the true frame that differ
from the last prompt frame by more than 12/255. With --probe none neither states nor actions are read, so that any
dataset will do; otherwise codes are compared with the true motion, which wants tabletop episodes.
"""
_POLICIES_EPILOG = """examples:
  genie-robot evaluate policies
  genie-robot evaluate policies weights/tabletop-tiny --seeds 32 --tasks push --out outputs/push --json push.json
  genie-robot evaluate policies --worlds mujoco --policies expert-1.0,expert-0.5,no-op --seeds 4
  genie-robot evaluate policies --policies ros:/my_policy,expert-0.8,no-op --out outputs/my_policy

Every episode (task, policy, seed) runs in MuJoCo and in imagination from the same scene and first image with the same
random stream. Finished blocks in OUT/episodes.csv are not run again: after an interruption, give the same command.

ros:/my_policy is a ROS 2 node in the namespace /my_policy: it gets each image on image_raw and answers on robot_action
(docs/ros2_policies.md). Rows are kept by name: give a changed policy another name or another --out.
"""


def add_parser(subparsers: Any) -> None:
    """Add `evaluate` with its sub-commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(
        "evaluate",
        help="judge a model, or policies inside a model",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="evaluate_command", metavar="model|policies", required=True)
    _add_model(
        commands.add_parser(
            "model", help="numbers of a world model", epilog=_MODEL_EPILOG, formatter_class=raw
        )
    )
    _add_policies(
        commands.add_parser(
            "policies",
            help="policies in imagination and MuJoCo",
            epilog=_POLICIES_EPILOG,
            formatter_class=raw,
        )
    )


def _add_model(parser: argparse.ArgumentParser) -> None:
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
        "--draws", type=int, default=5, metavar="D", help="draws of random codes (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of clips, sampling and random codes (default: 0)"
    )
    parser.add_argument(
        "--maskgit-steps", type=int, default=8, metavar="M", help="sampling passes a frame (default: 8)"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default="outputs/evaluate_model", metavar="DIR", help="pictures (default: %(default)s)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON (- for the screen)")


def _add_policies(parser: argparse.ArgumentParser) -> None:
    from genie_robot.simulation.ros_policy import DEFAULT_TIMEOUT_S

    parser.add_argument(
        "model", nargs="?", default="weights/tabletop-tiny", help="model folder (default: %(default)s)"
    )
    parser.add_argument(
        "--probe", default="weights/tabletop-probe", metavar="DIR", help="state probe (default: %(default)s)"
    )
    parser.add_argument(
        "--policies",
        metavar="A,B",
        help="comma-separated, ros:/<namespace> is a ROS 2 node (default: experts of five skills, random-keys, no-op)",
    )
    parser.add_argument(
        "--policy-timeout",
        type=float,
        default=DEFAULT_TIMEOUT_S,
        metavar="S",
        help="seconds a ROS 2 policy may take to be found, and to answer (default: %(default)s)",
    )
    parser.add_argument(
        "--tasks", default="push,lift", metavar="A,B", help="comma-separated (default: %(default)s)"
    )
    parser.add_argument(
        "--seeds", type=int, default=16, metavar="K", help="paired seeds (default: %(default)s)"
    )
    parser.add_argument(
        "--max-steps", type=int, default=40, metavar="S", help="steps of an episode (default: %(default)s)"
    )
    parser.add_argument(
        "--worlds", default="mujoco,imagined,mujoco_codes", metavar="A,B", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--maskgit-steps", type=int, default=8, metavar="M", help="sampling passes a frame (default: 8)"
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, help="of sampling (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        default="outputs/evaluate_policies",
        metavar="DIR",
        help="episodes.csv, strips (default: %(default)s)",
    )
    parser.add_argument("--json", metavar="FILE", help="write the summary as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command; returns the exit code."""
    return _model(args) if args.evaluate_command == "model" else _policies(args)


def _model(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from genie_robot.cli._evaluation import check_counts, load_episodes, open_model, write_json
    from genie_robot.evaluation.heldout import collect_clips
    from genie_robot.evaluation.measure import measure_codebook
    from genie_robot.evaluation.model_eval import ModelEvalConfig, evaluate_model, strip_picture
    from genie_robot.evaluation.pictures import write_png
    from genie_robot.evaluation.probe import load_probe

    check_counts(args, "clips", "prompt_frames", "horizon", "draws", "maskgit_steps")
    model = open_model(args.model)
    probes = None if args.probe == "none" else load_probe(args.probe)
    config = ModelEvalConfig(
        prompt_frames=args.prompt_frames,
        horizon=args.horizon,
        draws=args.draws,
        seed=args.seed,
        maskgit_steps=args.maskgit_steps,
        temperature=args.temperature,
    )
    with_truth = probes is not None
    episodes = load_episodes(
        args.data,
        args.split,
        limit=2 * args.clips,
        actions=with_truth,
        state=with_truth,
        image_hw=(model.image_height, model.image_width),
    )
    clips = collect_clips(episodes, clips=args.clips, frames=config.clip_frames, seed=args.seed)
    with tqdm(total=config.draws + 3 + (probes is not None), desc="evaluate model", leave=False) as bar:

        def progress(what: str) -> None:
            bar.set_postfix_str(what)
            bar.update()

        whole = collect_clips(episodes, clips=len(episodes), frames=min(e.num_frames for e in episodes))
        evaluation = evaluate_model(model, clips, config, progress, label_clips=whole)
        metrics = evaluation.metrics
        if probes is not None:
            progress("measuring each code")
            metrics |= measure_codebook(
                model,
                episodes,
                probes,
                seed=args.seed,
                maskgit_steps=args.maskgit_steps,
                temperature=args.temperature,
            ).metrics
    picture = write_png(Path(args.out) / "strips.png", strip_picture(evaluation))
    if args.json != "-":
        for key, value in metrics.items():
            if isinstance(value, float | int):
                print(f"{key:28s} {value:.4g}")
        print(f"picture: {picture}")
    write_json(args.json, {"model": json.loads(json.dumps(metrics, default=float)), "picture": str(picture)})
    return 0


def _policies(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from genie_robot.cli._evaluation import check_counts, open_model, write_json
    from genie_robot.evaluation.policy_eval import PolicyEvalConfig, PolicyEvaluation
    from genie_robot.evaluation.policy_summary import report_line, summarise
    from genie_robot.evaluation.probe import load_probe
    from genie_robot.simulation.action_interface import load_adapter
    from genie_robot.simulation.policies import POLICY_NAMES

    check_counts(args, "seeds", "max_steps", "maskgit_steps")
    config = PolicyEvalConfig(
        policies=_words(args.policies) or POLICY_NAMES,
        tasks=_words(args.tasks),
        seeds=args.seeds,
        max_steps=args.max_steps,
        maskgit_steps=args.maskgit_steps,
        temperature=args.temperature,
        worlds=_words(args.worlds),
    )
    only_truth = set(config.worlds) == {"mujoco"}
    model = None if only_truth else open_model(args.model)
    adapter = None if only_truth else load_adapter(args.model)
    probes = load_probe(args.probe)
    evaluation = PolicyEvaluation(config, args.out, probes, model, adapter, args.policy_timeout)
    with tqdm(total=config.episodes, desc="episodes", unit="ep", leave=False) as bar:

        def progress(done: int, what: str) -> None:
            bar.set_postfix_str(what)
            bar.update(done)

        rows = evaluation.run(progress)
    summary = summarise(config, rows)
    if args.json != "-":
        _print_summary(summary, config.worlds)
        print(f"rows: {evaluation.csv_path}")
        if "pearson_r" in summary:
            print(report_line(summary))
    write_json(args.json, {"policies": summary})
    return 0


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _print_summary(summary: dict[str, Any], worlds: tuple[str, ...]) -> None:
    print(f"{'task':6s} {'policy':14s} " + " ".join(f"{world:>26s}" for world in worlds))
    for entry in summary["table"]:
        cells = []
        for world in worlds:
            cell = entry[world]
            low, high = cell["wilson"]
            cells.append(f"{cell['successes']:3d}/{cell['trials']:<3d} [{low:.2f}, {high:.2f}]".rjust(26))
        print(f"{entry['task']:6s} {entry['policy']:14s} " + " ".join(cells))
    if "action_interface" in summary:
        ceiling = summary["action_interface"]["pearson_r"]
        text = "undefined" if ceiling is None else f"{ceiling:.3f}"
        print(f"action interface alone (MuJoCo through adapter and dictionary): r={text}")
        if ceiling is None or ceiling < 0.98:
            print(
                "note: below 0.98, so part of any disagreement comes from the codes, not from the world model"
            )
