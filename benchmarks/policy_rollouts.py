"""How fast policies are judged in imagination: episodes side by side with one shared prompt, against one at a time.

    python benchmarks/policy_rollouts.py [--config ci] [--out benchmarks/results/policy_rollouts_<machine>_<date>]

One run, one thread, one model, processor time (which other work on the machine does not change): closed loop, with the
config's own policies, interface and sampling. Batches of B episodes are S seeds x P policies; each seed's prompt is encoded
once and forked. The last column is the share of the time that goes into policies, interface and prompt. Writes OUT.json and
OUT.md, and prints the table.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from genie_robot.data.provenance import cpu_name, git_hash
from genie_robot.evaluation.estimate import frames_per_second
from genie_robot.evaluation.evaluation_config import Block, EvaluationConfig, load_config
from genie_robot.evaluation.evaluation_parts import open_parts
from genie_robot.evaluation.policy_eval import PolicyEvaluation
from genie_robot.evaluation.policy_guard import GuardedPolicies
from genie_robot.evaluation.worlds import ImaginedWorld, roll_out, starts_of


def closed_loop(evaluation: PolicyEvaluation, batch: int, horizon: int) -> float:
    """Imagined frames a second of one block of `batch` episodes with its policies."""
    config, parts = evaluation.config, evaluation.parts
    policies = config.policies[:batch]
    seeds = config.all_seeds[: max(1, batch // len(policies))]
    block = Block("imagined", config.tasks[0], policies, seeds)
    assert parts.model is not None and parts.interface is not None
    world = ImaginedWorld(
        evaluation.suite,
        parts.model,
        parts.interface,
        starts_of(evaluation.suite, block.task, seeds),
        len(policies),
        maskgit_steps=config.maskgit_steps,
        temperature=config.temperature,
    )
    actors = GuardedPolicies(
        [parts.make_policy(policy, block.task) for policy, _ in block.episodes], config.policy_timeout_s
    )
    begun = time.process_time()
    roll_out(world, actors, [seed for _, seed in block.episodes], horizon)
    seconds = time.process_time() - begun
    actors.close()
    return len(block.episodes) * horizon / seconds


def measure(config: EvaluationConfig, seeds_per_block: list[int], horizon: int) -> dict[str, Any]:
    """All rows of the table."""
    with tempfile.TemporaryDirectory() as folder:
        evaluation = PolicyEvaluation(config, folder, open_parts(config))
        count = len(config.policies)
        batches = [1, *(seeds * count for seeds in seeds_per_block)]
        closed_loop(evaluation, 1, 2)  # warm
        rows = []
        for batch in batches:
            world = frames_per_second(evaluation, batch, max(2, horizon // 2), time.process_time)
            closed = closed_loop(evaluation, batch, horizon)
            rows.append(
                {"episodes": batch, "world_model_frames_per_s": world, "closed_loop_frames_per_s": closed}
            )
        assert evaluation.parts.model is not None
        return {"model": evaluation.parts.model.hash, "horizon": horizon, "rows": rows}


def report(result: dict[str, Any]) -> str:
    """The table as Markdown."""
    one = result["rows"][0]["closed_loop_frames_per_s"]
    lines = [
        "# Policies in imagination: frames a second of processor time, one thread",
        "",
        f"Model {result['model']}, {result['horizon']} steps, interface {result['interface']}, "
        f"{result['maskgit_steps']} sampling passes, {result['threads']} threads, torch {result['torch']}, commit "
        f"{result['commit']}, {result['cpu']}, `{result['command']}`.",
        "",
        "| episodes side by side | world model alone | with policies | against one at a time | not the model |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        world, closed = row["world_model_frames_per_s"], row["closed_loop_frames_per_s"]
        lines.append(
            f"| {row['episodes']} | {world:.1f} | {closed:.1f} | {closed / one:.1f} x | {max(0.0, 1 - closed / world):.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, store."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", default="", help="as for `genie-robot evaluate policies`; none: the table top"
    )
    parser.add_argument(
        "--seeds-per-block", default="1,2,4", help="seeds x policies side by side (default: %(default)s)"
    )
    parser.add_argument("--horizon", type=int, default=8, help="steps of an episode (default: %(default)s)")
    parser.add_argument("--out", default="", help="path without suffix; none: print only")
    args = parser.parse_args()
    config = load_config(args.config) if args.config else EvaluationConfig()
    result = measure(config, [int(word) for word in args.seeds_per_block.split(",")], args.horizon)
    result |= {
        "interface": config.interface,
        "maskgit_steps": config.maskgit_steps,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": git_hash(),
        "cpu": cpu_name(),
        "command": f"python benchmarks/policy_rollouts.py --config {args.config or 'none'}",
    }
    text = report(result)
    print(text)
    if args.out:
        Path(f"{args.out}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        Path(f"{args.out}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
