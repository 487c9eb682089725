"""How to sample: PSNR t frames after the prompt by temperature, passes, order and schedule, on validation episodes of the training data.

    python benchmarks/sampling.py [model folder] > benchmarks/results/sampling_<machine>_<date>.md

The defaults in genie_robot/config/model.py come from here, so the clips are of the validation split (seed 1), not of the test episodes.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import torch

import genie_robot
from genie_robot.config import SamplingConfig
from genie_robot.evaluation.video import psnr
from genie_robot.models.world_model import to_uint8
from genie_robot.sampling.rollout import imagine
from genie_robot.simulation.mujoco.generate import generate_episodes

MIX = {"play": 0.3, "push": 0.35, "lift": 0.35}  # as the dynamics was trained
EPISODES, PROMPT, HORIZON = 60, 2, 4
SETTINGS = [
    *(SamplingConfig(8, temperature) for temperature in (0.0, 0.3, 0.6, 1.0)),
    *(SamplingConfig(steps, 0.3) for steps in (2, 4, 16)),
    *(SamplingConfig(steps, 0.3, order="halton") for steps in (4, 8)),
    SamplingConfig(8, 0.3, order="halton", schedule="arccos"),
    *(SamplingConfig(8, 0.3, order="confidence", choice_temperature=choice) for choice in (0.0, 1.0)),
]


@torch.no_grad()
def main() -> None:
    """Print a Markdown table."""
    torch.set_num_threads(2)
    folder = sys.argv[1] if len(sys.argv) > 1 else "weights/tabletop-tiny"
    model = genie_robot.load(folder)
    rng = np.random.default_rng(0)
    episodes = generate_episodes(EPISODES, seed=1, mix=MIX, split="val", frames_per_episode=32)
    length = PROMPT + HORIZON
    starts = rng.integers(0, 32 - length + 1, EPISODES)
    video = np.stack([e["frames_TYXC"][s : s + length] for e, s in zip(episodes, starts, strict=True)])
    tokens = model.encode(video)
    codes = model.latent_action.infer(model.action_input(model.to_float(video)))[0]
    produced = model.dynamics.produced_by(codes)
    true = codes[:, PROMPT - 1 :]
    order = torch.randperm(true.numel(), generator=torch.Generator().manual_seed(1))
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
    ).stdout.strip()
    print(f"# Sampling, {EPISODES} validation clips, t = {HORIZON}\n")
    print(
        f"Model {model.hash}, commit {commit}, torch {torch.__version__}, `python benchmarks/sampling.py {folder}`."
    )
    print(f"Copy-last-frame: {psnr(video[:, PROMPT - 1], video[:, -1]):.2f} dB.\n")
    print(
        "| order | schedule | temperature | passes | PSNR, inferred codes | PSNR, shuffled codes | dPSNR |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    for sampling in SETTINGS:
        scores = []
        for actions in (true, true.flatten()[order].view_as(true)):
            frames = imagine(
                *(model.dynamics, tokens[:, :PROMPT], produced[:, :PROMPT], actions, range(EPISODES)),
                sampling,
            )
            shown = model.tokenizer.decode(torch.cat([tokens[:, :PROMPT], frames], dim=1))
            scores.append(psnr(to_uint8(shown)[:, -1], video[:, -1]))
        order_name = sampling.order
        if order_name == "confidence":
            order_name += f" (choice {sampling.choice_temperature:g})"
        print(
            f"| {order_name} | {sampling.schedule} | {sampling.temperature} | {sampling.steps} "
            f"| {scores[0]:.2f} | {scores[1]:.2f} | {scores[0] - scores[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
