"""What was run, and its rows as arrays (P policies, M tasks, K seeds)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genie_robot.config import to_dict
from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.episodes import WORLDS, Row, interface_in
from genie_robot.evaluation.evaluation_config import EvaluationConfig


def family(policy: str) -> str:
    """The words of a policy's name without its numbers: what is made alike, as `clone` for clone-5-a and clone-100-b."""
    return "-".join(re.findall(r"[A-Za-z]{2,}", policy)) or policy


@dataclass(frozen=True)
class Facts:
    """One evaluation: what its rows must hold, and what another group needs to repeat it.

    interface: name of the action interface, of the worlds that have one. seeds: episodes of each policy and task, the seeds
    first_seed ... first_seed + seeds - 1. horizons: steps of an episode; the longest is the main one. dt_s: time of a step
    [s]. unseen_policies: those whose rollouts no model or judge was trained on. hashes: SHA-256 of config, model, probe,
    judge, policies, interface. settings: whatever else was set, shown as it is. made_with: commit, versions and processor, an entry for
    each machine or version that worked at it.
    """

    suite: str
    interface: str
    tasks: tuple[str, ...]
    policies: tuple[str, ...]
    seeds: int
    first_seed: int
    horizons: tuple[int, ...]
    dt_s: float
    worlds: tuple[str, ...] = WORLDS
    unseen_policies: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    made_with: tuple[Mapping[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not (
            self.tasks and self.policies and self.horizons and self.seeds > 0 and "mujoco" in self.worlds
        ):
            raise ConfigError(
                f"tasks {self.tasks}, policies {self.policies}, horizons {self.horizons}, seeds {self.seeds}, worlds "
                f"{self.worlds}; wanted at least one of each, and the world mujoco, which is the truth"
            )

    @property
    def horizon(self) -> int:
        """The main horizon: the longest."""
        return max(self.horizons)


def facts_of(
    config: EvaluationConfig,
    *,
    dt_s: float,
    hashes: Mapping[str, str],
    made_with: tuple[Mapping[str, str], ...] = (),
) -> Facts:
    """Facts of a configuration, with all its fields as settings."""
    shared = (
        "suite",
        "interface",
        "tasks",
        "policies",
        "seeds",
        "first_seed",
        "horizons",
        "worlds",
        "unseen_policies",
    )
    return Facts(
        **{name: getattr(config, name) for name in shared},
        dt_s=dt_s,
        hashes=hashes,
        settings=to_dict(config),
        made_with=made_with,
    )


class EpisodeTable:
    """Rows of one evaluation by place: `values("imagined", "success")` is (P, M, K)."""

    def __init__(self, rows: Sequence[Row], facts: Facts) -> None:
        """Take the rows that belong to `facts`; DataError when a world was begun and is not complete."""
        self.facts = facts
        self.shape = len(facts.policies), len(facts.tasks), facts.seeds
        self._rows: dict[tuple[str, int], dict[tuple[int, int, int], Row]] = {}
        policies = {name: index for index, name in enumerate(facts.policies)}
        tasks = {name: index for index, name in enumerate(facts.tasks)}
        for row in rows:
            seed = row.seed - facts.first_seed
            interface = interface_in(row.world, facts.interface)
            if (
                (row.suite, row.interface) == (facts.suite, interface)
                and row.policy in policies
                and row.task in tasks
                and 0 <= seed < facts.seeds
            ):
                place = policies[row.policy], tasks[row.task], seed
                self._rows.setdefault((row.world, row.horizon), {})[place] = row
        for horizon in facts.horizons:
            for world in facts.worlds:
                self._check_complete(world, horizon)

    def _check_complete(self, world: str, horizon: int) -> None:
        have, want = len(self._rows.get((world, horizon), {})), int(np.prod(self.shape))
        if have != want and (have or world == "mujoco"):
            raise DataError(
                f"{want - have} of {want} episodes of the world {world} (horizon {horizon}) are missing; "
                "give the same command again to run them"
            )

    def has(self, world: str, horizon: int | None = None) -> bool:
        """Whether the world was run."""
        return bool(self._rows.get((world, horizon or self.facts.horizon)))

    def rows(self, world: str, horizon: int | None = None) -> list[Row]:
        """The world's rows, policy by policy, task by task, seed by seed."""
        found = self._rows.get((world, horizon or self.facts.horizon), {})
        return [found[place] for place in sorted(found)]

    def values(self, world: str, name: str, horizon: int | None = None) -> np.ndarray:
        """A column as float64 (P, M, K): booleans as 0 / 1, NaN for None."""
        values = [getattr(row, name) for row in self.rows(world, horizon)]
        return np.array([np.nan if v is None else float(v) for v in values]).reshape(self.shape)

    def outcomes(
        self,
        world: str,
        column: str = "success",
        *,
        horizon: int | None = None,
        count_invalid: bool = False,
        count_failed: bool = True,
    ) -> np.ndarray:
        """Outcomes (P, M, K) as 0 / 1; NaN for an episode that does not count.

        count_invalid: an episode whose pictures cannot be judged is a failure (else it is left out; true states are always
        valid). count_failed: an episode in which the policy itself failed (raised, no action, too late) is a failure.
        """
        values = self.values(world, column, horizon)
        failed = np.array([row.status != "ok" for row in self.rows(world, horizon)]).reshape(self.shape)
        values[failed] = 0.0 if count_failed else np.nan
        if world in ("imagined", "replay"):
            invalid = self.values(world, "invalid", horizon) > 0
            values[invalid & ~failed] = 0.0 if count_invalid else np.nan
        return values
