"""Train the cloned policies of evaluation: `python -m genie_robot.evaluation.cloning.train_policies`.

One network for all five tasks for each number of demonstrations a task (5, 20, 100) and each of two seeds. The second
takes its demonstrations from the other end of the pool: for 5 and 20 none is shared, of 100 four in five are.
Given a world model, also one that is cloned from the latent actions of the pool's video (`clone-latent-a`), whose codes a
decoder of 1000 labelled steps turns into robot actions. Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from genie_robot.errors import ConfigError, run_script
from genie_robot.evaluation.cloning.demonstrations import SEED, load_demonstrations
from genie_robot.evaluation.cloning.fitting import action_loss, train_net
from genie_robot.evaluation.cloning.video_labels import (
    code_loss,
    code_space,
    image_features,
    label_video,
    labelled,
)
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.interfaces import StateDecoder
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS
from genie_robot.simulation.policies import LatentActor, load_clones
from genie_robot.simulation.policies.clone_net import NUM_OUTPUTS
from genie_robot.simulation.policies.cloned import CONFIG_FILE, Actor, Clone, Clones, save_clones
from genie_robot.simulation.suites import LOOK

SIZES = (5, 20, 100)
POOL = 120
"""Demonstrations a task that there are."""
STEPS: dict[int, int] = {5: 1000, 20: 2500, 100: 6000}
"""Optimiser steps by demonstrations a task: more would only learn the few by heart."""
SEED_NAMES = "ab"
LATENT_NAME, LABELS = "clone-latent-a", 1000


def train_one(data: Path, size: int, seed: int, progress: bool = True) -> Clone:
    """Clone of the first `size` demonstrations a task, or for seed 1 of the last ones."""
    first = 0 if seed == 0 else POOL - size
    demonstrations = load_demonstrations(data, TASKS, POOL, progress=progress).between(first, first + size)
    net = train_net(
        demonstrations,
        action_loss(demonstrations.wanted_N7),
        outputs=NUM_OUTPUTS,
        steps=STEPS[size],
        seed=seed,
        label=clone_name(size, seed),
        progress=progress,
    )
    return Clone(net, Actor())


def train_latent(data: Path, world_model: Path, progress: bool = True) -> Clone:
    """Clone of the codes of the first 100 demonstrations' video; labelled steps are of the other 20."""
    model = WorldModel.load(world_model)
    every = load_demonstrations(data, TASKS, POOL, progress=progress)
    video, rest = every.between(0, 100), every.between(100, POOL)
    space = code_space(model)
    net = train_net(
        video,
        code_loss(label_video(model, video), space.num_codes),
        outputs=space.width,
        steps=STEPS[100],
        seed=0,
        label=LATENT_NAME,
        progress=progress,
    )
    rows = np.random.default_rng(0).permutation(len(rest))[:LABELS]
    few = labelled(rest, label_video(model, rest), rows)
    return Clone(net, LatentActor.of(StateDecoder.fit(space, few, image_features(video))))


def clone_name(size: int, seed: int) -> str:
    """Name of a policy, such as clone-20-b."""
    return f"clone-{size}-{SEED_NAMES[seed]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genie_robot.evaluation.cloning.train_policies", description=__doc__
    )
    parser.add_argument("--out", type=Path, default=Path("weights/manipulation-policies"), help="folder")
    parser.add_argument(
        "--data", type=Path, default=Path("outputs/demonstrations"), help="where demonstrations are kept"
    )
    parser.add_argument("--work", type=Path, default=Path("outputs/clones"), help="finished networks")
    parser.add_argument("--world-model", type=Path, help="model folder whose latent actions are cloned too")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def _is_made(folder: Path, made: Mapping[str, object]) -> bool:
    """Whether a folder holds a network that was made just so: of this world model, these demonstrations."""
    path = folder / CONFIG_FILE
    try:
        return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("made") == made
    except ValueError:  # cut by an interruption
        return False


def main(argv: list[str] | None = None) -> int:
    """Train what is not there yet, then write the folder."""
    args = _parser().parse_args(argv)
    if args.threads < 1:
        raise ConfigError(f"got {args.threads} threads; wanted at least 1")
    torch.set_num_threads(args.threads)
    pool = {"demonstration_seed": SEED, "look": LOOK, "pool": POOL}
    facts: dict[str, object] = pool | {"demonstrations_per_task": SIZES, "steps": STEPS}
    jobs: dict[str, tuple[Mapping[str, object], Callable[[], Clone]]] = {
        clone_name(size, seed): (pool | {"steps": STEPS[size]}, partial(train_one, args.data, size, seed))
        for size in SIZES
        for seed in range(len(SEED_NAMES))
    }
    if args.world_model:
        latent = {"latent_labels": LABELS, "latent_model": WorldModel.load(args.world_model).hash}
        facts |= latent
        made = pool | latent | {"steps": STEPS[100]}
        jobs[LATENT_NAME] = made, partial(train_latent, args.data, args.world_model)
    clones: dict[str, Clone] = {}
    for name, (made, train) in jobs.items():
        folder = args.work / name
        if not _is_made(folder, made):
            started = time.monotonic()
            save_clones(folder, Clones({name: train()}, "manipulation", TASKS), made)
            print(f"{name}: trained in {time.monotonic() - started:.0f} s", flush=True)
        clones |= load_clones(folder).clones
    digest = save_clones(args.out, Clones(clones, "manipulation", TASKS), facts)
    print(f"wrote {args.out} (weights {digest[:12]})")
    return 0


if __name__ == "__main__":
    run_script("train_policies", main)
