"""The recipe of weights/tabletop-tiny and weights/tabletop-probe: `make weights` runs it, at most 3 hours on 2 cores.

    python weights/recipe.py [--output outputs/weights] [--threads 2]

It writes into outputs/weights and replaces weights/ only at the end. Stopped at any moment, the same command goes on.
Actions are read at two places only, both after the world model is finished: to fit the robot-action adapter
(500 labelled steps) and to train the state probes that judge success. The world model itself sees pixels.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Two data sets: codes are discovered where random play tries every key, dynamics where objects are moved.
PLAY = ["--episodes", "1600", "--val-episodes", "60", "--test-episodes", "0", "--frames", "25", "--seed", "0"]
TASKS = [
    *(
        "--episodes",
        "2000",
        "--val-episodes",
        "60",
        "--test-episodes",
        "120",
        "--frames",
        "32",
        "--seed",
        "1",
    ),
    *("--mix", "0.3", "0.35", "0.35"),
]

CARD = """
## Data

Tokenizer and latent actions: {play} (random play 55 %, experts of two tasks 45 %).
Dynamics: {tasks} (play 30 %, experts 70 %, so that objects move).
No network saw the test episodes; `evaluation.json` has the numbers on them. Both data sets are remade by `make weights`.

## Use and limits

64x64 pixels, one front camera, one simulated arm, two tasks, 5 Hz. Films drift: small objects may change or vanish after
many frames. Codes: `latent_actions.json` says what each was measured to do, `action_adapter.json` maps robot actions to
codes (fitted on 500 labelled steps after training). License: Apache-2.0.
"""


def call(*arguments: str | Path, threads: int) -> None:
    """Run a command of the project; its own message says what went wrong."""
    command = [sys.executable, *(str(argument) for argument in arguments)]
    print("$ " + " ".join(command[1:]), flush=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if code:
        sys.exit(code)


def main() -> None:
    """Data, three stages, probes, measured codes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "weights")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    out, threads = args.output.resolve(), args.threads

    for name, options in (("play", PLAY), ("tasks", TASKS)):
        if not (out / name / "tabletop" / "1.0.0").exists():
            call("-m", "genie_robot.cli", "data", "generate", out / name, *options, threads=1)
    for stage, data in (("tokenizer", "play"), ("latent_action", "play"), ("dynamics", "tasks")):
        call(
            *("train.py", f"stage={stage}", "model=tiny", f"output={out / 'train'}"),
            *(f"data.path={out / data}", f"data.cache={out / 'cache' / data}"),
            *(f"hardware.threads={threads}", "hardware.compile=true"),
            threads=threads,
        )
    model, probe = out / "train" / "world_model", out / "probe"
    # Two goes: true and reconstructed frames first, then a shorter one with frames that the model imagined.
    base = ("--out", out / "probe_base", "--steps", "1500", "--imagined", "0")
    final = ("--out", probe, "--init", out / "probe_base", "--learning-rate", "1e-3", "--episodes", "500")
    for folder, options in (
        (out / "probe_base", base),
        (probe, (*final, "--imagined", "2000", "--steps", "800")),
    ):
        if not (folder / "model.safetensors").exists():
            call(
                *("-m", "genie_robot.evaluation.train_probe", "--data", out / "tasks", "--test-split", "val"),
                *("--world-model", model, *options),
                threads=threads,
            )
    call(
        *("-m", "genie_robot.cli", "actions", model, "--data", out / "tasks", "--probe", probe, "--write"),
        threads=threads,
    )
    call(
        *("-m", "genie_robot.cli", "evaluate", "model", model, "--data", out / "tasks", "--probe", probe),
        *("--out", os.path.relpath(out / "pictures", ROOT), "--json", model / "evaluation.json"),
        threads=threads,
    )
    card = model / "README.md"
    if CARD.splitlines()[1] not in card.read_text():
        words = {"play": " ".join(PLAY), "tasks": " ".join(TASKS)}
        card.write_text(
            card.read_text() + CARD.format(**{k: f"`data generate {v}`" for k, v in words.items()})
        )
    for source, name in ((model, "tabletop-tiny"), (probe, "tabletop-probe")):
        shutil.rmtree(ROOT / "weights" / name, ignore_errors=True)
        shutil.copytree(source, ROOT / "weights" / name)
        print(f"wrote weights/{name}")


if __name__ == "__main__":
    main()
