"""Generate table-top episodes and write them as an RLDS dataset (fractal20220817_data layout).

An episode depends on nothing but (seed, split, its number), so the dataset is the same whatever the
number of workers. Frames are encoded as PNG in the workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import Play, make_behaviour
from genie_robot.simulation.mujoco.env import TabletopSimulator
from genie_robot.simulation.mujoco.production import check_counts, check_mix, produce, random_streams
from genie_robot.simulation.mujoco.scene import CONTROL_DT_S
from genie_robot.simulation.mujoco.tasks import STATE_NAMES, TASKS, instruction, task_success

NAME, VERSION = "tabletop", "1.0.0"
FRAMES_PER_EPISODE = 25
IMAGE_SIZE = 64
DEFAULT_MIX: dict[str, float] = {"play": 0.55, "push": 0.225, "lift": 0.225}
"""Share of episodes by behaviour; a task's name means its expert, with skill drawn from 0.2 to 1.0."""

DESCRIPTION = (
    "Table-top episodes of a simulated arm (MuJoCo physics, ray-cast pictures) under keyboard teleoperation: "
    "one key of eight per step at 5 Hz, by scripted experts of graded skill (push, lift) and by random play."
)


def generate_episode(
    index: int,
    seed: int = 0,
    split: str = "train",
    mix: Mapping[str, float] | None = None,
    frames_per_episode: int = FRAMES_PER_EPISODE,
    image_size: int = IMAGE_SIZE,
) -> dict[str, Any]:
    """Return episode `index` of `split` as the mapping that `rlds_writer.write_dataset` takes.

    Holds frames_TYXC uint8, actions float32 (T, 7) with a zero last row, state float32 (T, 9), rewards
    (T,), instruction, success, attributes. After an expert's success the episode goes on with play.
    """
    mix = check_mix(mix, DEFAULT_MIX)
    scene_rng, choice_rng, behaviour_rng = random_streams(seed, split, index)
    name = str(choice_rng.choice(list(mix), p=np.array(list(mix.values()))))
    skill = float(choice_rng.uniform(0.2, 1.0)) if name in TASKS else 0.0
    task = name if name in TASKS else None
    simulator = TabletopSimulator(image_size)
    simulator.reset(scene_rng)
    behaviour = make_behaviour(name, skill, noise=True)
    behaviour.reset(behaviour_rng)

    frames, states, rewards = [], [], []
    actions = np.zeros((frames_per_episode, 7), np.float32)
    succeeded = False
    for step in range(frames_per_episode):
        state = simulator.state
        reached = task is not None and task_success(task, state)
        if reached and not succeeded:
            succeeded, behaviour = True, Play(noise=True)
            behaviour.reset(behaviour_rng)
        frames.append(simulator.frame())
        states.append(state)
        rewards.append(float(reached))
        if step < frames_per_episode - 1:
            actions[step] = behaviour.act(state)
            simulator.step(actions[step])
    thing = simulator.scene.object_name
    return {
        "frames_TYXC": np.stack(frames),
        "actions": actions,
        "state": np.stack(states),
        "rewards": np.array(rewards, np.float32),
        "instruction": instruction(task, thing) if task else f"play with the {thing}",
        "success": succeeded,
        "is_terminal": False,
        "attributes": {
            "task_family": list(DEFAULT_MIX).index(name),
            "task_family_name": name,
            "collection_mode": 0 if name == "play" else 1,
            "collection_mode_name": "play" if name == "play" else f"expert_skill_{skill:.2f}",
            "objects_family_name": thing,
            "env": index,
            "env_name": f"{NAME}-{split}-seed{seed}",
        },
    }


def generate_episodes(
    num: int,
    seed: int = 0,
    mix: Mapping[str, float] | None = None,
    *,
    split: str = "train",
    frames_per_episode: int = FRAMES_PER_EPISODE,
    image_size: int = IMAGE_SIZE,
    workers: int = 1,
    progress: bool = False,
    encoded: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield `num` episodes (see `generate_episode`) in order; `encoded` gives PNG bytes instead of pixels."""
    if frames_per_episode < 2:
        raise ConfigError(f"got episodes of {frames_per_episode} frames; wanted at least 2")
    make = partial(
        generate_episode,
        seed=seed,
        split=split,
        mix=check_mix(mix, DEFAULT_MIX),
        frames_per_episode=frames_per_episode,
        image_size=image_size,
    )
    label = f"{split} episodes"
    yield from produce(make, num, label=label, workers=workers, progress=progress, encoded=encoded)


def generate_dataset(
    out_dir: str | Path,
    train_episodes: int,
    val_episodes: int,
    test_episodes: int,
    frames_per_episode: int = FRAMES_PER_EPISODE,
    seed: int = 0,
    workers: int = 0,
    *,
    mix: Mapping[str, float] | None = None,
    image_size: int = IMAGE_SIZE,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write the dataset `out_dir/tabletop/1.0.0` and return that folder; nothing half-written is left behind.

    `mix`: share of episodes by behaviour, `DEFAULT_MIX` if not given.

    Splits of zero episodes are left out. Raises ConfigError when the folder exists and `overwrite` is
    False, or for values that are not allowed; DiskFullError.
    """
    counts = check_counts(train_episodes, val_episodes, test_episodes)
    splits = {
        split: generate_episodes(
            count,
            seed,
            mix,
            split=split,
            frames_per_episode=frames_per_episode,
            image_size=image_size,
            workers=workers,
            progress=progress,
            encoded=True,
        )
        for split, count in counts.items()
    }
    facts = {
        "seed": seed,
        "mix": check_mix(mix, DEFAULT_MIX),
        "frames_per_episode": frames_per_episode,
        "renderer": "ray (mj_multiRay, 2x2 samples, one hard shadow)",
        "mujoco": mujoco.__version__,
        "control": "keyboard: one key of eight per step; moves have 85 to 100 % of full size (4 cm)",
    }
    return write_dataset(
        out_dir,
        NAME,
        VERSION,
        splits,
        (image_size, image_size),
        1 / CONTROL_DT_S,
        state_names=STATE_NAMES,
        description=DESCRIPTION,
        metadata=facts,
        overwrite=overwrite,
    )
