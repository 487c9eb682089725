"""How well the scripted robots do the five simulated tasks, and how fast episodes are made.

    python benchmarks/simulated_tasks.py [--episodes 100] [--robot ur5e] [--out benchmarks/results/simulated_tasks_<machine>_<date>.md]

Success is the tasks' own rule at any of the first 50 steps of an episode; seeds are the same in every cell, so cells are
paired. Standard error at 100 episodes: up to .05. The exit code is 1 when success does not fall with skill in some task.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from tqdm import tqdm

from genie_robot.data.provenance import git_hash
from genie_robot.simulation.mujoco.behaviours import Behaviour
from genie_robot.simulation.mujoco.manipulation.behaviours import CONTROLS, STYLES, Scripted, make_play
from genie_robot.simulation.mujoco.manipulation.env import ManipulationSimulator
from genie_robot.simulation.mujoco.manipulation.generate import Recipe, generate_episode
from genie_robot.simulation.mujoco.manipulation.robots import ROBOTS, make_robot
from genie_robot.simulation.mujoco.manipulation.tasks import MAX_STEPS, TASKS, is_near_miss, task_success

SKILLS = (1.0, 0.8, 0.6, 0.4, 0.2)


def outcome(simulator: ManipulationSimulator, behaviour: Behaviour, seed: int) -> tuple[bool, bool, int]:
    """Run one episode; returns success, near miss, steps."""
    simulator.reset(np.random.default_rng([31, seed]))
    behaviour.reset(np.random.default_rng([32, seed]))
    near = False
    for step in range(MAX_STEPS):
        simulator.step(behaviour.act(simulator.state))
        if task_success(simulator.task, simulator.state):
            return True, False, step + 1
        near = near or is_near_miss(simulator.task, simulator.state)
    return False, near, MAX_STEPS


def cell(simulator: ManipulationSimulator, behaviour: Behaviour, episodes: int) -> dict[str, float]:
    """Success rate, share of near misses and mean length over `episodes`."""
    rows = np.array([outcome(simulator, behaviour, seed) for seed in range(episodes)], dtype=float)
    return dict(zip(("success", "near_miss", "steps"), rows.mean(axis=0).tolist(), strict=True))


def measure_behaviours(episodes: int, robot: str) -> dict[str, Any]:
    """Cells by control and task: skills, random play, failure styles."""
    found: dict[str, Any] = {}
    for control, task in tqdm([(c, t) for c in CONTROLS for t in TASKS], desc="tasks", disable=None):
        simulator = ManipulationSimulator(task, robot=make_robot(robot))
        skills = {str(skill): cell(simulator, Scripted(task, control, skill), episodes) for skill in SKILLS}
        random = cell(simulator, make_play(control), episodes)
        styles = {
            style: cell(simulator, Scripted(task, control, style=style), max(1, episodes // 2))
            for style in STYLES[task]
        }
        found[f"{control} {task}"] = {"skills": skills, "random": random, "styles": styles}
    return found


def measure_speed(robot: str, image_sizes: tuple[int, ...] = (64, 128)) -> dict[str, float]:
    """CPU seconds per episode of 51 frames with the default mix, by image side."""
    seconds = {}
    for size in image_sizes:
        recipe = Recipe("pick_place", image_hw=(size, size), robot=robot)
        count = 20 if robot == "primitive" else 2
        generate_episode(recipe, 0)
        started = time.process_time()
        for index in range(count):
            generate_episode(recipe, index)
        seconds[str(size)] = (time.process_time() - started) / count
    return seconds


def falls(skills: dict[str, dict[str, float]]) -> bool:
    """Tell whether success falls from each skill to the next lower one."""
    rates = [skills[str(skill)]["success"] for skill in SKILLS]
    return all(better > worse for better, worse in itertools.pairwise(rates))


def table(content: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"# Simulated tasks: robot {content['robot']}, {content['episodes']} episodes a cell",
        "",
        f"`{content['command']}`, commit {content['commit']}, MuJoCo {content['mujoco']}, {content['machine']}.",
        "Success rate within 50 steps (mean steps of an episode).",
        "",
        "| control, task | " + " | ".join(f"skill {skill}" for skill in SKILLS) + " | random play |",
        "| --- |" + " --- |" * (len(SKILLS) + 1),
    ]
    for name, cells in content["behaviours"].items():
        shown = [*(cells["skills"][str(skill)] for skill in SKILLS), cells["random"]]
        lines.append(
            f"| {name} | " + " | ".join(f"{c['success']:.2f} ({c['steps']:.0f})" for c in shown) + " |"
        )
    lines += [
        "",
        "Failure styles: share of successes / of near misses before the generator throws successes out.",
        "",
    ]
    lines += ["| control, task | style: success / near miss |", "| --- | --- |"]
    for name, cells in content["behaviours"].items():
        styles = ", ".join(
            f"{style} {c['success']:.2f} / {c['near_miss']:.2f}" for style, c in cells["styles"].items()
        )
        lines.append(f"| {name} | {styles} |")
    lines += [
        "",
        "| picture | CPU s per episode of 51 frames | episodes per core-second |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {s}x{s} | {v:.2f} | {1 / v:.2f} |" for s, v in content["seconds_per_episode"].items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, print, store; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=100, help="episodes a cell (default: 100)")
    parser.add_argument("--robot", choices=ROBOTS, default="primitive")
    parser.add_argument("--out", type=Path, help="Markdown file; the numbers go beside it as JSON")
    args = parser.parse_args()
    content = {
        "robot": args.robot,
        "episodes": args.episodes,
        "command": " ".join(["python", *sys.argv]),
        "commit": git_hash(),
        "mujoco": mujoco.__version__,
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "behaviours": measure_behaviours(args.episodes, args.robot),
        "seconds_per_episode": measure_speed(args.robot),
    }
    print(table(content))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(table(content), encoding="utf-8")
        args.out.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    bad = [name for name, cells in content["behaviours"].items() if not falls(cells["skills"])]
    if bad:
        print(f"success does not fall with skill in: {', '.join(bad)}", file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
