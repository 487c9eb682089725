"""What to measure when a GPU is at hand, in one command; every part is written as soon as it is done.

    python benchmarks/gpu.py --out outputs/gpu            # about 15 minutes on one H200-class GPU
    python benchmarks/gpu.py --out outputs/gpu --toy      # seconds, on a CPU: the same code at toy size

  correct   cached = recomputed tokens in fp32; causality; a bf16 training step of each stage against fp32
  passes    milliseconds of one MaskGIT pass over one frame after a full window: eager, compiled, as a CUDA graph
  frames    generated frames a second at 25, 8, 4 and 2 steps, with the cache; and against all frames run again
  training  tokens a second, MFU and memory of a real optimizer step, by micro-batch, compiled or not
  temporal  attention over time alone, forward and backward: torch's fused kernel against plain products

Weights are random: fine for speed, never for quality. Results: <out>/<part>.json, with versions, device and commit.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from genie_robot.cli._compose import compose
from genie_robot.config import SamplingConfig, TrainConfig
from genie_robot.data.provenance import git_hash
from genie_robot.models.masking import two_stream_mask
from genie_robot.models.world_model import WorldModel
from genie_robot.nn.st_transformer import STBlock
from genie_robot.sampling.context import CachedContext, RecomputedContext
from genie_robot.sampling.maskgit import generate_frame
from genie_robot.sampling.rollout import imagine
from genie_robot.training import parallel
from genie_robot.training.batch import Batch, clip_generators
from genie_robot.training.hardware import autocast
from genie_robot.training.optim import build_optimizers, set_rate
from genie_robot.training.stages import build_stage
from genie_robot.training.throughput import memory_gib, peak_flops

SMALL_FRAME = ["model.video.height=64", "model.video.width=64"]
SIZES = {
    "base": ["model=base"],
    "robotics_2_5b at 64x64": ["model=robotics_2_5b", *SMALL_FRAME],
    "robotics_2_5b at 96x128": ["model=robotics_2_5b"],
}
_STACK = "{num_layers: 2, dim: 32, num_heads: 2, ffn_ratio: 4.0, local_conv: false, attention: space_time}"
TOY = {
    "toy": [
        *("model=robotics_2_5b", "model.video.height=32", "model.video.width=32", "model.video.num_frames=6"),
        *(f"model.tokenizer.{part}_transformer={_STACK}" for part in ("encoder", "decoder")),
        *(f"model.latent_action.{part}_transformer={_STACK}" for part in ("encoder", "decoder")),
        f"model.dynamics.transformer={_STACK}",
        *(f"training.{stage}.num_frames=6" for stage in ("tokenizer", "latent_action", "dynamics")),
    ]
}


class Bench:
    """Device, sizes and where results go."""

    def __init__(self, out: Path, toy: bool) -> None:
        self.out, self.toy = out, toy
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.precision = "bf16" if self.device.type == "cuda" else "fp32"
        self.sizes = TOY if toy else SIZES

    def config(self, size: str, *words: str) -> TrainConfig:
        """A preset with changes."""
        return compose([*self.sizes[size], *words])

    def model(self, config: TrainConfig) -> WorldModel:
        """Random weights, nowhere zero, on the device."""
        torch.manual_seed(0)
        with self.device:
            model = WorldModel(config.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        return model.eval().requires_grad_(False)

    def seconds(self, work: Callable[[], Any], rounds: int = 5) -> float:
        """Median time of a call after two warm-ups: wall time, the device waited for.

        On a CPU it is processor time, which other work on the machine hardly changes.
        """
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        spent = []
        for number in range(2 + rounds):
            started = clock()
            work()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                spent.append(clock() - started)
        return sorted(spent)[rounds // 2]

    def write(self, part: str, rows: list[dict[str, Any]]) -> None:
        """Print and store one part."""
        record = {"part": part, "rows": rows, **self.about()}
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / f"{part}.json").write_text(json.dumps(record, indent=1) + "\n")
        for row in rows:
            print(part, json.dumps(row), flush=True)

    def about(self) -> dict[str, str]:
        """Device, versions, commit."""
        cuda = self.device.type == "cuda"
        return {
            "device": torch.cuda.get_device_name() if cuda else platform.machine(),
            "torch": torch.__version__,
            "commit": git_hash(),
            "command": " ".join(sys.argv),
        }


def correct(bench: Bench) -> list[dict[str, Any]]:
    """Invariants on this device."""
    size = next(iter(bench.sizes))
    config = bench.config(size, "model.video.height=32", "model.video.width=32")
    model = bench.model(config)
    codes, frames = config.model.tokenizer.codebook_size, config.model.video.num_frames
    tokens = torch.randint(codes, (2, 2, config.model.tokens_per_frame), device=bench.device)
    actions = torch.randint(8, (2, 1), device=bench.device)
    future = torch.randint(8, (2, frames), device=bench.device)
    produced = model.dynamics.produced_by(actions)
    both = [
        imagine(model.dynamics, tokens, produced, future, range(2), SamplingConfig(4), context)
        for context in (CachedContext, RecomputedContext)
    ]
    later = tokens.clone()
    later[:, 1] = (later[:, 1] + 1) % codes
    leak = (
        (model.dynamics.logits(tokens, produced) - model.dynamics.logits(later, produced))[:, 0].abs().max()
    )
    rows: list[dict[str, Any]] = [
        {
            "check": "cached tokens = recomputed, fp32",
            "ok": bool(torch.equal(*both)),
            "tokens": both[0].numel(),
        },
        {"check": "no leak from a later frame", "ok": float(leak) == 0.0, "largest": float(leak)},
    ]
    for stage in ("tokenizer", "latent_action", "dynamics"):
        losses = [_one_loss(bench, config, stage, precision) for precision in ("fp32", "bf16")]
        near = abs(losses[0] - losses[1]) < 0.03 * abs(losses[0])
        rows.append({"check": f"{stage} step, bf16 near fp32", "ok": near, "losses": losses})
    return rows


def _one_loss(bench: Bench, config: TrainConfig, name: str, precision: str) -> float:
    torch.manual_seed(0)
    stage = build_stage(name, config)
    stage.model.to(bench.device)
    video = config.model.video
    generator = torch.Generator().manual_seed(0)
    clips = torch.rand(2, video.num_frames, video.height, video.width, 3, generator=generator)
    with autocast(precision, bench.device):
        out = stage.losses(Batch(clips.to(bench.device)), clip_generators(0, 0, 0, 2))
    loss = next(iter(out.terms.values())).loss
    loss.backward()
    return float(loss.detach())


@torch.no_grad()
def passes(bench: Bench) -> list[dict[str, Any]]:
    """One pass over one new frame after a window that has room for it alone."""
    rows = []
    for size in bench.sizes:
        config = bench.config(size)
        dynamics = bench.model(config).dynamics.to(bench.dtype)
        for batch in (1,) if bench.toy else (1, 4, 8):
            work = _pass(bench, config, dynamics, batch)
            row: dict[str, Any] = {"size": size, "tokens": config.model.tokens_per_frame, "batch": batch}
            row["eager_ms"] = 1e3 * bench.seconds(work)
            if bench.device.type == "cuda":
                row["graph_ms"] = 1e3 * bench.seconds(_graphed(work))
            rows.append(row)
        if bench.device.type == "cuda":
            for block in [part for part in dynamics.modules() if isinstance(part, STBlock)]:
                block.compile()
            work = _pass(bench, config, dynamics, 1)
            compiled: dict[str, Any] = {"size": size, "tokens": config.model.tokens_per_frame, "batch": 1}
            compiled["compiled_ms"] = 1e3 * bench.seconds(work)
            compiled["compiled_graph_ms"] = 1e3 * bench.seconds(_graphed(work))
            rows.append(compiled)
    return rows


def _window(
    bench: Bench, config: TrainConfig, dynamics: Any, batch: int, context: type[CachedContext]
) -> Any:
    """A context with one frame less than its window holds."""
    frames, tokens = config.model.video.num_frames - 1, config.model.tokens_per_frame
    past = torch.randint(config.model.tokenizer.codebook_size, (batch, frames, tokens), device=bench.device)
    actions = torch.randint(8, (batch, frames - 1), device=bench.device)
    window = context(dynamics)
    window.append(past, dynamics.produced_by(actions))
    return window


def _pass(bench: Bench, config: TrainConfig, dynamics: Any, batch: int) -> Callable[[], Any]:
    window = _window(bench, config, dynamics, batch, CachedContext)
    masked = torch.full((batch, config.model.tokens_per_frame), dynamics.mask_id, device=bench.device)
    action = torch.zeros(batch, dtype=torch.int64, device=bench.device)
    return lambda: window.logits(masked, action)


def _graphed(work: Callable[[], Any]) -> Callable[[], Any]:
    """The call as one CUDA graph."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


