"""Expert demonstrations of the manipulation tasks, made when they are asked for and kept in a file.

The expert is disturbed now and then and shows how to recover, while the action on record is the one it wanted (DART,
Laskey et al. 2017): without that, a clone that has once left the expert's path has never seen where it is.
Shapes: N steps of all demonstrations together, Y X pixels, C colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.manipulation.tasks import MAX_STEPS, OPEN_ABOVE, TASKS, task_success
from genie_robot.simulation.mujoco.production import random_streams
from genie_robot.simulation.mujoco.tasks import OPENING
from genie_robot.simulation.policies.scripted import SteadyScript
from genie_robot.simulation.suites import LOOK

SEED = 60
"""Root of the scenes' random streams; world models and probes are trained on other seeds, policies evaluated on others."""
REST_STEPS, TRIES = 5, 20
_DISTURBED, _DISTURBANCE = 0.2, 0.4


@dataclass(frozen=True)
class Demonstrations:
    """Steps of expert demonstrations: what was seen before and after each, and what the expert wanted to do.

    images_NYXC, next_NYXC: uint8. wanted_N7: the expert's actions; done_N7: what was done, disturbances included.
    open_N: whether the gripper was open. task_N: index of the task. episode_N: number of the demonstration in its task.
    """

    images_NYXC: np.ndarray
    next_NYXC: np.ndarray
    wanted_N7: np.ndarray
    done_N7: np.ndarray
    open_N: np.ndarray
    task_N: np.ndarray
    episode_N: np.ndarray

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.wanted_N7)

    def between(self, first: int, end: int) -> Demonstrations:
        """Those whose number in their task is from `first` up to but not including `end`."""
        return self.rows(np.flatnonzero((self.episode_N >= first) & (self.episode_N < end)))

    def rows(self, index: np.ndarray) -> Demonstrations:
        """Some of the steps."""
        return Demonstrations(**{name: value[index] for name, value in vars(self).items()})


def demonstrate(task: str, index: int, seed: int = SEED) -> Demonstrations:
    """Demonstration `index` of a task; a try that fails is thrown away, as a human demonstrator would."""
    from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator

    for attempt in range(TRIES):
        of_scene, of_noise, of_expert = random_streams(seed, "train", index, 1 + TASKS.index(task), attempt)
        # The look of the suite: a clone that learns under other cameras and lights is tested on what it never saw.
        simulator, expert = ManipulationSimulator(task, look=LOOK), SteadyScript(task)
        simulator.reset(of_scene)
        expert.reset(of_expert)
        frames, states, wanted, done = [simulator.frame()], [simulator.state], [], []
        rest = 0
        while len(wanted) < MAX_STEPS and rest < REST_STEPS:
            action = expert.act(states[-1])
            rest = 0 if action.any() else rest + 1
            disturbance = np.zeros(7, np.float32)
            if of_noise.random() < _DISTURBED and not rest:
                disturbance[[0, 1, 2, 5]] = of_noise.normal(0.0, _DISTURBANCE, 4)
            wanted.append(action)
            done.append(np.clip(action + disturbance, -1.0, 1.0))
            simulator.step(done[-1])
            frames.append(simulator.frame())
            states.append(simulator.state)
        if task_success(task, states[-1]) and task_success(task, states[-2]):
            count = len(wanted)
            return Demonstrations(
                np.stack(frames[:-1]),
                np.stack(frames[1:]),
                np.stack(wanted),
                np.stack(done),
                np.array([state[OPENING] > OPEN_ABOVE for state in states[:-1]]),
                np.full(count, TASKS.index(task)),
                np.full(count, index),
            )
    raise AssertionError(f"{task} demonstration {index}: {TRIES} tries in a row failed")


def join(parts: Sequence[Demonstrations]) -> Demonstrations:
    """Put demonstrations one after another."""
    return Demonstrations(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    )


def load_demonstrations(
    folder: Path | str, tasks: Sequence[str], per_task: int, seed: int = SEED, progress: bool = True
) -> Demonstrations:
    """Demonstrations of the tasks, `per_task` each; made now where `folder` does not have them yet."""
    if per_task < 1:
        raise ConfigError(f"got {per_task} demonstrations per task; wanted at least 1")
    parts = []
    for task in tasks:
        path = Path(folder) / f"{task}-look_{LOOK}-seed{seed}-{per_task}.npz"
        if not path.is_file():
            label = f"{task} demonstrations"
            made = [
                demonstrate(task, index, seed)
                for index in tqdm(range(per_task), label, disable=None if progress else True)
            ]
            path.parent.mkdir(parents=True, exist_ok=True)
            _save(path, join(made))
        with np.load(path) as arrays:
            parts.append(Demonstrations(**arrays))
    return join(parts)


def _save(path: Path, demonstrations: Demonstrations) -> None:
    """Write the file whole or not at all."""
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, **vars(demonstrations))
    part.replace(path)
