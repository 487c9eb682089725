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
FEW_HELD_OUT = ("--val-episodes", "10", "--test-episodes", "10")
CONTACT = [
    *("--task", "push", "--control", "free", "--look", "none", "--seed", "77"),
    *("--episodes", "1000", *FEW_HELD_OUT, "--mix", "expert=.6", "noisy=.4"),
]
"""More of the moments that a world model learns last: a gripper against a thing that slides away from it."""
GRASP = [
    *("--task", "pick_lift", "--control", "free", "--look", "none", "--seed", "78"),
    *("--episodes", "1000", *FEW_HELD_OUT, "--mix", "expert=.35", "noisy=.65"),
]
"""And fingers that close beside the middle of a thing, or beside the thing."""
SHARES = {"reach": 0.6, "push": 1.0, "contact": 3.0, "pick_lift": 1.6, "drawer": 0.3, "pick_place": 0.6}
SHARES_AT_LAST = SHARES | {"contact": 2.5, "pick_lift": 1.0, "grasp": 2.5}
GOES: tuple[tuple[str, ...], ...] = (
    ("training.dynamics.steps=12500",),
    ("training.dynamics.steps=17000", "training.dynamics.decay_share=0"),
)
LAST_GO = ("stage=dynamics", "training.dynamics.steps=10000")
"""The dynamics was trained in three goes: with the rate falling at the end, on at the full rate, and once more with GRASP."""
PROBE_EPISODES = "300"
"""Of each task: the first train the probes, the rest the classifier, so that the two judges share no film."""
CARD = """
## Before the last go

{stages}

The dynamics was trained to step 12,500, at whose end the rate fell; on to about 17,000 at the full rate; and 10,000 steps more with
more grasps, which is the table above.

## Data

Five simulated tasks: `data generate {data}`; contact: `data generate {contact}`; grasps: `data generate {grasp}`.
Shares of the clips: {shares}; in the last go {shares_at_last}.
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
    if not (out / "grasp" / "tabletop_pick_lift" / "1.0.0").exists():
        call("-m", "genie_robot.cli", "data", "generate", out / "grasp", *GRASP, threads=1)
    data = [out / "data" / f"tabletop_{task}" for task in TASKS]
    model = train_world_model(out, dict(zip(TASKS, data, strict=True)), threads)
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
    _describe(model / "README.md", out / "train" / "world_model" / "README.md")
    shutil.copytree(model, folders["tiny"], dirs_exist_ok=True)
    for folder in folders.values():
        shutil.rmtree(ROOT / "weights" / folder.name, ignore_errors=True)
        shutil.copytree(folder, ROOT / "weights" / folder.name)
        print(f"wrote weights/{folder.name}")


def train_world_model(out: Path, tasks: dict[str, Path], threads: int) -> Path:
    """Three stages, the last of them in three goes; returns the model folder."""
    sources = tasks | {
        "contact": out / "contact" / "tabletop_push",
        "grasp": out / "grasp" / "tabletop_pick_lift",
    }

    def train(shares: dict[str, float], folder: str, *words: str) -> Path:
        mixture = out / f"{folder}.yaml"
        lines = [f"  - {{dataset: {sources[name]}, weight: {share}}}\n" for name, share in shares.items()]
        mixture.write_text("parts:\n" + "".join(lines))
        call(  # processes of one thread each: networks as small as these gain little from a second thread
            *("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={threads}", "train.py"),
            *("model=manipulation", f"data.mixture={mixture}", f"data.cache={out / 'cache'}"),
            *(f"output={out / folder}", "hardware.threads=1", "hardware.shard=1", *words),
            threads=1,
        )
        return out / folder / "world_model"

    for words in GOES:
        model = train(SHARES, "train", *words)
    return train(SHARES_AT_LAST, "train_at_last", f"init_from={model}", *LAST_GO)


def _describe(card: Path, before: Path) -> None:
    """Add to the model card what training cannot know, and the stages of the goes `before` the last."""
    text = card.read_text(encoding="utf-8")
    if "## Data" not in text:
        stages = [line for line in before.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
        words = {
            name.lower(): " ".join(each)
            for name, each in (("DATA", DATA), ("CONTACT", CONTACT), ("GRASP", GRASP))
        }
        for name, shares in (("shares", SHARES), ("shares_at_last", SHARES_AT_LAST)):
            words[name] = ", ".join(f"{part} {share:g}" for part, share in shares.items())
        card.write_text(text + CARD.format(**words, stages="\n".join(stages)), encoding="utf-8")


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
