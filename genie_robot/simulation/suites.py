"""Task suites: what policy evaluation needs to know of a family of MuJoCo scenes.

suite = get_suite("manipulation")
env = suite.make_env("push")               # a gymnasium.Env; MuJoCo is imported here, not before
suite.task_success("push", state)          # the same rule for a true state and for one read from imagined frames
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco import tasks as tabletop
from genie_robot.simulation.mujoco.manipulation import tasks as manipulation

FIRST_SEED = 1_000_000
"""Seeds of evaluation start here; training data and world models never have them."""
LOOK = "none"
"""Of the manipulation suite: camera, light and table are the same in every episode, as in a lab; things still differ."""


@dataclass(frozen=True)
class Suite:
    """A family of tasks with one state vector and one camera.

    state_names: entries of the state (S,), positions in metres. max_steps: actions an episode takes by default.
    make_env: task -> environment whose `info["state"]` is the true state. task_success, goal_distance_m: (task, state
    (S,)) -> whether the task is fulfilled, and how far it is from that [m]. instruction: task -> the task in words.
    """

    name: str
    tasks: tuple[str, ...]
    state_names: tuple[str, ...]
    max_steps: int
    make_env: Callable[[str], Any]
    task_success: Callable[[str, np.ndarray], bool]
    goal_distance_m: Callable[[str, np.ndarray], float]
    instruction: Callable[[str], str]

    def check_task(self, task: str) -> str:
        """Return `task` if the suite has it, else raise ConfigError."""
        if task not in self.tasks:
            raise ConfigError(
                f"task is {task!r}, wanted one of {', '.join(self.tasks)} of the suite {self.name}; choose one of these"
            )
        return task


def _tabletop_env(task: str) -> Any:
    from genie_robot.simulation.mujoco.env import TabletopEnv

    return TabletopEnv(task)


def _manipulation_env(task: str) -> Any:
    from genie_robot.simulation.mujoco.manipulation.env import ManipulationEnv

    return ManipulationEnv(task, look=LOOK)


SUITES: dict[str, Suite] = {
    "tabletop": Suite(
        "tabletop",
        tabletop.TASKS,
        tabletop.STATE_NAMES,
        tabletop.MAX_STEPS,
        _tabletop_env,
        tabletop.task_success,
        lambda task, state: tabletop.goal_distance_m(state),
        tabletop.instruction,
    ),
    "manipulation": Suite(
        "manipulation",
        manipulation.TASKS,
        manipulation.STATE_NAMES,
        manipulation.MAX_STEPS,
        _manipulation_env,
        manipulation.task_success,
        manipulation.goal_distance_m,
        manipulation.instruction,
    ),
}


def get_suite(name: str) -> Suite:
    """Return the suite `name`; ConfigError when there is none."""
    if name not in SUITES:
        raise ConfigError(f"suite is {name!r}, wanted one of {', '.join(SUITES)}; choose one of these")
    return SUITES[name]


def suite_of_size(state_size: int) -> Suite:
    """Return the suite whose states have so many numbers; ConfigError when there is none."""
    for suite in SUITES.values():
        if len(suite.state_names) == state_size:
            return suite
    known = ", ".join(f"{len(suite.state_names)} ({suite.name})" for suite in SUITES.values())
    raise ConfigError(
        f"got states of {state_size} numbers, wanted {known}, as `genie-robot data generate` writes them"
    )
