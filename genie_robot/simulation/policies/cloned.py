"""Policies cloned from demonstrations: one small network for all tasks, image and task -> robot action.

A folder holds several: `clones.json` and `model.safetensors` (fp16). Made by
`python -m genie_robot.evaluation.cloning.train_policies`.
Shapes: B batch, Y X C pixels, O outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genie_robot.errors import ModelFolderError
from genie_robot.simulation.blocks import in_blocks
from genie_robot.simulation.policies.clone_net import GRIPS, MOVES, CloneNet, to_input
from genie_robot.simulation.policies.protocol import episode_stream

FORMAT = 1
CONFIG_FILE, WEIGHTS_FILE = "clones.json", "model.safetensors"
MOVE_NOISE = 0.15
"""Of a full step."""


class Actor(nn.Module):
    """Makes a robot action of a network's outputs; the simplest one reads it off: moves, and the likeliest grip."""

    kind = "actions"
    settings: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.settings = {}

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """What is added to an episode's outputs (O,) at a step: the likeliest grip becomes one drawn by its probability.

        (Gumbel-max.) Moves get a normal error.
        """
        return np.concatenate([rng.normal(0.0, MOVE_NOISE, len(MOVES)), rng.gumbel(size=len(GRIPS))])

    def actions(self, outputs_BO: np.ndarray, images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7) within [-1, 1]."""
        actions_B7 = np.zeros((len(outputs_BO), 7), dtype=np.float32)
        actions_B7[:, MOVES] = outputs_BO[:, : len(MOVES)].clip(-1.0, 1.0)
        actions_B7[:, 6] = GRIPS[outputs_BO[:, len(MOVES) :].argmax(axis=1)]
        return actions_B7


ACTORS: dict[str, type[Actor]] = {Actor.kind: Actor}
"""Actors by kind; `latent_clone` adds its own."""


@dataclass
class Clone:
    """A trained network and what makes actions of its outputs."""

    net: CloneNet
    actor: Actor

    @torch.no_grad()
    def act(self, images_BYXC: np.ndarray, task_B: np.ndarray, noise_BO: np.ndarray) -> np.ndarray:
        """Robot actions, float32 (B, 7), of images uint8 (B, 64, 64, 3), tasks int (B,) and what the actor drew (B, O)."""
        outputs_BO = self.net(to_input(images_BYXC), torch.from_numpy(task_B)).numpy()
        return self.actor.actions(outputs_BO + noise_BO.astype(np.float32), images_BYXC)


class ClonedPolicy:
    """An episode of a clone, which remembers nothing and draws its actions.

    If it took the likeliest ones, it could come to rest where nothing happens: the same picture, the same answer, for ever.
    A simulator without noise keeps it there, and the smallest error of an imagined picture, or of a camera, sets it free:
    in imagination it would succeed more often, for a reason that is no merit.
    """

    def __init__(self, name: str, task: int, clone: Clone) -> None:
        self.name, self.task, self.clone = name, task, clone
        self.reset(0)

    @property
    def group(self) -> Hashable:
        """Episodes of one network act in one go."""
        return id(self.clone)

    @staticmethod
    def act_group(policies: Sequence[ClonedPolicy], images_BYXC: np.ndarray) -> np.ndarray:
        """Robot actions (B, 7) of B episodes of one clone, each at its own task."""
        task_B = np.array([policy.task for policy in policies])
        clone = policies[0].clone
        noise_BO = np.stack([clone.actor.draw(policy._rng) for policy in policies])
        return in_blocks(clone.act, images_BYXC, task_B, noise_BO)

    def reset(self, seed: int) -> None:
        """Start the episode `seed`: the same seed gives the same random stream in every world."""
        self._rng = episode_stream(self.name, str(self.task), seed)

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action, float32 (7,), for an image uint8 (64, 64, 3)."""
        return self.act_group([self], np.asarray(image)[None])[0]


@dataclass(frozen=True)
class Clones:
    """What a folder holds: clones by name, the suite and tasks that they were trained for, the weights' hash."""

    clones: Mapping[str, Clone]
    suite: str
    tasks: tuple[str, ...]
    hash: str = ""


def save_clones(folder: Path | str, clones: Clones, facts: Mapping[str, Any]) -> str:
    """Write the folder, with `facts` about how it was made; returns the SHA-256 of the weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, clone in clones.clones.items():
        for part in ("net", "actor"):
            state = getattr(clone, part).state_dict()
            tensors |= {f"{name}.{part}.{key}": value.half().contiguous() for key, value in state.items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    digest = _sha256(folder / WEIGHTS_FILE)
    record = {
        "format": FORMAT,
        "suite": clones.suite,
        "tasks": list(clones.tasks),
        "weights_sha256": digest,
        "clones": {
            name: {
                "net": clone.net.settings,
                "actor": clone.actor.kind,
                "settings": clone.actor.settings,
            }
            for name, clone in clones.clones.items()
        },
        "made": dict(facts),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return digest


def load_clones(folder: Path | str) -> Clones:
    """Open a folder of cloned policies. ModelFolderError for a missing, altered or foreign file."""
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelFolderError(
                f"no {name} in {folder}; wanted a folder of cloned policies; make one with "
                "`python -m genie_robot.evaluation.cloning.train_policies`"
            )
    try:
        record = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        wanted, members = record["weights_sha256"], record["clones"]
        suite, tasks, known = record["suite"], tuple(record["tasks"]), record["format"] == FORMAT
        nets = {name: CloneNet(**member["net"]) for name, member in members.items()}
        actors = {name: ACTORS[member["actor"]](**member["settings"]) for name, member in members.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(
            f"{folder / CONFIG_FILE} does not describe cloned policies ({error!r}); restore it or train them again"
        ) from error
    found = _sha256(folder / WEIGHTS_FILE)
    if found != wanted or not known:
        raise ModelFolderError(
            f"{folder / WEIGHTS_FILE} has SHA-256 {found[:12]}, wanted {str(wanted)[:12]} of format {FORMAT}; "
            "the file was altered or cut; restore the folder or train the policies again"
        )
    tensors = {key: value.float() for key, value in load_file(folder / WEIGHTS_FILE).items()}
    clones = {}
    for name, net in nets.items():
        for part, module in (("net", net), ("actor", actors[name])):
            prefix = f"{name}.{part}."
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            _load(module, state, folder)
        clones[name] = Clone(net.eval().requires_grad_(False), actors[name].eval().requires_grad_(False))
    return Clones(clones, suite, tasks, found)


def _load(module: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()[:120]
        raise ModelFolderError(
            f"{folder / WEIGHTS_FILE} does not fit {CONFIG_FILE} beside it ({line}); use the original pair"
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
