"""The recipe of weights/manipulation-*: `make weights-manipulation` runs it, some hours on 2 cores.

    python weights/manipulation.py [--output outputs/manipulation] [--threads 2]

World model, state probes, classifier, cloned policies and action interfaces of the suite "manipulation", in which policies
are evaluated. Stopped at any moment, the same command goes on; weights/ is replaced only at the end. No evaluation seed is in
any of the data, nor a rollout of a policy that counts as new to world models (docs/cloning.md). Tokenizer and latent actions
are learned from video alone; the dynamics, the probes, the classifier and the interfaces read actions or states.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from recipe import ROOT, call

TASKS = ("reach", "push", "pick_lift", "drawer", "pick_place")
DATA = [
    *("--task", "all", "--control", "free", "--look", "none", "--seed", "6"),
    *("--episodes", "500", "--val-episodes", "30", "--test-episodes", "60"),
    *("--mix", "expert=.25", "noisy=.3", "random=.1", "failing=.35"),
]
CONTACT = [
    *("--task", "push", "--control", "free", "--look", "none", "--seed", "77"),
    *(
        "--episodes",
        "1000",
        "--val-episodes",
        "10",
        "--test-episodes",
        "10",
        "--mix",
        "expert=.6",
        "noisy=.4",
    ),
]
"""More of the moments that a world model learns last: a gripper against a thing that slides away from it."""
SHARES = {"reach": 0.6, "push": 1.0, "contact": 3.0, "pick_lift": 1.6, "drawer": 0.3, "pick_place": 0.6}
DYNAMICS_STEPS = (12_500, 27_000)
"""In two goes, at whose ends the learning rate falls: the first showed that more steps pay."""
PROBE_EPISODES = "300"
"""Of each task: the first train the probes, the rest the classifier, so that the two judges share no film."""
CARD = """
## Data

Five simulated tasks: `data generate {tasks}`, and contact: `data generate {contact}`.
Shares of the clips: {shares}.
The dynamics was trained in two goes, to step {goes}, at whose ends the learning rate fell.
Tokenizer and latent actions are learned from video alone; the dynamics reads robot actions too.
No network saw the test episodes, nor the seeds of any evaluation. `make weights-manipulation` makes all of it.

## Use and limits

64x64 pixels, one front camera, one look, one simulated arm, 5 Hz. Made for `genie-robot evaluate policies`, whose report
(docs/evaluation.md) says how far its films can be trusted: things that the gripper hides or pushes may change colour or vanish.
`interfaces/` says how robot actions reach the model as latent actions; the codes themselves have no names. License: Apache-2.0.
"""
NAMES = ("tiny", "probe", "judge", "policies")


def main() -> None:
    """Data, three stages, probes, classifier, cloned policies, interfaces."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "manipulation")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    out, threads = args.output.resolve(), args.threads
    folders = {name: out / f"manipulation-{name}" for name in NAMES}

    call("-m", "genie_robot.cli", "data", "generate", out / "data", *DATA, threads=1)
    if not (out / "contact" / "tabletop_push" / "1.0.0").exists():
        call("-m", "genie_robot.cli", "data", "generate", out / "contact", *CONTACT, threads=1)
    data = [out / "data" / f"tabletop_{task}" for task in TASKS]
    sources = dict(zip(TASKS, data, strict=True)) | {"contact": out / "contact" / "tabletop_push"}
    mixture = out / "mixture.yaml"
    lines = [f"  - {{dataset: {sources[name]}, weight: {share}}}\n" for name, share in SHARES.items()]
    mixture.write_text("parts:\n" + "".join(lines))
    for steps in DYNAMICS_STEPS:
        call(  # processes of one thread each: networks as small as these gain little from a second thread
            *("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={threads}", "train.py"),
            *("model=manipulation", f"data.mixture={mixture}", f"output={out / 'train'}"),
            *("hardware.threads=1", "hardware.shard=1", f"training.dynamics.steps={steps}"),
            threads=1,
        )
    model = out / "train" / "world_model"
    train_judges(out, data, model, folders, threads)
    call(
        *("-m", "genie_robot.evaluation.cloning.train_policies", "--out", folders["policies"]),
        *("--data", out / "demonstrations", "--work", out / "clones", "--world-model", model),
        *("--threads", str(threads)),
        threads=threads,
    )
    call(
        *("-m", "genie_robot.cli", "evaluate", "interfaces", model, "--data", *data),
        *("--ceiling-seeds", "0", "--write", "--out", out / "interfaces"),
        threads=threads,
    )
    _describe(model / "README.md")
    shutil.copytree(model, folders["tiny"], dirs_exist_ok=True)
    for folder in folders.values():
        shutil.rmtree(ROOT / "weights" / folder.name, ignore_errors=True)
        shutil.copytree(folder, ROOT / "weights" / folder.name)
        print(f"wrote weights/{folder.name}")


def _describe(card: Path) -> None:
    text = card.read_text(encoding="utf-8")
    if "## Data" not in text:
        shares = ", ".join(f"{name} {share:g}" for name, share in SHARES.items())
        goes = " and ".join(f"{steps:,}" for steps in DYNAMICS_STEPS)
        words = {"tasks": " ".join(DATA), "contact": " ".join(CONTACT), "shares": shares, "goes": goes}
        card.write_text(text + CARD.format(**words), encoding="utf-8")


def train_judges(out: Path, data: list[Path], model: Path, folders: dict[str, Path], threads: int) -> None:
    """Probes and classifier: on true frames first, then also on what the world model makes of them."""
    probe, judge = (
        ("-m", "genie_robot.evaluation.train_probe"),
        ("-m", "genie_robot.evaluation.judges.train_judge"),
    )
    for name, module, share, steps in (
        ("probe", probe, "--episodes", "5000"),
        ("judge", judge, "--skip", "2000"),
    ):
        base = out / f"{name}_base"
        common = (*module, "--data", *data, share, PROBE_EPISODES)
        if not (base / "model.safetensors").exists():
            call(*common, "--out", base, threads=threads)
        if not (folders[name] / "model.safetensors").exists():
            call(
                *(*common, "--out", folders[name], "--init", base, "--world-model", model),
                *("--learning-rate", "1e-3", "--steps", steps, "--imagined", "6000"),
                threads=threads,
            )


if __name__ == "__main__":
    main()
