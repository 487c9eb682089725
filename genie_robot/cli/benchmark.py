"""`genie-robot benchmark`: speed of this machine on real frames: generation, training step, loader."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EPISODES, ROUNDS = 8, 5


def add_parser(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "benchmark",
        help="speed of this machine: generation, training step, loader",
        description="Speed of this machine: generation with the temporal cache and without, a training step of the "
        "dynamics, the clip loader. Frames come from MuJoCo, weights from the model folder.",
        epilog="examples:\n  genie-robot benchmark\n  genie-robot benchmark --threads 1 --maskgit-steps 25 --json speed.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", default="weights/tabletop-tiny", help="model folder (default: %(default)s)"
    )
    parser.add_argument(
        "--maskgit-steps", type=int, default=8, metavar="M", help="passes a frame (default: 8)"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="CPU threads (default: 2)")
    parser.add_argument("--json", metavar="FILE", help="write the numbers as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    """Measure, print a table, and write JSON if asked."""
    import numpy as np
    import torch

    import genie_robot
    from genie_robot.sampling.benchmark import compare_cache
    from genie_robot.simulation.mujoco.generate import generate_episodes

    torch.set_num_threads(args.threads)
    model = genie_robot.load(args.model)
    episodes = list(generate_episodes(EPISODES, seed=99, split="test", progress=True))
    frames = model.config.video.num_frames
    video = np.stack([episode["frames_TYXC"][:frames] for episode in episodes])
    generation = compare_cache(model, video[:1], steps=args.maskgit_steps)
    result = {
        "generation": {
            "frames_per_s": generation["cached_frames_per_s"],
            "passes": args.maskgit_steps + 1,
            "cpu_s_per_frame": round(1 / generation["cached_frames_per_s"], 4),
            "speedup_over_running_all_frames": generation["speedup"],
            "tokens_identical": generation["tokens_identical"],
        },
        "training": _training(model, video),
        "loader": _loader(episodes, frames),
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": args.threads},
        "versions": {"torch": torch.__version__, "genie_robot": genie_robot.__version__},
        "model": model.hash,
    }
    for part in ("generation", "training", "loader"):
        for key, value in result[part].items():
            print(f"{part:<11} {key:<34} {value}")
    if args.json == "-":
        print(json.dumps(result))
    elif args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _median_s(work: Callable[[], object]) -> float:
    """Wall seconds of one call: median of ROUNDS after a warm-up."""
    work()
    spent = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return sorted(spent)[ROUNDS // 2]


def _training(model: Any, video: Any) -> dict[str, Any]:
    """One optimizer step of the dynamics on a batch of real clips, in the precision that training would choose."""
    import copy

    from genie_robot.config import HardwareConfig, StageConfig
    from genie_robot.training.hardware import autocast, pick_precision
    from genie_robot.training.optim import build_optimizers
    from genie_robot.training.throughput import peak_flops

    device = model.device
    precision = pick_precision(HardwareConfig(), device)
    tokens_BTN = model.encode(video)
    codes_BS = model.latent_action.infer(model.action_input(model.to_float(video)))[0]
    dynamics = copy.deepcopy(model.dynamics).requires_grad_(True).train()
    optimizers = build_optimizers(dynamics, StageConfig(optimizer="muon"))

    def step() -> None:
        with autocast(precision, device):
            loss = dynamics(tokens_BTN, codes_BS)["loss"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    seconds = _median_s(step)
    batch, frames, places = tokens_BTN.shape
    flops = batch * dynamics.training_flops(frames)
    return {
        "step_s": round(seconds, 4),
        "tokens_per_s": round(batch * frames * places / seconds),
        # of the data sheet's peak, or on an unknown device of a large matrix product measured in the same run
        "mfu": round(flops / seconds / peak_flops(device, precision), 3),
        "precision": precision,
    }


def _loader(episodes: list[dict[str, Any]], frames: int) -> dict[str, Any]:
    from genie_robot.data.clip_builder import build_clip_cache
    from genie_robot.data.loader import ClipLoader
    from genie_robot.data.rlds_writer import write_dataset

    with tempfile.TemporaryDirectory() as folder:
        clean = [{"frames_TYXC": episode["frames_TYXC"]} for episode in episodes]
        size = clean[0]["frames_TYXC"].shape[1:3]
        path = write_dataset(folder, "benchmark", "1.0.0", {"train": clean}, size, rate_hz=5.0)
        loader = ClipLoader(build_clip_cache(path, Path(folder) / "cache", *size), frames, batch_size=16)
        next(loader)
        started = time.process_time()
        for _ in range(200):
            next(loader)
        return {"frames_per_cpu_s": round(200 * 16 * frames / (time.process_time() - started))}
