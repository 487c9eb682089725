"""Policies x tasks x paired seeds in MuJoCo and in imagination; rows in, agreement out.

Three worlds:
* `mujoco`: the ground truth. Success is the simulator's; the judge also scores its pictures (the judge's own ceiling);
* `imagined`: the world model through the action adapter, success by the judge;
* `mujoco_codes`: MuJoCo, but each action goes through adapter and dictionary first. What this loses against
  `mujoco` is lost by having only so many codes, whatever the world model does.

An episode is fixed by (task, policy, seed): the same scene, first image and policy random stream in every world.
Rows are appended to a CSV file a block at a time; blocks that are complete are not run again.

A policy named `ros:<namespace>` is a ROS 2 node: the same code shows it the images and applies what it answers. It is
one program with one memory, so its episodes run one by one.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.errors import ConfigError
from genie_robot.evaluation.probe import ProbePair
from genie_robot.simulation.action_interface import ActionAdapter
from genie_robot.simulation.imagined_env import SUSTAIN, imagined_rollouts
from genie_robot.simulation.mujoco.tasks import (
    MAX_STEPS,
    OPENING,
    TASKS,
    check_task,
    goal_distance_m,
    task_success,
)
from genie_robot.simulation.policies import POLICY_NAMES, Policy, act_all, make_policy
from genie_robot.simulation.ros_policy import DEFAULT_TIMEOUT_S, PolicyLink, RosPolicy, connect, is_ros_policy

WORLDS = ("mujoco", "imagined", "mujoco_codes")
COLUMNS = (
    "world",
    "task",
    "policy",
    "seed",
    "success",
    "judge_success",
    "steps",
    "goal_distance_m",
    "object_z_m",
)
FIRST_SEED = 1_000_000
"""Evaluation seeds start here; training data and world models never see them."""


@dataclass(frozen=True)
class PolicyEvalConfig:
    """What is run. Everything that changes an outcome is in here or in the hashes of model, probe and adapter."""

    policies: tuple[str, ...] = POLICY_NAMES
    tasks: tuple[str, ...] = TASKS
    seeds: int = 16
    first_seed: int = FIRST_SEED
    max_steps: int = MAX_STEPS
    maskgit_steps: int = 8
    temperature: float = TEMPERATURE
    worlds: tuple[str, ...] = WORLDS
    block: int = 16

    def __post_init__(self) -> None:
        for task in self.tasks:
            check_task(task)
        unknown = [world for world in self.worlds if world not in WORLDS]
        if unknown or not self.tasks or not self.policies or len(set(self.policies)) != len(self.policies):
            raise ConfigError(
                f"worlds {self.worlds}, tasks {self.tasks}, policies {self.policies}; wanted worlds of {WORLDS} and "
                "at least one task and one policy, each named once"
            )
        if min(self.seeds, self.max_steps, self.block) < 1:
            raise ConfigError(
                f"seeds {self.seeds}, max_steps {self.max_steps}, block {self.block}; wanted 1 or more"
            )
        for policy in self.policies:
            if not is_ros_policy(policy):
                make_policy(policy, self.tasks[0], lambda images: images)

    def blocks(self) -> Iterator[tuple[str, str, str, list[int]]]:
        """(world, task, policy, seeds) of each block, ground truth first."""
        seeds = list(range(self.first_seed, self.first_seed + self.seeds))
        for world in self.worlds:
            for task in self.tasks:
                for policy in self.policies:
                    block = 1 if is_ros_policy(policy) else self.block
                    for start in range(0, len(seeds), block):
                        yield world, task, policy, seeds[start : start + block]

    @property
    def episodes(self) -> int:
        """Episodes in all worlds together."""
        return len(self.worlds) * len(self.tasks) * len(self.policies) * self.seeds


@dataclass(frozen=True)
class Row:
    """One episode. `judge_success` is the judge's verdict on the pictures; in imagination it is the success itself."""

    world: str
    task: str
    policy: str
    seed: int
    success: bool
    judge_success: bool
    steps: int
    goal_distance_m: float
    object_z_m: float

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What names an episode."""
        return self.world, self.task, self.policy, self.seed


class PolicyEvaluation:
    """Runs a PolicyEvalConfig in a folder: `episodes.csv`, `settings.json`, `strips/*.png` of each block's first seed."""

    def __init__(
        self,
        config: PolicyEvalConfig,
        out_dir: Path | str,
        probes: ProbePair,
        model: Any | None = None,
        adapter: ActionAdapter | None = None,
        policy_timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        """Open (or go on in) `out_dir`; ConfigError when it holds rows of other settings.

        policy_timeout_s: how long a policy node (`ros:`) may take to be found, and to answer [s].
        """
        needs_model = set(config.worlds) - {"mujoco"}
        if needs_model and (adapter is None or (model is None and "imagined" in needs_model)):
            raise ConfigError(
                f"worlds {sorted(needs_model)} want a model and its action adapter; got none; name a model"
            )
        self.config, self.probes, self.model, self.adapter = config, probes, model, adapter
        self._policy_timeout_s = policy_timeout_s
        self._links: dict[str, PolicyLink] = {}
        self.out_dir = Path(out_dir)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self.csv_path = self.out_dir / "episodes.csv"
        self._check_settings()

    def _check_settings(self) -> None:
        settings = json.loads(json.dumps(asdict(self.config))) | {
            "probe_hash": self.probes.hash,
            "model_hash": str(getattr(self.model, "hash", "")),
            "adapter": self.adapter.weight_CF.tolist() if self.adapter else None,
        }
        # More seeds or policies only add rows; anything else would mix different experiments in one table.
        growing = ("seeds", "policies", "tasks", "worlds")
        path = self.out_dir / "settings.json"
        if path.is_file() and self.csv_path.is_file():
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise ConfigError(f"{path} cannot be read ({error}); give another --out folder") from error
            other = [key for key in settings if key not in growing and before.get(key) != settings[key]]
            if other:
                raise ConfigError(
                    f"{self.out_dir} holds episodes with another {', '.join(other)}; wanted the same settings to go "
                    "on; give another --out folder, or delete this one"
                )
        path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

    def rows(self) -> list[Row]:
        """All finished rows in the folder that belong to this config; a cut last line is left out."""
        wanted = {(w, t, p, s) for w, t, p, seeds in self.config.blocks() for s in seeds}
        return [row for row in read_rows(self.csv_path) if row.key in wanted]

    def run(self, progress: Callable[[int, str], None] | None = None) -> list[Row]:
        """Run the blocks that are not complete; `progress(episodes done, what)` after each. Returns all rows.

        PolicyError when a policy node is missing (said before the first episode), ends or answers with no action;
        finished blocks are kept.
        """
        done = {row.key for row in read_rows(self.csv_path)}
        blocks = [
            ((world, task, policy, seeds), all((world, task, policy, seed) in done for seed in seeds))
            for world, task, policy, seeds in self.config.blocks()
        ]
        unfinished = {policy for (_, _, policy, _), is_done in blocks if not is_done}
        with contextlib.ExitStack() as links:
            for name in filter(is_ros_policy, sorted(unfinished)):
                link = connect(name, self._policy_timeout_s)
                self._links[name] = links.enter_context(contextlib.closing(link))
            for (world, task, policy, seeds), is_done in blocks:
                if not is_done:
                    fresh = [r for r in self._run_block(world, task, policy, seeds) if r.key not in done]
                    append_rows(self.csv_path, fresh)
                if progress:
                    progress(len(seeds), f"{world} {task} {policy}")
        return self.rows()

    def _make_policy(self, name: str, task: str) -> Policy:
        if name in self._links:
            return RosPolicy(name, task, self._links[name])
        return make_policy(name, task, self.probes.eyes)

    def _run_block(self, world: str, task: str, policy: str, seeds: list[int]) -> list[Row]:
        policies = [self._make_policy(policy, task) for _ in seeds]
        for one, seed in zip(policies, seeds, strict=True):
            one.reset(seed)
        if world == "imagined":
            return self._imagined_block(task, policy, seeds, policies)
        adapter = self.adapter if world == "mujoco_codes" else None
        return self._mujoco_block(world, task, policy, seeds, policies, adapter)

    def _imagined_block(
        self, task: str, policy: str, seeds: list[int], policies: Sequence[Policy]
    ) -> list[Row]:
        assert self.model is not None
        assert self.adapter is not None
        env = _tabletop(task)
        prompts = np.stack([env.reset(seed=seed)[0] for seed in seeds])[:, None]
        result = imagined_rollouts(
            self.model,
            self.adapter,
            self.probes.judge,
            task,
            prompts,
            np.asarray(seeds),
            lambda images: act_all(policies, images),
            max_steps=self.config.max_steps,
            maskgit_steps=self.config.maskgit_steps,
            temperature=self.config.temperature,
        )
        rows = []
        for index, seed in enumerate(seeds):
            last = int(result.success_step_B[index]) or result.codes_BS.shape[1]
            state, success = result.states_BTS[index, last], bool(result.success_B[index])
            rows.append(_row("imagined", task, policy, seed, success, success, last, state))
        self._save_strip("imagined", task, policy, seeds[0], result.frames_BTYXC[0, : rows[0].steps + 1])
        return rows

    def _mujoco_block(
        self,
        world: str,
        task: str,
        policy: str,
        seeds: list[int],
        policies: Sequence[Policy],
        adapter: ActionAdapter | None,
    ) -> list[Row]:
        episodes = [_MujocoEpisode(task, seed) for seed in seeds]
        self._watch(episodes)
        for _ in range(self.config.max_steps + SUSTAIN - 1):
            live = [i for i, e in enumerate(episodes) if e.wants_more(self.config.max_steps)]
            if not live:
                break
            actions = act_all([policies[i] for i in live], np.stack([episodes[i].image for i in live]))
            if adapter is not None:
                is_open = np.array([episodes[i].is_open for i in live])
                actions = adapter.robot_action(adapter.code(actions), is_open)
            for i, action in zip(live, actions, strict=True):
                episodes[i].step(action)
            self._watch([episodes[i] for i in live])
        self._save_strip(world, task, policy, seeds[0], np.stack(episodes[0].film))
        return [
            _row(
                world,
                task,
                policy,
                e.seed,
                e.success_step > 0,
                e.judge_success,
                e.success_step or e.steps,
                e.state,
            )
            for e in episodes
        ]

    def _watch(self, episodes: list[_MujocoEpisode]) -> None:
        for episode, state in zip(
            episodes, self.probes.judge(np.stack([e.image for e in episodes])), strict=True
        ):
            episode.judge(state)

    def _save_strip(self, world: str, task: str, policy: str, seed: int, film: np.ndarray) -> None:
        import cv2

        folder = self.out_dir / "strips"
        folder.mkdir(exist_ok=True)
        chosen = film[np.linspace(0, len(film) - 1, min(10, len(film))).round().astype(int)]
        strip = np.concatenate(list(chosen), axis=1)[..., ::-1]
        name = policy.replace(":", "").replace("/", "_")  # ros:/a/b is no file name
        cv2.imwrite(str(folder / f"{task}_{name}_{seed}_{world}.png"), strip)


class _MujocoEpisode:
    """One MuJoCo episode, judged twice: by the simulator's state and, from the pictures, by the judge."""

    def __init__(self, task: str, seed: int) -> None:
        self.task, self.seed = task, seed
        self._env = _tabletop(task)
        self.image, info = self._env.reset(seed=seed)
        self.state = self._now = info["state"]
        self.film = [self.image]
        self.steps = self.success_step = self._streak = 0
        self.judge_success = False

    def wants_more(self, max_steps: int) -> bool:
        """After a success, go on until the judge has had the frames that it wants to see."""
        if self.success_step:
            return not self.judge_success and self.steps < self.success_step + SUSTAIN - 1
        return self.steps < max_steps

    @property
    def is_open(self) -> bool:
        """Whether the gripper is open now, as the robot's own joints tell."""
        return bool(self._now[OPENING] > 0.5)

    def step(self, action: np.ndarray) -> None:
        self.image, _, _, _, info = self._env.step(action)
        self.film.append(self.image)
        self.steps += 1
        self._now = info["state"]
        if not self.success_step:
            self.state = self._now
            if info["is_success"]:
                self.success_step = self.steps

    def judge(self, seen_state: np.ndarray) -> None:
        self._streak = self._streak + 1 if task_success(self.task, seen_state) else 0
        self.judge_success = self.judge_success or (self._streak >= SUSTAIN and self.steps > 0)


def _tabletop(task: str) -> Any:
    from genie_robot.simulation.mujoco.env import TabletopEnv

    return TabletopEnv(task)


def _row(
    world: str, task: str, policy: str, seed: int, success: bool, judged: bool, steps: int, state: np.ndarray
) -> Row:
    distance, height = round(goal_distance_m(state), 4), round(float(state[6]), 4)
    return Row(world, task, policy, seed, bool(success), bool(judged), int(steps), distance, height)


def append_rows(path: Path, rows: list[Row]) -> None:
    """Append rows and force them to the disk, so that an interruption loses at most the running block."""
    is_new = not path.is_file() or path.stat().st_size == 0
    if not is_new and not path.read_bytes().endswith(b"\n"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:-1]), encoding="utf-8")
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list[str](COLUMNS), lineterminator="\n")
        if is_new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: int(v) if isinstance(v, bool) else v for k, v in asdict(row).items()})
        file.flush()
        os.fsync(file.fileno())


def read_rows(path: Path) -> list[Row]:
    """Rows of an `episodes.csv`; none if there is no file. A line cut by an interruption is left out."""
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for record in csv.DictReader(line for line in file if line.endswith("\n")):
            try:
                rows.append(
                    Row(
                        record["world"],
                        record["task"],
                        record["policy"],
                        int(record["seed"]),
                        bool(int(record["success"])),
                        bool(int(record["judge_success"])),
                        int(record["steps"]),
                        float(record["goal_distance_m"]),
                        float(record["object_z_m"]),
                    )
                )
            except (KeyError, ValueError, TypeError) as error:
                raise ConfigError(
                    f"{path} has a row that is not an episode ({record}); delete it to start over"
                ) from error
    return rows