@torch.no_grad()
def frames(bench: Bench) -> list[dict[str, Any]]:
    """A whole frame by number of steps, and the price of running all frames again."""
    rows = []
    for size in bench.sizes:
        config = bench.config(size)
        dynamics = bench.model(config).dynamics.to(bench.dtype)
        action = torch.zeros(1, dtype=torch.int64, device=bench.device)
        for steps in (4, 2) if bench.toy else (25, 8, 4, 2):
            row: dict[str, Any] = {"size": size, "steps": steps}
            for name, context in (("cached", CachedContext), ("recomputed", RecomputedContext)):
                if name == "recomputed" and steps == 25 and "96x128" in size:
                    continue  # minutes a frame
                window = _window(bench, config, dynamics, 1, context)
                sampling = SamplingConfig(steps, temperature=1.0, order="halton")

                def frame(window: Any = window, sampling: Any = sampling, action: Any = action) -> None:
                    generate_frame(window, action, [torch.Generator().manual_seed(0)], sampling)

                row[f"{name}_s"] = bench.seconds(frame, rounds=3)
            if "recomputed_s" in row:
                row["ratio"] = row["recomputed_s"] / row["cached_s"]
            row["frames_per_s"] = 1 / row["cached_s"]
            rows.append(row)
    return rows


