"""The paper's two ablations (Genie, Tables 2 and 3) repeated at small scale on MuJoCo table-top data, with several seeds.

    python benchmarks/ablations.py --output outputs/ablations [--data FOLDER] [--seeds 0 1 2] [--threads 1]

  input      the latent action model reads pixels, or tokens of the tokenizer (Table 2)
  tokenizer  ViT, C-ViViT and ST-ViViT, and the per-patch encoder of our tiny preset beside them (Table 3)

Every arm is `train.py model=tiny` with the changes of ARMS, the same data, steps and seeds; what an arm shares with another
(a tokenizer, a latent action model) is trained once a seed. Numbers are from clips of the test split, which no training and
no choice has seen. Stopped at any moment, the same command goes on; several processes with other --seeds may share --output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from scipy.stats import t as student_t

from genie_robot.cli._compose import compose
from genie_robot.data.open import open_dataset
from genie_robot.data.provenance import git_hash
from genie_robot.evaluation.heldout import collect_clips
from genie_robot.evaluation.model_eval import ModelEvalConfig, evaluate_model
from genie_robot.models.world_model import WorldModel
from genie_robot.training.logs import read_rows
from genie_robot.training.run import run

ROOT = Path(__file__).resolve().parents[1]
STEPS = {"tokenizer": 400, "latent_action": 800, "dynamics": 800}
BATCH = {"tokenizer": 16, "latent_action": 64, "dynamics": 4}
CLIPS, HORIZON, DRAWS = 100, 8, 3
_MIXING = ["model.tokenizer.encoder_transformer.num_layers=2"]  # two blocks where patches are mixed

#: arm -> changes to model=tiny, and the arm whose finished stages it starts from
ARMS: dict[str, tuple[list[str], dict[str, str]]] = {
    "pixels": ([], {}),
    "tokens": (["model.latent_action.input=tokens"], {"tokenizer": "pixels"}),
    "vit": (["tokenizer=vit", *_MIXING], {"latent_action": "pixels"}),
    "c_vivit": (["tokenizer=c_vivit", *_MIXING], {"latent_action": "pixels"}),
    "st_vivit": (["tokenizer=st_vivit", *_MIXING], {"latent_action": "pixels"}),
}


def train_arm(name: str, seed: int, args: argparse.Namespace) -> Path:
    """Train what the arm does not share; returns its folder."""
    changes, shared = ARMS[name]
    folder = args.output / f"seed{seed}" / name
    for stage, other in shared.items():
        if not (folder / stage).exists():
            shutil.copytree(args.output / f"seed{seed}" / other / stage, folder / stage, symlinks=True)
    words = [f"training.{stage}.steps={steps}" for stage, steps in STEPS.items()]
    words += [f"training.{stage}.batch_size={clips}" for stage, clips in BATCH.items()]
    words += [
        f"training.{stage}.{every}={steps}"
        for stage, steps in STEPS.items()
        for every in ("validate_every", "checkpoint_every")
    ]
    words += [
        f"seed={seed}",
        f"data.path='{args.data}'",
        f"data.cache='{args.output / 'cache'}'",
        f"output='{folder}'",
    ]
    for stage in STEPS:
        if stage not in shared:
            run(
                compose(
                    [*changes, *words, f"stage={stage}", "hardware=cpu", f"hardware.threads={args.threads}"]
                )
            )
    return folder


def measure(folder: Path, data: Path) -> dict[str, Any]:
    """Numbers of one trained arm on test clips."""
    model = WorldModel.load(folder / "world_model")
    episodes = list(open_dataset(data).episodes("test", actions=True, state=True))
    config = ModelEvalConfig(horizon=HORIZON, draws=DRAWS)
    clips = collect_clips(episodes, clips=CLIPS, frames=config.clip_frames)
    whole = collect_clips(episodes, clips=CLIPS, frames=25)
    metrics = evaluate_model(model, clips, config, label_clips=whole).metrics
    last = {
        stage: [row for row in read_rows(folder / stage / "metrics.jsonl") if row["split"] == "validation"][
            -1
        ]
        for stage in STEPS
    }
    return {
        "tokenizer_psnr_db": metrics["tokenizer_psnr_db"],
        "tokens_changed": last["tokenizer"]["tokens_changed"],
        "psnr_t4_db": metrics["psnr_t4_db"],
        "copy_last_psnr_t4_db": metrics["copy_last_psnr_t4_db"],
        "delta_psnr_t4_db": metrics["delta_psnr_t4_db"],
        "nmi_direction": metrics["nmi_direction"],
        "codes_used": metrics["codes_used"],
        "tokenizer_parameters_m": sum(p.numel() for p in model.tokenizer.parameters()) / 1e6,
        "tokenizer_gflop": model.tokenizer.training_flops(model.config.video.num_frames) / 1e9,
    }


def main() -> None:
    """Train and measure every arm of every seed, then write the table of all seeds found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "ablations")
    parser.add_argument(
        "--data", type=Path, help="a table-top dataset with a test split (default: generated)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    args = parser.parse_args()
    args.output = args.output.resolve()
    if args.data is None:
        args.data = args.output / "data"
        generate(args.data)
    for seed in args.seeds:
        for name in ARMS:
            result = args.output / f"seed{seed}" / name / "result.json"
            if result.exists():
                continue
            started = time.process_time()
            numbers = measure(train_arm(name, seed, args), args.data)
            numbers["cpu_s"] = round(time.process_time() - started)
            result.write_text(json.dumps({"seed": seed, "arm": name, **numbers}, indent=2) + "\n")
            print(f"seed {seed} {name}: {numbers}", flush=True)
    results = [json.loads(path.read_text()) for path in sorted(args.output.glob("seed*/*/result.json"))]
    text = table(results)
    print(text)
    if args.table:
        args.table.write_text(text)


def generate(folder: Path) -> None:
    """The data of the stored result."""
    if not (folder / "tabletop" / "1.0.0").exists():
        sizes = [
            "--episodes",
            "800",
            "--val-episodes",
            "30",
            "--test-episodes",
            "120",
            "--frames",
            "25",
            "--seed",
            "31",
        ]
        command = [sys.executable, "-m", "genie_robot.cli", "data", "generate", str(folder), *sizes]
        subprocess.run(command, check=True, cwd=ROOT)


def interval(values: Iterable[float]) -> str:
    """Mean and half width of the 95 % t interval over seeds."""
    values = list(values)
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    half = student_t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.2f} ± {half:.2f}"


