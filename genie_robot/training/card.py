"""The model card that a finished training writes."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from genie_robot.config import TrainConfig
from genie_robot.data.provenance import git_hash
from genie_robot.training.logs import read_rows


def _supervision(config: TrainConfig) -> str:
    if not config.data.label_share:
        return "trained from video alone, no action was read"
    share = f"{100 * config.data.label_share:g} %"
    return f"trained from video and the robot actions of {share} of the episodes"


def model_card(config: TrainConfig, output: Path) -> str:
    """Text of the model folder's README.md: what it is, what it was trained on and how, held-out numbers."""
    lines = [
        f"# {config.model.name}",
        "",
        f"A genie_robot world model (Genie, arXiv 2402.15391): {_supervision(config)}.",
        "",
        f"- Data: `{Path(config.data.mixture or config.data.path).name}` at {config.model.video.height}x{config.model.video.width}, "
        f"{config.model.video.rate_hz:g} Hz",
        f"- Code: commit {git_hash()}, torch {torch.__version__}, {platform.machine()}, seed {config.seed}",
        *([f"- Begun with the weights of `{Path(config.init_from).name}`"] if config.init_from else []),
        "",
        "| stage | steps | hours | held-out numbers at the last step |",
        "| --- | --- | --- | --- |",
    ]
    for name in config.training.stages:
        rows = read_rows(output / name / "metrics.jsonl")
        if not rows and config.init_from:
            lines.append(f"| {name} | 0 | 0 | as it was |")
            continue
        last = next((row for row in reversed(rows) if row["split"] == "validation"), {})
        hours = next((row["elapsed_s"] for row in reversed(rows) if "elapsed_s" in row), 0) / 3600
        numbers = ", ".join(
            f"{key} {value:.4g}" for key, value in last.items() if key not in ("stage", "step", "split")
        )
        lines.append(f"| {name} | {last.get('step', 0)} | {hours:.2f} | {numbers} |")
    return "\n".join(lines) + "\n"
