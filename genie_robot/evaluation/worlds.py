"""The worlds of an evaluation: B episodes side by side, robot actions in, images out.

A block of episodes is S seeds x P policies, the policies of a seed next to each other. All episodes of a seed begin
with the same state and the same image in every world; the prompt is encoded once a seed and forked to its policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from genie_robot.data.commands import poses_of
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.interfaces import ActionInterface, still_open
from genie_robot.simulation.suites import Suite
from genie_robot.simulation.world_session import WorldSession

OPENING = "gripper_opening"


@dataclass(frozen=True)
class Starts:
    """The first frames and states of S seeds. images_SYXC uint8, states_SK float32 (suite.state_names)."""

    seeds: tuple[int, ...]
    images_SYXC: np.ndarray
    states_SK: np.ndarray


@dataclass(frozen=True)
class Rollouts:
    """B episodes of H steps.

    frames_BTYXC: uint8, T = H + 1, the prompt frame first. actions_BSA: what the policies asked for, float32 (B, H, 7).
    states_BTK: true states (B, T, K) where the world knows them. length_B: good actions, H where all went well; after
    them an episode stands still, and only its part until then is kept. status_B, reason_B: as in `Row`.
    """

    frames_BTYXC: np.ndarray
    actions_BSA: np.ndarray
    states_BTK: np.ndarray | None
    length_B: tuple[int, ...]
    status_B: tuple[str, ...]
    reason_B: tuple[str, ...]


class World(Protocol):
    """B episodes side by side."""

    @property
    def states_BK(self) -> np.ndarray | None:
        """True states as they are now; None where nobody knows them."""
        ...

    def reset(self) -> np.ndarray:
        """Begin; returns the first images, uint8 (B, Y, X, 3)."""
        ...

    def step(self, actions_BA: np.ndarray) -> np.ndarray:
        """Apply robot actions (B, 7); returns the next images."""
        ...


class Actors(Protocol):
    """What acts in a world: policies, or a recording."""

    status_B: list[str]
    reason_B: list[str]
    length_B: list[int]

    def reset(self, seeds_B: Sequence[int]) -> None:
        """Start the episodes."""
        ...

    def act(self, images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions (B, 7) for images (B, Y, X, 3)."""
        ...


class MujocoWorld:
    """MuJoCo; with an interface, each action goes through it there and back first."""

    def __init__(
        self, suite: Suite, task: str, seeds_B: Sequence[int], interface: ActionInterface | None = None
    ) -> None:
        self._envs = [suite.make_env(task) for _ in seeds_B]
        self._seeds_B, self._interface = seeds_B, interface
        self._opening, self._state_names = suite.state_names.index(OPENING), suite.state_names

    @property
    def states_BK(self) -> np.ndarray:
        """True states (B, K)."""
        return np.stack(self._states)

    def reset(self) -> np.ndarray:
        """Begin; the first images."""
        first = [env.reset(seed=seed) for env, seed in zip(self._envs, self._seeds_B, strict=True)]
        self._images = np.stack([image for image, _ in first])
        self._states = [info["state"] for _, info in first]
        if self._interface is not None:
            self._interface.reset(len(first), poses_of(self.states_BK, self._state_names))
        return self._images

    def step(self, actions_BA: np.ndarray) -> np.ndarray:
        """One step of all episodes."""
        if self._interface is not None:
            is_open_B = self.states_BK[:, self._opening] > 0.5
            actions_BA = self._interface.executed(actions_BA, self._images, is_open_B)
        for index, (env, action) in enumerate(zip(self._envs, actions_BA, strict=True)):
            self._images[index], *_, info = env.step(action)
            self._states[index] = info["state"]
        return self._images


class TokenizerWorld:
    """MuJoCo as the world model's tokenizer shows it: the policies see no other pictures, but what they do is simulated.

    The first images are the true ones, as in imagination.
    """

    def __init__(self, suite: Suite, task: str, seeds_B: Sequence[int], model: WorldModel) -> None:
        self._mujoco, self._model = MujocoWorld(suite, task, seeds_B), model

    @property
    def states_BK(self) -> np.ndarray:
        """True states (B, K)."""
        return self._mujoco.states_BK

    def reset(self) -> np.ndarray:
        """Begin; the first images."""
        self._recent = [self._mujoco.reset().copy()]
        return self._recent[0]

    def step(self, actions_BA: np.ndarray) -> np.ndarray:
        """One step of all episodes; images made from the tokens of the last frames, as many as the model looks at."""
        recent = [*self._recent, self._mujoco.step(actions_BA).copy()]
        self._recent = recent[-self._model.config.video.num_frames :]
        return self._model.decode(self._model.encode(np.stack(self._recent, axis=1)))[:, -1]


