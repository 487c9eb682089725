"""Generate episodes of the five tasks and write them as RLDS datasets, `tabletop_reach` to `tabletop_pick_place`.

A `Recipe` says what to make; episode `index` of a split depends on nothing but recipe, seed, split and index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from genie_robot.data.commands import STEP_M, TURN_RAD
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import Behaviour
from genie_robot.simulation.mujoco.manipulation.behaviours import STYLES, Scripted, check_control, make_play
from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator
from genie_robot.simulation.mujoco.manipulation.robots import make_robot
from genie_robot.simulation.mujoco.manipulation.scene import check_look
from genie_robot.simulation.mujoco.manipulation.tasks import (
    MAX_STEPS,
    NEAR_M,
    STATE_NAMES,
    TASKS,
    is_near_miss,
    task_success,
)
from genie_robot.simulation.mujoco.production import check_counts, check_mix, produce, random_streams
from genie_robot.simulation.mujoco.render import check_image_hw
from genie_robot.simulation.mujoco.scene import CONTROL_DT_S

VERSION = "1.0.0"
PLAY = "play"
"""Besides the five tasks: random play in the scenes of all five, without a goal."""
DEFAULT_MIX: dict[str, float] = {"expert": 0.3, "noisy": 0.2, "random": 0.1, "failing": 0.4}
"""Share of episodes by behaviour: experts of skill 0.9 to 1, of skill 0.2 to 0.9, random play, and scripted failures."""
SKILLS: dict[str, tuple[float, float]] = {"expert": (0.9, 1.0), "noisy": (0.2, 0.9)}
OUTCOMES: tuple[str, ...] = ("success", "near_miss", "failure", "play")
TRIES = 50
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Recipe:
    """What to make: a task of TASKS or "play", shares of behaviours, episode length, control, picture, robot."""

    task: str
    mix: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MIX))
    frames: int = MAX_STEPS + 1
    image_hw: tuple[int, int] = (64, 64)
    control: str = "keyboard"
    look: str = "default"
    robot: str = "primitive"

    def __post_init__(self) -> None:
        if self.task not in (*TASKS, PLAY):
            known = ", ".join((*TASKS, PLAY))
            raise ConfigError(f"task is {self.task!r}, wanted one of {known}; choose one of these")
        if self.frames < 2:
            raise ConfigError(f"got episodes of {self.frames} frames; wanted at least 2")
        mix = {"random": 1.0} if self.task == PLAY else self.mix
        object.__setattr__(self, "mix", check_mix(mix, DEFAULT_MIX))
        check_control(self.control)
        check_look(self.look)
        check_image_hw(self.image_hw)
        make_robot(self.robot)

    @property
    def name(self) -> str:
        """The dataset's name."""
        return f"tabletop_{self.task}"

    @property
    def description(self) -> str:
        """What the dataset is, in a sentence or two."""
        what = "random play in the scenes of five tasks" if self.task == PLAY else f"the task {self.task}"
        return (
            f"Simulated table-top episodes (MuJoCo physics, ray-cast pictures) of {what}, {self.control} control, 5 Hz. "
            f"Behaviours: {', '.join(f'{name} {share:.2f}' for name, share in self.mix.items() if share)}."
        )


def generate_episode(recipe: Recipe, index: int, seed: int = 0, split: str = "train") -> dict[str, Any]:
    """Return episode `index` of `split` as the mapping that `rlds_writer.write_dataset` takes.

    Holds frames_TYXC uint8, actions float32 (T, 7) with a zero last row, state float32 (T, 14), rewards (T,),
    instruction, success (ever), attributes. An episode of behaviour "failing" has failed: one that succeeds by chance
    is drawn again.
    """
    kind = _behaviour_of(recipe, index)
    task = TASKS[index % len(TASKS)] if recipe.task == PLAY else recipe.task
    for attempt in range(TRIES):
        scene_rng, choice_rng, behaviour_rng = random_streams(
            seed, split, index, 1 + TASKS.index(task), attempt
        )
        simulator = ManipulationSimulator(task, recipe.image_hw, recipe.look, make_robot(recipe.robot))
        simulator.reset(scene_rng)
        mode, behaviour = _make_behaviour(kind, task, recipe.control, choice_rng)
        behaviour.reset(behaviour_rng)
        states, actions, joints = _rollout(simulator, behaviour, recipe.frames)
        rewards = [float(task_success(task, state)) for state in states]
        if kind != "failing" or not any(rewards):
            break
    else:
        raise AssertionError(f"{recipe.name} episode {index}: {TRIES} failures in a row succeeded")
    near = any(is_near_miss(task, state) for state in states)
    outcome = "success" if any(rewards) else "near_miss" if near else "failure"
    text = simulator.instruction
    if recipe.task == PLAY:
        outcome, rewards, text = "play", [0.0] * len(states), f"play with the {simulator.scene.object_name}"
    return {
        "frames_TYXC": np.stack([simulator.frame_at(qpos) for qpos in joints]),
        "actions": actions,
        "state": np.stack(states),
        "rewards": np.array(rewards, np.float32),
        "instruction": text,
        "success": outcome == "success",
        "is_terminal": False,
        "attributes": {
            "task_family": TASKS.index(task),
            "task_family_name": task,
            "collection_mode": list(DEFAULT_MIX).index(kind),
            "collection_mode_name": mode,
            "data_type": OUTCOMES.index(outcome),
            "data_type_name": outcome,
            "objects_family_name": simulator.scene.object_name,
            "env": index,
            "env_name": f"{recipe.name}-{split}-seed{seed}",
        },
    }


