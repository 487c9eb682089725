"""`genie-robot evaluate policies`: policies x tasks x paired seeds in MuJoCo and in imagination, and how far they agree."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genie_robot.evaluation.episodes import Row
    from genie_robot.evaluation.evaluation_config import EvaluationConfig
    from genie_robot.evaluation.policy_eval import PolicyEvaluation

EPILOG = """examples:
  genie-robot evaluate policies
  genie-robot evaluate policies --config nightly --out outputs/nightly
  genie-robot evaluate policies --policies my_policy:MyPolicy,random-keys --out outputs/my_policy
  genie-robot evaluate policies weights/tabletop-tiny --seeds 32 --tasks push --out outputs/push --json push.json
  genie-robot evaluate policies --worlds mujoco --policies expert-1.0,expert-0.5,no-op --seeds 4
  genie-robot evaluate policies --policies ros:/my_policy,expert-0.8,no-op --out outputs/my_policy

Every episode (task, policy, seed) runs in MuJoCo and in imagination from the same scene and first image with the same
random stream. Finished blocks in OUT/episodes.csv are not run again: after an interruption, give the same command.
Blocks are spread over processes; the rows are the same for any number of them.
A configuration (configs/evaluation, or a YAML file) is one evaluation; options override its fields. Without one it is
the small table top of eight codes, whose interface is known to lose much: it is scored all the same.

Your policy (docs/evaluate_your_policy.md): module:attribute, a name of the entry point group genie_robot.policies,
lerobot:FOLDER, or ros:/my_policy, a ROS 2 node in that namespace (docs/ros2_policies.md). One that raises, answers NaN
or the wrong shape, or takes longer than --policy-timeout fails that episode alone; the reasons are told at the end and
the exit code stays 0. Rows are kept by name: give a changed policy another name or another --out.
"""
_NAMES = ("suite", "interface", "probe", "second_judge", "policy_weights", "device", "dtype")
_LISTS = ("policies", "unseen_policies", "tasks", "worlds")
_NUMBERS = ("seeds", "maskgit_steps", "temperature", "block")


def add_policies_parser(parser: argparse.ArgumentParser) -> None:
    """Add the options of `evaluate policies`; what is not given is the configuration's."""
    add = parser.add_argument
    add("model", nargs="?", help="model folder (default: weights/tabletop-tiny, or the configuration's)")
    add("--config", metavar="C", help="ci, nightly, full (configs/evaluation), or a YAML file")
    add("--suite", metavar="S", help="task suite: tabletop or manipulation")
    add(
        "--interface",
        metavar="I",
        help="how robot actions reach the model: m0, m1:8, m1:8x2, m1:8x3, m1:continuous, m2",
    )
    add(
        "--probe", metavar="DIR", help="state probe: primary judge and eyes (default: weights/tabletop-probe)"
    )
    add("--second-judge", metavar="J", help="independent classifier: folder, or a name of genie_robot.judges")
    add(
        "--policies",
        metavar="A,B",
        help="comma-separated (default: experts of five skills, random-keys, no-op)",
    )
    add(
        "--unseen-policies",
        metavar="A,B",
        help="those of them that no model or judge has seen; reported apart",
    )
    add("--policy-weights", metavar="DIR", help="folder of cloned policies")
    add(
        "--policy-timeout", type=float, metavar="S", help="seconds a policy may take to be found, and to answer (30)"
    )  # fmt: skip
    add("--tasks", metavar="A,B", help="comma-separated (default: all of the suite)")
    add("--seeds", type=int, metavar="K", help="paired seeds (default: 16)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--max-steps", type=int, metavar="S", help="steps of an episode (default: the suite's)"
    )
    length.add_argument(
        "--horizons", metavar="S,S", help="several lengths, prefixes of one rollout: 32,64,128"
    )
    add(
        "--worlds",
        metavar="A,B",
        help="of mujoco,interface,tokenizer,imagined,replay (default: mujoco,interface,imagined)",
    )
    add("--maskgit-steps", type=int, metavar="M", help="sampling passes a frame (default: 8)")
    add("--temperature", type=float, metavar="T", help="of sampling")
    add("--block", type=int, metavar="B", help="episodes that run side by side (default: 16)")
    add("--workers", type=int, default=0, metavar="N", help="processes (default, 0: one a core, at most 8; one on a GPU)")  # fmt: skip
    add("--device", metavar="D", help="of the world model: cpu, cuda (default: cpu)")
    add(
        "--dtype",
        metavar="D",
        help="of its weights: float32 (default), or bfloat16, quicker with AMX or on a GPU",
    )
    add(
        "--i-know",
        action="store_true",
        help="score in imagination though the action interface loses too much",
    )
    add("--out", default="outputs/evaluate_policies", metavar="DIR", help="rows, films, report (default: %(default)s)")  # fmt: skip
    add("--json", metavar="FILE", help="write the summary as JSON (- for the screen)")