class ImaginedWorld:
    """The world model, driven through an interface. `copies` episodes of each seed, next to each other.

    The first images are the true ones, as in MuJoCo. All copies of a seed draw the same sampling noise.
    """

    states_BK = None

    def __init__(
        self,
        suite: Suite,
        model: WorldModel,
        interface: ActionInterface,
        starts: Starts,
        copies: int,
        *,
        maskgit_steps: int,
        temperature: float,
    ) -> None:
        self._interface, self._starts, self._copies = interface, starts, copies
        self._prompted = WorldSession(model, maskgit_steps=maskgit_steps, temperature=temperature)
        self._opening = suite.state_names.index(OPENING)
        self._poses_BP = poses_of(starts.states_SK, suite.state_names).repeat(copies, axis=0)

    def reset(self) -> np.ndarray:
        """Begin; the prompts are encoded once and forked."""
        starts, copies = self._starts, self._copies
        self._prompted.reset(starts.images_SYXC[:, None], seed=np.asarray(starts.seeds))
        self._session = self._prompted.fork(copies)
        self._images = starts.images_SYXC.repeat(copies, axis=0)
        self._open_B = (starts.states_SK[:, self._opening] > 0.5).repeat(copies)
        self._interface.reset(len(self._images), self._poses_BP)
        return self._images

    def step(self, actions_BA: np.ndarray) -> np.ndarray:
        """Imagine the next frame of all episodes."""
        drive = self._interface.encode(actions_BA, self._images, self._open_B)
        self._open_B = still_open(self._open_B, actions_BA)
        self._images = self._session.step(drive)
        return self._images


class Recorded:
    """Actions recorded in MuJoCo, played back whatever is seen. actions: B arrays (S_b, 7), S_b the good ones of each."""

    def __init__(
        self, actions: Sequence[np.ndarray], statuses: Sequence[str], reasons: Sequence[str]
    ) -> None:
        self._actions = actions
        self.status_B, self.reason_B = list(statuses), list(reasons)
        self.length_B = [len(each) for each in actions]

    def reset(self, seeds_B: Sequence[int]) -> None:
        """Go back to the first action."""
        self._step = 0

    def act(self, images_BYXC: np.ndarray) -> np.ndarray:
        """Return the recorded actions (B, 7) of this step; zeros where a recording has ended."""
        rows = [each[self._step] if self._step < len(each) else np.zeros(7) for each in self._actions]
        self._step += 1
        return np.stack(rows).astype(np.float32)


def starts_of(suite: Suite, task: str, seeds: Sequence[int]) -> Starts:
    """First frames and states of `seeds`: what MuJoCo shows after a reset."""
    env = suite.make_env(task)
    first = [env.reset(seed=seed) for seed in seeds]
    return Starts(
        tuple(seeds), np.stack([image for image, _ in first]), np.stack([info["state"] for _, info in first])
    )


def roll_out(world: World, actors: Actors, seeds_B: Sequence[int], horizon: int) -> Rollouts:
    """Run B episodes of `horizon` steps; the batch stays whole whatever single policies do."""
    actors.reset(seeds_B)
    frames, states, actions = [world.reset().copy()], [world.states_BK], []
    for _ in range(horizon):
        actions.append(actors.act(frames[-1]))
        frames.append(world.step(actions[-1]).copy())
        states.append(world.states_BK)
    return Rollouts(
        np.stack(frames, axis=1),
        np.stack(actions, axis=1),
        None if states[0] is None else np.stack([_known(state) for state in states], axis=1),
        tuple(actors.length_B),
        tuple(actors.status_B),
        tuple(actors.reason_B),
    )


def _known(state: Any) -> np.ndarray:
    assert state is not None
    return state
