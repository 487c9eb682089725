"""The policies of each suite by name, and how a name becomes a policy."""

from __future__ import annotations

from dataclasses import dataclass, field

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import Expert
from genie_robot.simulation.policies.cloned import ClonedPolicy, Clones
from genie_robot.simulation.policies.faults import FAULTS, Faulty
from genie_robot.simulation.policies.pixel import Controller, NoOp, PixelPolicy, RandomKeys
from genie_robot.simulation.policies.protocol import Eyes, Policy
from genie_robot.simulation.policies.scripted import BlindScript, GripMemory, RandomMotion, SteadyScript
from genie_robot.simulation.suites import get_suite

POLICY_NAMES: tuple[str, ...] = (
    "expert-1.0",
    "expert-0.8",
    "expert-0.6",
    "expert-0.4",
    "expert-0.2",
    "random-keys",
    "no-op",
)
"""Policies of the suite tabletop, from the best to the worst by intent; what they reach is measured."""

MANIPULATION_POLICY_NAMES: tuple[str, ...] = (
    "scripted-1.0",
    "scripted-0.8",
    "scripted-0.6",
    "scripted-0.4",
    "open-loop",
    "offset-0.03",
    "offset-0.04",
    "late-1",
    "weak-0.3",
    "shaky-0.3",
    "freezing-0.03",
    "confused-0.5",
    "dropping-0.3",
    "clone-5-a",
    "clone-5-b",
    "clone-20-a",
    "clone-20-b",
    "clone-100-a",
    "clone-100-b",
    "clone-latent-a",
    "random",
    "no-op",
)
"""Policies of the suite manipulation. `clone-N-x` are of the folder of cloned policies."""

_NAMES = {"tabletop": POLICY_NAMES, "manipulation": MANIPULATION_POLICY_NAMES}
_SEEN_KINDS = ("expert", "scripted", "confused")
_SEEN = ("random-keys", "random")
_PLAIN: dict[str, dict[str, type]] = {
    "tabletop": {"random-keys": RandomKeys, "no-op": NoOp},
    "manipulation": {"random": RandomMotion, "no-op": NoOp},
}


@dataclass(frozen=True)
class Resources:
    """What policies are made of; a policy that lacks what it wants is refused.

    eyes: state probe of the suite's images. clones: what `load_clones` found in a folder.
    """

    eyes: Eyes | None = None
    clones: Clones = field(default_factory=lambda: Clones({}, "", ()))

    def need_eyes(self, name: str) -> Eyes:
        """The eyes, or ConfigError in the name of the policy that wants them."""
        if self.eyes is None:
            raise ConfigError(f"policy {name} sees by a state probe, got none; give a probe folder")
        return self.eyes


def policy_names(suite: str) -> tuple[str, ...]:
    """The policies that an evaluation of a suite runs by default; ConfigError for an unknown suite."""
    return _NAMES[get_suite(suite).name]


def was_seen_in_training(name: str) -> bool:
    """Whether world models are trained on episodes of this kind of behaviour: scripts of graded skill, also ones that take the
    distractor for the object (`confused`), and random play.

    Policies with another fault, cloned ones and a user's own are new to a world model: none of their rollouts is in the data,
    though scripted failures there may look alike.
    """
    return name in _SEEN or name.partition("-")[0] in _SEEN_KINDS


def make_policy(name: str, suite: str, task: str, resources: Resources) -> Policy:
    """Make the policy `name` for a task of a suite; ConfigError for another name, or when what it needs is missing."""
    get_suite(suite).check_task(task)
    if name.startswith("clone-") or name in resources.clones.clones:
        return _cloned(name, suite, task, resources.clones)
    controller = _controller(name, suite, task)
    return PixelPolicy(name, task, controller, resources.need_eyes(name))


def _cloned(name: str, suite: str, task: str, clones: Clones) -> ClonedPolicy:
    if name not in clones.clones or clones.suite != suite:
        known = ", ".join(clones.clones) or "none"
        raise ConfigError(
            f"policy is {name!r} for the suite {suite}, the folder of cloned policies has {known} for "
            f"{clones.suite or 'no suite'}; choose one of these or give another folder"
        )
    if task not in clones.tasks:
        raise ConfigError(
            f"policy {name} was cloned for the tasks {', '.join(clones.tasks)}, got {task}; choose one of these or "
            "give another folder"
        )
    return ClonedPolicy(name, clones.tasks.index(task), clones.clones[name])


def _controller(name: str, suite: str, task: str) -> Controller:
    if name in _PLAIN[suite]:
        return _PLAIN[suite][name]()
    kind, _, text = name.partition("-")
    try:
        size = float(text)
    except ValueError:
        size = float("nan")
    if suite == "tabletop":
        if kind == "expert" and 0.0 <= size <= 1.0:
            return Expert(task, skill=size)
        raise ConfigError(
            f"policy is {name!r}, wanted expert-<skill 0..1>, random-keys or no-op; such as expert-0.8"
        )
    if name == "open-loop":
        return GripMemory(BlindScript(task))
    if kind == "scripted" and 0.0 <= size <= 1.0:
        return GripMemory(SteadyScript(task, size))
    if kind in FAULTS and FAULTS[kind].least <= size <= FAULTS[kind].most:
        return GripMemory(Faulty(SteadyScript(task), FAULTS[kind].make(size)))
    faults = ", ".join(f"{kind}-<{fault.least:g}..{fault.most:g}>" for kind, fault in FAULTS.items())
    raise ConfigError(
        f"policy is {name!r}, wanted scripted-<skill 0..1>, {faults}, open-loop, clone-<demonstrations>-<a or b>, "
        "random or no-op; such as scripted-0.8"
    )