def run_policies(args: argparse.Namespace) -> int:
    """Run `evaluate policies`; returns the exit code."""
    from genie_robot.cli._evaluation import write_json
    from genie_robot.evaluation.evaluation_parts import open_parts
    from genie_robot.evaluation.policy_eval import PolicyEvaluation
    from genie_robot.evaluation.policy_report import write_report
    from genie_robot.evaluation.summary.compare import report_line
    from genie_robot.evaluation.summary.summarise import summarise

    config = configure(args)
    evaluation = PolicyEvaluation(config, args.out, open_parts(config))
    quiet = args.json == "-"
    rows = _run(evaluation, _workers(args.workers, config))
    _warn_of_bad_policies([row for row in rows if row.horizon == config.horizon])
    if "mujoco" not in config.worlds:
        print(f"rows: {evaluation.csv_path} (without the world mujoco there is nothing to compare with)")
        return 0
    summary = summarise(rows, evaluation.facts, floors=evaluation.floor_rates())
    if not quiet:
        _print_table(summary, evaluation.facts.worlds)
        print(f"rows: {evaluation.csv_path}")
    if "pearson_r" in summary:
        report = write_report(summary, args.out)
        if not quiet:
            print(f"report: {report}\n{report_line(summary)}")
    write_json(args.json, {"policies": summary})
    return 0


def configure(args: argparse.Namespace) -> EvaluationConfig:
    """The configuration of a command line: a file's, or the small table top, with the options given on top."""
    from genie_robot.errors import ConfigError
    from genie_robot.evaluation.evaluation_config import EvaluationConfig, load_config

    changes: dict[str, Any] = {name: getattr(args, name) for name in (*_NAMES, *_NUMBERS)}
    changes |= {name: _words(getattr(args, name)) for name in _LISTS}
    changes |= {"model": args.model, "policy_timeout_s": args.policy_timeout, "i_know": args.i_know or None}
    if args.max_steps is not None:
        changes["horizons"] = (args.max_steps,)
    if args.horizons is not None:
        try:
            changes["horizons"] = tuple(int(word) for word in _words(args.horizons) or ())
        except ValueError:
            raise ConfigError(
                f"--horizons is {args.horizons!r}; wanted whole numbers such as 32,64"
            ) from None
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if args.config:
        if "policies" in given:
            given.setdefault("unseen_policies", ())  # found anew among the policies given
        return replace(load_config(args.config), **given)
    if given.get("suite", "tabletop") == "tabletop":
        given.setdefault("i_know", True)
    else:
        given.setdefault("name", "command line")
    return EvaluationConfig(**given)


def _words(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _workers(asked: int, config: EvaluationConfig) -> int:
    """How many processes; on a CPU each takes one thread, so that rows do not depend on their number."""
    import torch

    from genie_robot.errors import ConfigError
    from genie_robot.simulation.ros_policy import is_ros_policy

    if asked < 0:
        raise ConfigError(f"--workers is {asked}; wanted 1 or more, or 0 for one a core")
    nodes = [name for name in config.policies if is_ros_policy(name)]
    if nodes and asked > 1:
        raise ConfigError(
            f"--workers is {asked}; wanted 1 with {nodes[0]}, which is one program with one memory"
        )
    if config.device != "cpu":
        return asked or 1
    torch.set_num_threads(1)
    return 1 if nodes else asked or min(8, os.cpu_count() or 1)


def _run(evaluation: PolicyEvaluation, workers: int) -> list[Row]:
    from tqdm import tqdm

    total = evaluation.config.episodes
    done = total - evaluation.episodes_left
    with tqdm(total=total, initial=done, desc="episodes", unit="ep", leave=False) as bar:

        def progress(done: int, what: str) -> None:
            bar.set_postfix_str(what)
            bar.update(done)

        def say(text: str) -> None:
            bar.write(text, file=sys.stderr)

        return evaluation.run(progress, say, workers)


def _warn_of_bad_policies(rows: list[Row]) -> None:
    bad = [row for row in rows if row.status != "ok"]
    if not bad:
        return
    print(
        f"WARNING: in {len(bad)} of {len(rows)} episodes the policy failed; they count as failures of the policy",
        file=sys.stderr,
    )
    for (policy, status, reason), count in Counter((r.policy, r.status, r.reason) for r in bad).most_common(
        8
    ):
        print(f"  {policy}: {status} in {count} episodes: {reason}", file=sys.stderr)


def _print_table(summary: dict[str, Any], worlds: tuple[str, ...]) -> None:
    wide = max(len(entry["policy"]) for entry in summary["table"])
    print(f"{'task':11s} {'policy':{wide}s} " + " ".join(f"{world:>26s}" for world in worlds))
    for entry in summary["table"]:
        cells = []
        for world in worlds:
            low, high = entry[world]["wilson"]
            cells.append(
                f"{entry[world]['successes']:3d}/{entry[world]['trials']:<3d} [{low:.2f}, {high:.2f}]".rjust(
                    26
                )
            )
        print(f"{entry['task']:11s} {entry['policy']:{wide}s} " + " ".join(cells))
