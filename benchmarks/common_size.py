"""The dynamics at a size that other implementations were timed at: a training step, and a generated frame with and without cache.

    python benchmarks/common_size.py [--out benchmarks/results/common_size_<machine>_<date>.md]

64x64 pixels in patches of 4 (256 tokens a frame), 16 frames, width 512, 8 blocks, 8 heads, 1,024 codes, fp32, one thread, random
weights and data: this is about time alone, and both ways must still give the same tokens. CPU seconds of this process.

  training step    batch of 4 clips, forward, backward, AdamW; in-place masking as in the paper (what the others do), and ours
                   with clean history, which passes each clip twice
  generated frame  25 MaskGIT steps after 16 frames: with the temporal cache (prefill of the prompt not counted: it is done once
                   a rollout, its time is printed), and with all 17 frames run again at each step
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from genie_robot.config import DynamicsConfig, LatentActionConfig, SamplingConfig, TransformerConfig
from genie_robot.data.provenance import cpu_name, git_hash
from genie_robot.models.dynamics import Dynamics
from genie_robot.sampling.context import CachedContext, RecomputedContext
from genie_robot.sampling.maskgit import generate_frame

CODES, GRID, FRAMES, STEPS, BATCH = 1024, (16, 16), 16, 25, 4
TOKENS = GRID[0] * GRID[1]
#: CPU seconds on one thread of a like machine, 2026: the best of Jafar, Jasmine, 1xgpt, TinyWorlds and open-genie. It is
#: Jafar both times, whose feed-forward layers are an eighth of ours (20.3 M parameters).
BEST_PEER = {"training_step": 56.0, "generated_frame": 69.5}


def build(history: str) -> Dynamics:
    """The common size, with weights that are nowhere zero."""
    torch.manual_seed(0)
    stack = TransformerConfig(num_layers=8, dim=512, num_heads=8)
    dynamics = Dynamics(
        DynamicsConfig(stack, history=history, token_noise=0.0), CODES, LatentActionConfig(), GRID, FRAMES + 1
    )
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return dynamics


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time of one call, and its result."""
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def training_step(history: str, rounds: int) -> float:
    """Median CPU seconds of a step on a batch of clips."""
    dynamics = build(history).train()
    optimizer = torch.optim.AdamW(dynamics.parameters(), lr=1e-4)
    tokens = torch.randint(CODES, (BATCH, FRAMES, TOKENS))
    actions = torch.randint(8, (BATCH, FRAMES - 1))

    def step() -> None:
        generators = [torch.Generator().manual_seed(clip) for clip in range(BATCH)]
        dynamics(tokens, actions, generators)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return sorted(cpu_seconds(step)[0] for _ in range(rounds))[rounds // 2]


@torch.no_grad()
def generated_frame(rounds: int) -> dict[str, Any]:
    """Median CPU seconds of the 17th frame both ways, taken in turn."""
    dynamics = build("clean").eval()
    tokens, action = torch.randint(CODES, (1, FRAMES, TOKENS)), torch.randint(8, (1,))
    actions = dynamics.produced_by(torch.randint(8, (1, FRAMES - 1)))
    contexts = {"cached": CachedContext(dynamics), "recomputed": RecomputedContext(dynamics)}
    prefill = {name: cpu_seconds(lambda c=c: c.append(tokens, actions))[0] for name, c in contexts.items()}
    spent: dict[str, list[float]] = {name: [] for name in contexts}
    frames: dict[str, torch.Tensor] = {}
    for _ in range(rounds):
        for name, context in contexts.items():
            seconds, frames[name] = cpu_seconds(
                lambda c=context: generate_frame(
                    c, action, [torch.Generator().manual_seed(0)], SamplingConfig(STEPS, temperature=1.0)
                )
            )
            spent[name].append(seconds)
    median = {name: sorted(seconds)[rounds // 2] for name, seconds in spent.items()}
    return {
        "cached_s": median["cached"],
        "recomputed_s": median["recomputed"],
        "ratio": median["recomputed"] / median["cached"],
        "prefill_s": prefill["cached"],
        "tokens_identical": bool(torch.equal(frames["cached"], frames["recomputed"])),
        "distinct_tokens": len(frames["cached"].unique()),
    }


def main() -> None:
    """Measure, print a table, write it if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the table here, and the numbers beside it as .json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "training_step_masked_s": training_step("masked", args.rounds),
        "training_step_clean_s": training_step("clean", args.rounds),
        "generated_frame": generated_frame(args.rounds),
        "parameters": sum(p.numel() for p in build("clean").parameters()),
    }
    text = table(result)
    print(text)
    if args.out:
        args.out.write_text(text)
        args.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")


def table(result: dict[str, Any]) -> str:
    """Markdown with the numbers and how they were made."""
    frame = result["generated_frame"]
    rows = [
        ("training step, batch 4, in-place masking", result["training_step_masked_s"], "training_step"),
        (
            "training step, batch 4, clean history (each clip twice)",
            result["training_step_clean_s"],
            "training_step",
        ),
        ("generated frame, 25 steps, temporal cache", frame["cached_s"], "generated_frame"),
        ("generated frame, 25 steps, all frames run again", frame["recomputed_s"], "generated_frame"),
    ]
    lines = [
        "# Common size: CPU seconds on one thread",
        "",
        f"`python {' '.join(sys.argv)}`, commit {git_hash()}, torch {torch.__version__}, {cpu_name()}.",
        f"{result['parameters'] / 1e6:.1f} M parameters, 256 tokens a frame, fp32, 1 thread.",
        "",
        "| what | CPU s | best of five other implementations | ratio |",
        "| --- | --- | --- | --- |",
        *(f"| {n} | {s:.2f} | {BEST_PEER[p]:.1f} | {BEST_PEER[p] / s:.1f}x |" for n, s, p in rows),
        "",
        f"Cache against running all frames again, in this process: **{frame['ratio']:.1f}x**, tokens identical: "
        f"{frame['tokens_identical']} ({frame['distinct_tokens']} different codes in the frame). "
        f"Prefill of 16 frames, once a rollout: {frame['prefill_s']:.2f} s.",
        "The others are Jafar, Jasmine, 1xgpt, TinyWorlds and open-genie as their code stands: same size, thread count and "
        "precision on a like machine, all frames run again at each step. The best of them is Jafar, with feed-forward layers "
        "an eighth of ours (20.3 M parameters); 1xgpt, of our size, takes 57.1 and 106.7 s. Both sides were timed under "
        "other load, and no script here times the others, so read the ratios to them as magnitudes.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