def training(bench: Bench) -> list[dict[str, Any]]:
    """Optimizer steps of the dynamics on given tokens: what the GPU does; loading and encoding are timed apart."""
    rows = []
    choices = [("clean", "none", 1, False), ("masked", "selective", 2, False)]
    if not bench.toy:
        choices = [
            ("clean", "none", 2, False),
            *(("clean", "none", clips, True) for clips in (2, 4, 8)),
            *(("clean", "selective", clips, True) for clips in (4, 8)),
            *(("masked", "none", clips, True) for clips in (4, 8)),
            *(("masked", "selective", clips, True) for clips in (8, 16)),
        ]
    for size in bench.sizes:
        for history, recompute, clips, compiled in choices:
            row = {
                "size": size,
                "history": history,
                "recompute": recompute,
                "clips": clips,
                "compiled": compiled,
            }
            try:
                row |= _training_row(bench, row)
            except torch.OutOfMemoryError:
                row["out_of_memory"] = True
            rows.append(row)
            if bench.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    return rows


def _training_row(bench: Bench, row: dict[str, Any]) -> dict[str, Any]:
    clips = row["clips"]
    config = bench.config(
        row["size"],
        f"hardware.compile={str(row['compiled']).lower()}",
        f"hardware.recompute={row['recompute']}",
        f"model.dynamics.history={row['history']}",
    )
    with bench.device:
        stage = build_stage("dynamics", config)
    processes = parallel.Processes(0, 1, bench.device)
    parallel.prepare(stage.networks, config.hardware, processes)
    optimizers = build_optimizers(stage.networks, config.training.dynamics)
    frames, tokens = config.model.video.num_frames, config.model.tokens_per_frame
    generator = torch.Generator().manual_seed(0)
    codes = config.model.tokenizer.codebook_size
    batch = Batch(
        tokens_BTN=torch.randint(codes, (clips, frames, tokens), generator=generator).to(bench.device),
        actions=torch.randint(8, (clips, frames - 1), generator=generator).to(bench.device),
    )

    def step() -> None:
        set_rate(optimizers, 10_000, config.training.dynamics)
        with autocast(bench.precision, bench.device):
            loss = stage.losses(batch, clip_generators(0, 0, 0, clips)).terms["dynamics"].loss
        loss.backward()
        parallel.clip_gradients(stage.networks, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    seconds = bench.seconds(step, rounds=3)
    flops = clips * stage.model.dynamics.training_flops(frames)
    return {
        "step_s": seconds,
        "tokens_per_s": clips * frames * tokens / seconds,
        "tflops": flops / seconds / 1e12,
        "mfu": flops / seconds / peak_flops(bench.device, bench.precision),
        "memory_gib": memory_gib(bench.device),
    }


def temporal(bench: Bench) -> list[dict[str, Any]]:
    """Attention of many short sequences (one a place and head), forward and backward."""
    rows = []
    steps, heads, width = (4, 2, 16) if bench.toy else (15, 20, 128)
    frames = 2 * steps  # both streams of a training clip
    for places in (64,) if bench.toy else (2 * 256, 8 * 256, 16 * 256):
        shape = (places, heads, frames, width)
        q, k, v = (
            torch.randn(shape, device=bench.device, dtype=bench.dtype, requires_grad=True) for _ in range(3)
        )
        mask = two_stream_mask(steps, bench.device)

        def fused(q: Any = q, k: Any = k, v: Any = v, mask: Any = mask) -> None:
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask).sum().backward()

        def plain(q: Any = q, k: Any = k, v: Any = v, mask: Any = mask, width: int = width) -> None:
            scores = (q @ k.transpose(-1, -2)).float() * width**-0.5
            (scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype) @ v).sum().backward()

        row: dict[str, Any] = {"places": places, "heads": heads, "frames": frames}
        row |= {"fused_ms": 1e3 * bench.seconds(fused), "plain_ms": 1e3 * bench.seconds(plain)}
        if bench.device.type == "cuda":
            row["plain_compiled_ms"] = 1e3 * bench.seconds(torch.compile(plain))
        rows.append(row)
    return rows


PARTS: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "correct": correct,
    "passes": passes,
    "frames": frames,
    "training": training,
    "temporal": temporal,
}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--toy", action="store_true", help="toy size")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    bench = Bench(args.out, args.toy)
    if not args.toy and bench.device.type != "cuda":
        sys.exit("error: no GPU is to be seen; the same code runs at toy size with --toy")
    for part in args.parts:
        bench.write(part, PARTS[part](bench))


if __name__ == "__main__":
    main()
