"""The interface ceiling: what an action interface alone costs, were the world model perfect (evaluation.md, section 4.2).

Scripted policies that know the true state drive MuJoCo twice from the same states with the same random streams: once
freely, once with every action sent through the interface, there and back. What differs is the interface's doing.
Shapes: T tasks, P policies, K seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation.agreement import cohen_kappa, mmrv, pearson_r
from genie_robot.simulation.interfaces import ActionInterface
from genie_robot.simulation.mujoco.behaviours import Expert
from genie_robot.simulation.policies.faults import Faulty, Freezing, Late, Offset, Shaky, Weak
from genie_robot.simulation.policies.pixel import Controller, NoOp
from genie_robot.simulation.policies.protocol import episode_stream
from genie_robot.simulation.policies.scripted import SteadyScript
from genie_robot.simulation.success import SUSTAIN
from genie_robot.simulation.suites import FIRST_SEED, get_suite

OPENING = "gripper_opening"

_SKILLS = (1.0, 0.8, 0.6, 0.4, 0.2)


@dataclass(frozen=True)
class CeilingConfig:
    """What is rolled out: `seeds` paired seeds of each of the suite's scripted policies in `tasks` (empty: all)."""

    suite: str = "manipulation"
    tasks: tuple[str, ...] = ()
    seeds: int = 20
    first_seed: int = FIRST_SEED

    def __post_init__(self) -> None:
        suite = get_suite(self.suite)  # an unknown one is said now, not after hours of fits
        for task in self.tasks:
            suite.check_task(task)
        if self.seeds < 1:
            raise ConfigError(f"seeds is {self.seeds}; wanted 1 or more")

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """The tasks, none left out where none is named."""
        return self.tasks or get_suite(self.suite).tasks

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the scripted policies, from good to bad by intent."""
        return tuple(_controllers(self.suite, self.all_tasks[0]))

    @property
    def episodes(self) -> int:
        """Episodes of one world."""
        return len(self.all_tasks) * len(self.policies) * self.seeds


def roll_out_scripts(
    config: CeilingConfig,
    interface: ActionInterface | None,
    progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Whether each episode succeeds, bool (T, P, K), in MuJoCo; with an interface, through it.

    An episode ends with its success, which no later step can undo. progress: called with 1 after each.
    """
    success = np.zeros((len(config.all_tasks), len(config.policies), config.seeds), dtype=bool)
    for t, task in enumerate(config.all_tasks):
        env = get_suite(config.suite).make_env(task)
        for p, (name, controller) in enumerate(_controllers(config.suite, task).items()):
            for k in range(config.seeds):
                seed = config.first_seed + k
                controller.reset(episode_stream(name, task, seed))
                success[t, p, k] = _episode(config.suite, task, env, controller, seed, interface)
                progress(1)
    return success


def compare(truth_TPK: np.ndarray, through_TPK: np.ndarray, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Agreement of success rates through an interface with those without, as in the table of section 4.2.

    `r`, `mmrv`: of the policies' means over tasks. `task_r`, `task_mmrv`: means of the tasks' own; None where a task has
    none (all rates equal). `bias`: mean difference. `agreement`, `kappa`: of paired episodes.
    """
    rates, through = truth_TPK.mean(axis=2), through_TPK.mean(axis=2)
    each = {
        task: {
            "r": _defined(pearson_r(b, a)),
            "mmrv": mmrv(imagined=b, ground_truth=a),
            "bias": float((b - a).mean()),
        }
        for task, a, b in zip(tasks, rates, through, strict=True)
    }
    task_r = [cell["r"] for cell in each.values() if cell["r"] is not None]
    means, means_through = rates.mean(axis=0), through.mean(axis=0)
    return {
        "r": _defined(pearson_r(means_through, means)),
        "mmrv": mmrv(imagined=means_through, ground_truth=means),
        "pooled_r": _defined(pearson_r(through.ravel(), rates.ravel())),
        "task_r": float(np.mean(task_r)) if task_r else None,
        "task_mmrv": float(np.mean([cell["mmrv"] for cell in each.values()])),
        "bias": float((through - rates).mean()),
        "agreement": float((truth_TPK == through_TPK).mean()),
        "kappa": _defined(cohen_kappa(truth_TPK.ravel(), through_TPK.ravel())),
        "episodes": int(truth_TPK.size),
        "tasks": each,
    }


def _episode(
    suite_name: str, task: str, env: Any, controller: Controller, seed: int, interface: ActionInterface | None
) -> bool:
    suite = get_suite(suite_name)
    opening = suite.state_names.index(OPENING)
    image, info = env.reset(seed=seed)
    simulator, state = env.unwrapped.simulator, info["state"]
    if interface is not None:
        interface.reset(1)
    streak = int(suite.task_success(task, state))
    for _ in range(suite.max_steps):
        action_BA = controller.act(state)[None]
        if interface is not None:
            # Pictures cost more than physics: none is taken that nobody looks at.
            picture = simulator.frame() if interface.looks else image
            action_BA = interface.executed(action_BA, picture[None], np.array([state[opening] > 0.5]))
        simulator.step(action_BA[0])
        state = simulator.state
        streak = streak + 1 if suite.task_success(task, state) else 0
        if streak >= SUSTAIN:
            return True
    return False


def _controllers(suite: str, task: str) -> dict[str, Controller]:
    """Policies that are told the true state, so that no misreading mixes with what the interface does."""
    if suite == "tabletop":
        experts: dict[str, Controller] = {f"expert-{skill}": Expert(task, skill=skill) for skill in _SKILLS}
        return experts | {"no-op": NoOp()}
    scripts: dict[str, Controller] = {f"script-{skill}": SteadyScript(task, skill) for skill in _SKILLS}
    faults = {
        "offset-2cm": Offset(0.02),
        "offset-4cm": Offset(0.04),
        "late-2": Late(2),
        "weak-0.4": Weak(0.4),
        "shaky-0.8": Shaky(0.8),
        "freezing-0.04": Freezing(0.04),
    }
    scripts |= {name: Faulty(SteadyScript(task), fault) for name, fault in faults.items()}
    return scripts | {"no-op": NoOp()}


def _defined(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
