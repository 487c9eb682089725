"""The runner: policies x tasks x paired seeds in every world of an evaluation; rows, films and trajectories out.

    evaluation = PolicyEvaluation(config, "outputs/nightly", open_parts(config))
    rows = evaluation.run()                      # goes on where a run in the same folder was interrupted

An episode is fixed by (suite, task, policy, seed): the same scene, first image and policy random stream in every world.
The worlds without the world model run first; when the action interface alone loses too much there, nothing is scored
in imagination unless the user insists.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation.episodes import (
    WORLDS,
    EpisodeKey,
    Row,
    append_rows,
    interface_in,
    read_rows,
)
from genie_robot.evaluation.estimate import estimate
from genie_robot.evaluation.evaluation_config import IMAGINED_WORLDS, Block, EvaluationConfig
from genie_robot.evaluation.evaluation_parts import Parts
from genie_robot.evaluation.films import load_actions, save_episode
from genie_robot.evaluation.judges.floors import floor_rates
from genie_robot.evaluation.policy_guard import GuardedPolicies
from genie_robot.evaluation.scoring import score
from genie_robot.evaluation.settings import keep_settings, made_with
from genie_robot.evaluation.summary.facts import Facts, facts_of
from genie_robot.evaluation.summary.parts import interface_ceiling
from genie_robot.evaluation.workers import player_of
from genie_robot.evaluation.worlds import (
    Actors,
    ImaginedWorld,
    MujocoWorld,
    Recorded,
    Rollouts,
    Starts,
    TokenizerWorld,
    World,
    roll_out,
    starts_of,
)
from genie_robot.simulation.suites import get_suite

Progress = Callable[[int, str], None]


class PolicyEvaluation:
    """Runs an EvaluationConfig in a folder: `evaluation.yaml`, `settings.json`, and the store of `episodes`."""

    def __init__(
        self, config: EvaluationConfig, out_dir: Path | str, parts: Parts, is_worker: bool = False
    ) -> None:
        """Open (or go on in) `out_dir`; ConfigError when it holds rows of other settings.

        is_worker: another process has opened it, and keeps its settings.
        """
        if set(config.worlds) - {"mujoco"} and parts.interface is None:
            raise ConfigError(
                f"worlds {', '.join(config.worlds)} want a world model and an action interface; got none"
            )
        self.config, self.parts, self.suite = config, parts, get_suite(config.suite)
        self.out_dir = Path(out_dir)
        self.csv_path = self.out_dir / "episodes.csv"
        self._starts: dict[tuple[str, tuple[int, ...]], Starts] = {}
        if not is_worker:
            keep_settings(self.out_dir, config, parts.hashes)

    @property
    def facts(self) -> Facts:
        """What the summary needs to know of this evaluation."""
        hashes = {"config": self.config.sha256} | self.parts.hashes
        return facts_of(self.config, dt_s=self.parts.dt_s, hashes=hashes, made_with=made_with(self.out_dir))

    def rows(self) -> list[Row]:
        """All finished rows in the folder that belong to this config."""
        wanted = {key for world in self.config.worlds for b in self._blocks(world) for key in self._keys(b)}
        return [row for row in read_rows(self.csv_path) if row.key in wanted]

    def floor_rates(self) -> dict[str, dict[str, float]]:
        """What the floors give each policy (see `judges.floors`); empty without floors or imagined rows."""
        rows = [r for r in self.rows() if r.world == "imagined" and r.horizon == self.config.horizon]
        return floor_rates(self.parts.floors, rows, self.out_dir) if self.parts.floors and rows else {}

    def left(self, world: str) -> list[Block]:
        """The blocks of a world that are not complete."""
        done = {row.key for row in read_rows(self.csv_path)}
        return [block for block in self._blocks(world) if not done.issuperset(self._keys(block))]

    @property
    def episodes_left(self) -> int:
        """Episodes of the blocks that are not complete, in all worlds."""
        return sum(len(block.episodes) for world in self.config.worlds for block in self.left(world))

    def run(
        self, progress: Progress | None = None, say: Callable[[str], None] | None = None, workers: int = 1
    ) -> list[Row]:
        """Run what is not complete; `progress(episodes, what)` after each block. Returns all rows.

        say: takes a line on how long it will take, and one on the interface's ceiling before anything is imagined.
        workers: processes that play blocks, see `workers.player_of`.

        ConfigError when the interface loses too much to be scored with, see `check_interface`. PolicyError when a policy
        node (`ros:`) is missing or ends; finished blocks are kept.
        """
        worlds = [world for world in WORLDS if world in self.config.worlds]
        unfinished = {policy for world in worlds for block in self.left(world) for policy in block.policies}
        with contextlib.ExitStack() as links:
            self.parts.connect(unfinished, self.config.policy_timeout_s, links)
            if say and unfinished:
                say(str(estimate(self, workers)))
            play = links.enter_context(player_of(self, min(workers, sum(len(self.left(w)) for w in worlds))))
            for world in worlds:
                if world in IMAGINED_WORLDS:
                    self._tell_ceiling(self.check_interface(), say)
                    say = None
                blocks = self.left(world)
                for block, rows in zip(blocks, play(blocks), strict=True):
                    self._keep(rows)
                    if progress:
                        progress(len(block.episodes), f"{world} {block.task}")
        return self.rows()

    def _keep(self, rows: list[Row]) -> None:
        """Store what is not there yet: a block that was cut short is played again as a whole."""
        done = {row.key for row in read_rows(self.csv_path)}
        append_rows(self.csv_path, [row for row in rows if row.key not in done])

    def check_interface(self) -> dict[str, Any] | None:
        """What the action interface alone loses, by the rows of the worlds mujoco and interface; None where these were not run.

        ConfigError when it is too much, or not known, and the user does not insist (`i_know`).
        """
        ceiling, name = None, self.config.interface
        if {"mujoco", "interface"} <= set(self.config.worlds):
            ceiling = interface_ceiling(self.rows(), self.facts)
        # Policies that are all equally good have no r; an interface that changes no rate has lost nothing all the same.
        passes = ceiling is not None and (ceiling["passes"] or ceiling["mean_abs_error"] == 0.0)
        if not passes and not self.config.i_know:
            raise ConfigError(
                f"interface {name} is not fit to score policies in imagination: {_found(ceiling)}; wanted r >= 0.98 and MMRV <= 0.03; "
                "choose a finer interface (m2, m1:8x3), or insist with --i-know; finished episodes are kept"
            )
        return ceiling

    def _tell_ceiling(self, ceiling: dict[str, Any] | None, say: Callable[[str], None] | None) -> None:
        if say is None:
            return
        if ceiling is None:
            say(f"interface {self.config.interface}: its ceiling was not measured")
            return
        say(
            f"interface {self.config.interface}: {_found(ceiling)}, bias={ceiling['bias']:+.3f}; "
            "imagination through it cannot be expected to agree better"
        )

    def _blocks(self, world: str) -> list[Block]:
        return list(self.config.blocks(world))

    def _keys(self, block: Block) -> list[EpisodeKey]:
        interface = interface_in(block.world, self.config.interface)
        return [
            EpisodeKey(block.world, interface, self.config.suite, block.task, policy, seed, horizon)
            for policy, seed in block.episodes
            for horizon in self.config.horizons
        ]

    def play(self, block: Block) -> list[Row]:
        """Play a whole block, and store its films and trajectories. Returns its rows, which `run` stores.

        Always whole: how a batch is summed depends on its size, and so do last digits.
        """
        actors = self._actors(block)
        seeds_B = [seed for _, seed in block.episodes]
        try:
            rollouts = roll_out(self._world(block), actors, seeds_B, self.config.horizon)
        finally:
            if isinstance(actors, GuardedPolicies):
                actors.close()
        name = interface_in(block.world, self.config.interface)
        scored = score(block, rollouts, self.suite, self.parts.judges, name, self.config.horizons)
        done = {row.key for row in read_rows(self.csv_path)}
        keys = [row.key for row in scored.rows]
        for index, (policy, seed) in enumerate(block.episodes):
            mine = keys[index * len(self.config.horizons) :][: len(self.config.horizons)]
            if not done.issuperset(
                mine
            ):  # else it was played for others of its block: its files belong to its rows
                self._save(block, policy, seed, rollouts, scored.states_BTK[index], index)
        return scored.rows

    def _save(
        self, block: Block, policy: str, seed: int, rollouts: Rollouts, states_TK: np.ndarray, index: int
    ) -> None:
        length = rollouts.length_B[index]
        save_episode(
            self.out_dir,
            (block.world, block.task, policy, seed),
            rollouts.frames_BTYXC[index, : length + 1],
            rollouts.actions_BSA[index, :length],
            states_TK[: length + 1],
            self.parts.dt_s,
        )

    def _actors(self, block: Block) -> Actors:
        if block.world == "replay":
            rows = {
                (row.task, row.policy, row.seed): row
                for row in self.rows()
                if (row.world, row.horizon) == ("mujoco", self.config.horizon)
            }
            found = [rows[block.task, policy, seed] for policy, seed in block.episodes]
            actions = [load_actions(self.out_dir, ("mujoco", r.task, r.policy, r.seed)) for r in found]
            return Recorded(actions, [row.status for row in found], [row.reason for row in found])
        policies = [self.parts.make_policy(policy, block.task) for policy, _ in block.episodes]
        return GuardedPolicies(policies, self.config.policy_timeout_s)

    def _world(self, block: Block) -> World:
        seeds_B = [seed for _, seed in block.episodes]
        if block.world == "tokenizer":
            assert self.parts.model is not None
            return TokenizerWorld(self.suite, block.task, seeds_B, self.parts.model)
        if block.world not in IMAGINED_WORLDS:
            interface = self.parts.interface if block.world == "interface" else None
            return MujocoWorld(self.suite, block.task, seeds_B, interface)
        where = block.task, block.seeds
        if where not in self._starts:
            self._starts[where] = starts_of(self.suite, *where)
        assert self.parts.model is not None and self.parts.interface is not None
        return ImaginedWorld(
            self.suite,
            self.parts.model,
            self.parts.interface,
            self._starts[where],
            len(block.policies),
            maskgit_steps=self.config.maskgit_steps,
            temperature=self.config.temperature,
        )


def _found(ceiling: dict[str, Any] | None) -> str:
    """What is known of an interface's ceiling, in words."""
    if ceiling is None:
        return "its ceiling was not measured (worlds mujoco and interface)"
    if not np.isfinite(ceiling["pearson_r"]):
        return f"MMRV={ceiling['mmrv']:.3f}, and no r, which wants 3 or more policies that are not all alike"
    return f"with perfect dynamics r={ceiling['pearson_r']:.3f}, MMRV={ceiling['mmrv']:.3f}"