def generate_episodes(
    recipe: Recipe,
    num: int,
    seed: int = 0,
    *,
    split: str = "train",
    workers: int = 1,
    progress: bool = False,
    encoded: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield `num` episodes (see `generate_episode`) in order; `encoded` gives PNG bytes instead of pixels."""
    make = partial(generate_episode, recipe, seed=seed, split=split)
    label = f"{recipe.task} {split} episodes"
    yield from produce(make, num, label=label, workers=workers, progress=progress, encoded=encoded)


def generate_dataset(
    recipe: Recipe,
    out_dir: str | Path,
    train_episodes: int,
    val_episodes: int,
    test_episodes: int,
    *,
    seed: int = 0,
    workers: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write the dataset `out_dir/<recipe.name>/1.0.0` and return that folder; it appears whole or not at all.

    A dataset of the same recipe, seed and counts that is there already is kept, so that an interrupted run over all
    tasks goes on where it was. Raises ConfigError when another one is there and `overwrite` is False; DiskFullError.
    """
    counts = check_counts(train_episodes, val_episodes, test_episodes)
    facts = {
        **asdict(recipe),
        "seed": seed,
        "renderer": "ray (mj_multiRay, 2x2 samples, one hard shadow)",
        "mujoco": mujoco.__version__,
        "action_units": {"world_vector": STEP_M, "rotation_delta": TURN_RAD},
        "near_miss_m": NEAR_M,
    }
    folder = Path(out_dir) / recipe.name / VERSION
    if not overwrite and _is_the_same(folder, facts, counts):
        return folder
    splits = {
        split: generate_episodes(
            recipe, count, seed, split=split, workers=workers, progress=progress, encoded=True
        )
        for split, count in counts.items()
    }
    return write_dataset(
        out_dir,
        recipe.name,
        VERSION,
        splits,
        recipe.image_hw,
        1 / CONTROL_DT_S,
        state_names=STATE_NAMES,
        description=recipe.description,
        metadata=facts,
        overwrite=overwrite,
    )


def _behaviour_of(recipe: Recipe, index: int) -> str:
    """Return the behaviour of an episode; the shares hold in any stretch of episodes (golden-ratio sequence)."""
    edges = np.cumsum(list(recipe.mix.values()))
    place = (0.5 + index * _GOLDEN) % 1.0
    return list(recipe.mix)[min(int(np.searchsorted(edges, place, side="right")), len(edges) - 1)]


def _make_behaviour(kind: str, task: str, control: str, rng: np.random.Generator) -> tuple[str, Behaviour]:
    """Return a behaviour and its name in the attributes."""
    if kind == "random":
        return kind, make_play(control)
    if kind == "failing":
        style = str(rng.choice(STYLES[task]))
        return f"failing_{style}", Scripted(task, control, float(rng.uniform(0.9, 1.0)), style)
    skill = float(rng.uniform(*SKILLS[kind]))
    return f"{kind}_skill_{skill:.2f}", Scripted(task, control, skill)


def _rollout(
    simulator: ManipulationSimulator, behaviour: Behaviour, frames: int
) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Return states, actions (frames, 7) and joint positions; pictures are drawn later, of what is kept."""
    states, joints = [simulator.state], [simulator.data.qpos.copy()]
    actions = np.zeros((frames, 7), np.float32)
    for step in range(frames - 1):
        actions[step] = behaviour.act(states[-1])
        simulator.step(actions[step])
        states.append(simulator.state)
        joints.append(simulator.data.qpos.copy())
    return states, actions, joints


def _is_the_same(folder: Path, facts: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Tell whether the dataset in `folder` was made with these facts and has these splits."""
    try:
        stored = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
        made = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = json.loads(json.dumps(facts))
    return made == dict(counts) and all(stored.get(key) == value for key, value in wanted.items())