PAIRS = (
    ("pixels", "tokens"),
    ("st_vivit", "vit"),
    ("st_vivit", "c_vivit"),
    ("vit", "c_vivit"),
    ("pixels", "st_vivit"),
)
COLUMNS = {
    "tokenizer_psnr_db": "tokenizer PSNR, dB",
    "tokens_changed": "tokens that change a step",
    "psnr_t4_db": "PSNR t=4, dB",
    "delta_psnr_t4_db": "dPSNR t=4, dB",
    "nmi_direction": "NMI with the true direction",
    "tokenizer_parameters_m": "tokenizer, M parameters",
    "tokenizer_gflop": "GFLOP a training clip of it",
}


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: one row an arm, mean and interval over seeds."""
    seeds = sorted({result["seed"] for result in results})
    lines = [
        "# The paper's ablations at small scale",
        "",
        f"`python benchmarks/ablations.py`, commit {git_hash()}, torch {torch.__version__}, {args_text()}.",
        f"Seeds {', '.join(map(str, seeds))}; mean ± half width of the 95 % t interval over seeds; {CLIPS} test clips a seed.",
        "",
        "| arm | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " --- |" * len(COLUMNS),
    ]
    for name in ARMS:
        rows = [result for result in results if result["arm"] == name]
        if rows:
            lines.append(
                f"| {name} | " + " | ".join(interval(row[key] for row in rows) for key in COLUMNS) + " |"
            )
    lines += [
        "",
        "Differences, paired by seed:",
        "",
        "| difference | dPSNR t=4, dB | PSNR t=4, dB |",
        "| --- | --- | --- |",
    ]
    for one, other in PAIRS:
        pairs = [
            (a, b)
            for a in results
            for b in results
            if (a["arm"], b["arm"]) == (one, other) and a["seed"] == b["seed"]
        ]
        if pairs:
            cells = [
                interval(a[key] - b[key] for a, b in pairs) for key in ("delta_psnr_t4_db", "psnr_t4_db")
            ]
            lines.append(f"| {one} - {other} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def args_text() -> str:
    """What every arm has in common, in words."""
    return ", ".join(f"{steps} steps of {stage}" for stage, steps in STEPS.items()) + ", model=tiny, CPU"


if __name__ == "__main__":
    main()
