"""What an evaluation is made of: world model, action interface, judges, policies; opened once from a config's folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from genie_robot.errors import ConfigError, PolicyError
from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.evaluation.judges import StateJudge, load_judge
from genie_robot.evaluation.judges.floors import Floors, load_floors
from genie_robot.evaluation.policy_guard import Unmade
from genie_robot.evaluation.probe import load_probe
from genie_robot.evaluation.scoring import Judges
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.interfaces import ActionInterface, load_interface
from genie_robot.simulation.policies import Policy, Resources, load_clones, make_policy
from genie_robot.simulation.ros_policy import PolicyLink, RosPolicy, connect, is_ros_policy
from genie_robot.simulation.user_policies import PolicyFactory, is_user_policy, open_user_policy

MUJOCO_DT_S = 0.2


@dataclass
class Parts:
    """Everything that acts, moves or judges in an evaluation of `suite`.

    model, interface: None where only MuJoCo is run. floors: those in the second judge's folder. hashes: of what decides
    the outcomes, by name.
    """

    suite: str
    judges: Judges
    resources: Resources
    model: WorldModel | None = None
    interface: ActionInterface | None = None
    hashes: dict[str, str] = field(default_factory=dict)
    floors: Floors | None = None
    _user: dict[str, PolicyFactory] = field(default_factory=dict)
    _links: dict[str, PolicyLink] = field(default_factory=dict)

    @property
    def dt_s(self) -> float:
        """Time of a step [s]: that of the simulated robot, which is also the model's."""
        return MUJOCO_DT_S

    def check_policies(self, names: Iterable[str], task: str) -> None:
        """Make each policy once, so that a wrong name or a missing file is said before the first episode."""
        for name in names:
            if is_ros_policy(name):
                continue
            try:
                self._make(name, task)
            except (ConfigError, ModuleNotFoundError):
                raise
            except (Exception, SystemExit) as error:  # whatever a user's constructor does wrong
                raise PolicyError(
                    f"policy {name} could not be made for the task {task} ({type(error).__name__}: {error}); mend it"
                ) from error

    def connect(self, names: Iterable[str], timeout_s: float, links: contextlib.ExitStack) -> None:
        """Find the policy nodes (`ros:`) among `names`; they are let go when `links` is closed."""
        for name in filter(is_ros_policy, sorted(names)):
            self._links[name] = links.enter_context(contextlib.closing(connect(name, timeout_s)))

    def make_policy(self, name: str, task: str) -> Policy | Unmade:
        """One episode's policy; one that runs in this process is made when its episode begins, under its guard."""
        if name in self._links:
            return RosPolicy(name, self.suite, task, self._links[name])
        return Unmade(lambda: self._make(name, task))

    def _make(self, name: str, task: str) -> Policy:
        if not is_user_policy(name):
            return make_policy(name, self.suite, task, self.resources)
        if name not in self._user:
            self._user[name] = open_user_policy(name, self.suite)
        return self._user[name](task)


def open_parts(config: EvaluationConfig) -> Parts:
    """Open everything that `config` names; ConfigError or ModelFolderError, in one line, for what is missing."""
    import genie_robot

    probes = load_probe(config.probe)
    second = load_judge(config.second_judge, config.suite) if config.second_judge else None
    judges = Judges(StateJudge(probes.judge, config.suite), second)
    hashes = {
        "probe": probes.hash,
        "judge": judges.primary.hash,
        "second_judge": second.hash if second else "",
    }
    floors = load_floors(config.second_judge) if config.second_judge else None
    parts = Parts(config.suite, judges, Resources(eyes=probes.eyes), hashes=hashes, floors=floors)
    if config.policy_weights:
        clones = load_clones(config.policy_weights)
        parts.resources = Resources(eyes=probes.eyes, clones=clones)
        hashes["policies"] = clones.hash
    if set(config.worlds) - {"mujoco"}:
        parts.model = genie_robot.load(config.model, device=config.device, dtype=config.dtype)
        parts.interface = load_interface(config.model, config.interface, parts.model)
        hashes |= {"model": parts.model.hash, "interface": parts.interface.hash}
    parts.check_policies(config.policies, config.tasks[0])
    return parts
