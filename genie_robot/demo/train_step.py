"""Demo step: train all three stages from scratch for a few minutes through the same door as any user."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genie_robot.demo.process import run_child
from genie_robot.demo.steps import REPOSITORY_ROOT, Context, Result
from genie_robot.errors import GenieError

TITLES = {"tokenizer": "tokenizer", "latent_action": "latent action model", "dynamics": "dynamics"}

#: (label of the y axis, {legend: (split, key)}) of the charts of each stage; charts without data are left out
CHARTS: dict[str, tuple[tuple[str, dict[str, tuple[str, str]]], ...]] = {
    "tokenizer": (
        ("loss", {"training loss": ("train", "loss")}),
        ("PSNR, dB", {"held-out reconstruction": ("validation", "psnr_db")}),
    ),
    "latent_action": (
        ("loss", {"training loss": ("train", "loss")}),
        (
            "PSNR of the next frame, dB",
            {
                "with the inferred action": ("validation", "psnr_db"),
                "copy the last frame": ("validation", "copy_last_psnr_db"),
            },
        ),
    ),
    "dynamics": (
        ("loss", {"training": ("train", "loss"), "held-out": ("validation", "loss")}),
        (
            "PSNR at the end of the clip, dB",
            {
                "true actions": ("validation", "psnr_t{horizon}_db"),
                "random actions": ("validation", "random_psnr_t{horizon}_db"),
                "copy the last frame": ("validation", "copy_last_psnr_db"),
            },
        ),
    ),
}


def train(context: Context, dataset: Path, overrides: Mapping[str, Any]) -> Result:
    """Run `train.py stage=all` on `dataset` and collect its curves, sample pictures and held-out numbers."""
    run = context.folder / "run"
    words = [f"{key}={value}" for key, value in overrides.items()]
    command = [
        *(sys.executable, str(REPOSITORY_ROOT / "train.py"), "stage=all", "model=tiny"),
        *(f"data.path='{dataset}'", f"output='{run}'", *words),
    ]
    exit_code = run_child(command, cwd=REPOSITORY_ROOT)
    if exit_code == 130:
        raise KeyboardInterrupt
    if exit_code != 0:
        raise GenieError(
            f"training ended with exit code {exit_code} (its message stands above); mend it and run the demo again"
        )
    return collect(run, context.folder)


def collect(run: Path, folder: Path) -> Result:
    """What the report shows of a finished run: curves, last held-out numbers, last sample pictures, sizes."""
    from genie_robot import load
    from genie_robot.training.logs import read_rows

    model = load(run / "world_model")
    stages, pictures = [], []
    for name, title in TITLES.items():
        rows = read_rows(run / name / "metrics.jsonl")
        last = [row for row in rows if row["split"] == "validation"][-1]
        stages.append(
            {
                "name": name,
                "title": title,
                "parameters": sum(p.numel() for p in getattr(model, name).parameters()),
                "steps": rows[-1]["step"],
                "seconds": max(row.get("elapsed_s", 0.0) for row in rows),
                "curves": _curves(name, rows),
                "final": {key: value for key, value in last.items() if key not in {"stage", "step", "split"}},
                "validation": _in_words(name, last),
            }
        )
        sample = sorted((run / name / "samples").glob("*.png"))[-1]
        shutil.copyfile(sample, folder / f"sample_{name}.png")
        pictures.append({"file": f"sample_{name}.png", "caption": SAMPLE_CAPTIONS[name]})
    return {
        "stages": stages,
        "seconds": sum(stage["seconds"] for stage in stages),
        "pictures": pictures,
        "model_folder": str(run / "world_model"),
        "model_hash": model.hash,
    }


SAMPLE_CAPTIONS = {
    "tokenizer": "Tokenizer after a few minutes: rows in pairs, held-out film above, its reconstruction below.",
    "latent_action": "Latent action model: left a held-out frame, then the (blurred) next frame it expects for each of its eight actions.",
    "dynamics": "Dynamics: rows in pairs, held-out film above; below, the frames after the prompt are imagined.",
}


def _horizon(row: Mapping[str, Any]) -> str:
    keys = [key for key in row if key.startswith("psnr_t") and key.endswith("_db")]
    return keys[0].removeprefix("psnr_t").removesuffix("_db") if keys else ""


def _curves(stage: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    horizon = next((found for row in rows if (found := _horizon(row))), "")
    curves = []
    for label, lines in CHARTS[stage]:
        series = {}
        for legend, (split, template) in lines.items():
            key = template.format(horizon=horizon)
            points = [(row["step"], float(row[key])) for row in rows if row["split"] == split and key in row]
            if points:
                series[legend] = _thinned(points)
        if series:
            curves.append({"label": label, "series": series})
    return curves


def _thinned(points: list[tuple[int, float]], at_most: int = 150) -> list[tuple[int, float]]:
    """Means of neighbours, so that a long noisy line stays small and readable."""
    group = -(-len(points) // at_most)
    parts = [points[start : start + group] for start in range(0, len(points), group)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]


def _in_words(stage: str, last: Mapping[str, Any]) -> str:
    if stage == "tokenizer":
        return f"PSNR {last['psnr_db']:.1f} dB"
    if stage == "latent_action":
        return f"true action {last['delta_psnr_db']:+.2f} dB over a random one; {last['codes_used']} of 8 actions in use"
    horizon = _horizon(last)
    return (
        f"PSNR at t = {horizon} {last[f'psnr_t{horizon}_db']:.1f} dB (random actions {last['delta_psnr_db']:+.2f} dB lower)"
        if last["delta_psnr_db"] < 0
        else f"PSNR at t = {horizon} {last[f'psnr_t{horizon}_db']:.1f} dB, {last['delta_psnr_db']:.2f} dB above random actions"
    )
