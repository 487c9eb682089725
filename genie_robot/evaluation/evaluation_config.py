"""What one evaluation of policies is: one YAML file, and everything that decides its numbers.

config = load_config("nightly")                  # configs/evaluation/nightly.yaml
config = load_config("my_evaluation.yaml")
print(config.sha256)                             # of `config.text`, which is stored as OUT/evaluation.yaml
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from genie_robot.config import TEMPERATURE, from_dict, to_dict
from genie_robot.errors import ConfigError
from genie_robot.evaluation.episodes import WORLDS
from genie_robot.simulation.policies import policy_names, was_seen_in_training
from genie_robot.simulation.ros_policy import DEFAULT_TIMEOUT_S, is_ros_policy
from genie_robot.simulation.suites import FIRST_SEED, get_suite

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "evaluation"
IMAGINED_WORLDS = ("imagined", "replay")


@dataclass(frozen=True)
class Block:
    """Episodes that run side by side: each of `seeds` with each of `policies`, the policies of a seed together."""

    world: str
    task: str
    policies: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def episodes(self) -> list[tuple[str, int]]:
        """(policy, seed) of each row of the batch."""
        return [(policy, seed) for seed in self.seeds for policy in self.policies]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is run. The defaults are the small table top of the demo: eight codes, and policies that press eight keys."""

    name: str = "tabletop"
    suite: str = "tabletop"
    model: str = "weights/tabletop-tiny"  # world model folder
    interface: str = "m0"  # how robot actions reach the model: m0, m1:8, m1:8x2, m1:8x3, m1:continuous, m2
    probe: str = "weights/tabletop-probe"  # state probe: the primary judge, and the eyes of scripted policies
    second_judge: str = (
        ""  # folder of the independent classifier, or a name of genie_robot.judges; empty: none
    )
    policy_weights: str = ""  # folder of the cloned policies; empty: none
    policies: tuple[str, ...] = ()  # empty: the suite's own
    unseen_policies: tuple[
        str, ...
    ] = ()  # whose behaviour no model or judge was trained on; empty: as far as known
    tasks: tuple[str, ...] = ()  # empty: all of the suite
    seeds: int = 16
    first_seed: int = FIRST_SEED
    horizons: tuple[
        int, ...
    ] = ()  # steps of an episode; each is a prefix of the longest. Empty: the suite's own
    worlds: tuple[str, ...] = ("mujoco", "interface", "imagined")
    maskgit_steps: int = 8
    temperature: float = TEMPERATURE
    block: int = 16  # episodes that run side by side
    device: str = "cpu"  # of the world model
    dtype: str = "float32"  # of its weights: float32 or bfloat16
    policy_timeout_s: float = (
        DEFAULT_TIMEOUT_S  # how long a policy may take to be found, to reset, and to act
    )
    i_know: bool = False  # score in imagination although the interface loses too much (or was not measured)

    def __post_init__(self) -> None:
        """Fill what was left empty, and refuse what cannot be run; ConfigError."""
        suite = get_suite(self.suite)
        object.__setattr__(self, "tasks", tuple(self.tasks) or suite.tasks)
        object.__setattr__(self, "policies", tuple(self.policies) or policy_names(self.suite))
        unseen = tuple(name for name in self.policies if not was_seen_in_training(name))
        object.__setattr__(self, "unseen_policies", tuple(self.unseen_policies) or unseen)
        object.__setattr__(self, "horizons", tuple(sorted(self.horizons)) or (suite.max_steps,))
        for task in self.tasks:
            suite.check_task(task)
        for policy in self.policies:
            is_ros_policy(policy)  # refuses a ros: name that is no namespace
        for name in ("policies", "tasks", "worlds", "horizons"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{name}: got {values}, wanted at least one, each named once")
        unknown = [world for world in self.worlds if world not in WORLDS]
        if unknown:
            raise ConfigError(f"worlds: got {unknown[0]!r}, wanted some of {', '.join(WORLDS)}")
        if "replay" in self.worlds and "mujoco" not in self.worlds:
            raise ConfigError("worlds: got replay alone, wanted mujoco as well, whose actions are replayed")
        strange = [name for name in self.unseen_policies if name not in self.policies]
        if strange:
            raise ConfigError(f"unseen_policies: got {strange[0]!r}, wanted names that are in policies")
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"dtype: got {self.dtype!r}, wanted float32 or bfloat16")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name in ("seeds", "block", "maskgit_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, wanted 1 or more")
        if min(self.horizons) < 1:
            raise ConfigError(f"horizons: got {min(self.horizons)}, wanted 1 step or more")
        if self.first_seed < FIRST_SEED:
            raise ConfigError(
                f"first_seed: got {self.first_seed}, wanted {FIRST_SEED} or more: seeds below are those of training data"
            )
        if not self.policy_timeout_s > 0:
            raise ConfigError(f"policy_timeout_s: got {self.policy_timeout_s}, wanted more than 0 seconds")
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature: got {self.temperature}, wanted 0 or more")

    @property
    def horizon(self) -> int:
        """Steps of the rollouts, which is the longest horizon."""
        return self.horizons[-1]

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds of every policy on every task."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def episodes(self) -> int:
        """Episodes in all worlds together; one of several horizons counts once."""
        return len(self.worlds) * len(self.tasks) * len(self.policies) * self.seeds

    @property
    def text(self) -> str:
        """The whole configuration as YAML: what `load_config` reads back."""
        return yaml.safe_dump(to_dict(self), sort_keys=False, width=110)

    @property
    def sha256(self) -> str:
        """SHA-256 of `text`, 64 hex digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def blocks(self, world: str) -> Iterator[Block]:
        """The blocks of a world. A policy node is one program with one memory, so its episodes run one by one."""
        together = tuple(name for name in self.policies if not is_ros_policy(name))
        chunks = [together[at : at + self.block] for at in range(0, len(together), self.block)]
        for task in self.tasks:
            for chunk in chunks:
                size = self.block // len(chunk)
                for at in range(0, self.seeds, size):
                    yield Block(world, task, chunk, self.all_seeds[at : at + size])
            for name in filter(is_ros_policy, self.policies):
                for seed in self.all_seeds:
                    yield Block(world, task, (name,), (seed,))


def load_config(name: str) -> EvaluationConfig:
    """Read a YAML file, or one of configs/evaluation by its name; ConfigError in one line for any mistake."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"config: got {name!r}, wanted a YAML file or one of {known}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())[:120]}); mend it") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: got {type(values).__name__}, wanted fields such as `suite: manipulation`")
    return from_dict(EvaluationConfig, {"name": path.stem} | values)
