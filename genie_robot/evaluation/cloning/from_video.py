"""Behaviour cloning from video: the agent experiment of Genie (section 3.3) on the manipulation tasks.

An expert's video without actions is labelled by the latent action model, a policy pi(z | x) is cloned from these codes,
and n labelled steps say which robot action a code means: a dictionary, or D(z, x). What that reaches in MuJoCo stands
beside cloning with all true actions (oracle), cloning from the labels of an inverse dynamics model that learnt from the
same n steps, and random actions. Finished cells are kept in `cells.jsonl` and not run again.
Shapes: N steps of video, L levels of codes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from genie_robot.errors import ConfigError
from genie_robot.evaluation.cloning.cells import Cell, append_cell, read_cells
from genie_robot.evaluation.cloning.demonstrations import Demonstrations, load_demonstrations
from genie_robot.evaluation.cloning.fitting import action_loss, train_net
from genie_robot.evaluation.cloning.rollouts import run_episodes
from genie_robot.evaluation.cloning.video_labels import (
    code_loss,
    code_space,
    image_features,
    label_video,
    labelled,
)
from genie_robot.evaluation.settings import SETTINGS_FILE, read_settings, write_settings
from genie_robot.simulation.interfaces import CodeDictionary, StateDecoder
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS, check_task
from genie_robot.simulation.policies import LatentActor, PixelPolicy, Policy
from genie_robot.simulation.policies.clone_net import NUM_OUTPUTS, CloneNet, to_input
from genie_robot.simulation.policies.cloned import Actor, Clone, ClonedPolicy
from genie_robot.simulation.policies.scripted import RandomMotion
from genie_robot.simulation.suites import FIRST_SEED, get_suite

SUITE = "manipulation"
WITH_LABELS = ("latent dictionary", "latent decoder", "inverse dynamics")
WITHOUT_LABELS = ("oracle", "random")
CELLS_FILE = "cells.jsonl"
INVERSE_PARTS = (16, 8, 4, 2)
"""An inverse dynamics model trains for a policy's steps, divided by one of these."""


class _Shut:
    """Eyes that see nothing, for those who do not look."""

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        zeros_BS = np.zeros((len(images), 14), np.float32)
        return zeros_BS, zeros_BS


@dataclass(frozen=True)
class CloningConfig:
    """What is run. video, labelled_from: demonstrations a task that are the video, and others that labels are drawn from.

    steps: optimiser steps of a policy, as many as the clones of 100 demonstrations have; with a third of them the oracle itself
    has hardly learnt its tasks. episodes: of each task for each seed; horizon: their steps.
    """

    tasks: tuple[str, ...] = TASKS
    labels: tuple[int, ...] = (50, 200, 1000)
    seeds: int = 3
    video: int = 100
    labelled_from: int = 20
    steps: int = 6000
    episodes: int = 20
    horizon: int = 64

    def __post_init__(self) -> None:
        for task in self.tasks:
            check_task(task)
        counts = (self.seeds, self.video, self.labelled_from, self.steps, self.episodes, self.horizon)
        if min(*counts, *self.labels, len(self.tasks)) < 1 or not self.labels:
            raise ConfigError(
                f"got {asdict(self)}; wanted at least one task, one number of labels, and numbers from 1"
            )

    @property
    def cells(self) -> list[tuple[str, int, int]]:
        """(method, labels, seed) of all cells, those of a seed together; labels are 0 where the method needs none."""
        return [
            (method, labels, seed)
            for seed in range(self.seeds)
            for method in (*WITHOUT_LABELS, *WITH_LABELS)
            for labels in (self.labels if method in WITH_LABELS else (0,))
        ]


class VideoCloning:
    """Runs a CloningConfig in a folder."""

    def __init__(self, config: CloningConfig, model: Any, out_dir: Path | str) -> None:
        """Open, or go on in, `out_dir`; ConfigError when it holds cells of other settings or of another model."""
        self.config, self.model, self.out_dir = config, model, Path(out_dir)
        self.space = code_space(model)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._check_settings()
        self._video: Demonstrations | None = None

    def run(self, progress: Callable[[str], None] = lambda what: None) -> list[Cell]:
        """Train and evaluate what is not done; `progress(what)` after each cell. Returns all cells."""
        done = {cell.key for cell in self.cells()}
        if not done.issuperset(self.config.cells):
            self._draw(
                len(self._data()[1]), max(self.config.labels), 0
            )  # too many are said now, not after hours
        for method, labels, seed in self.config.cells:
            if (method, labels, seed) not in done:
                append_cell(self.out_dir / CELLS_FILE, self._evaluate(method, labels, seed))
            progress(f"{method} {labels or ''} seed {seed}")
        return self.cells()

    def cells(self) -> list[Cell]:
        """Finished cells of this config."""
        wanted = set(self.config.cells)
        return [cell for cell in read_cells(self.out_dir / CELLS_FILE) if cell.key in wanted]

    def _evaluate(self, method: str, labels: int, seed: int) -> Cell:
        make = self._policy(method, labels, seed)
        seeds = range(FIRST_SEED, FIRST_SEED + self.config.episodes)
        outcomes = {
            task: tuple(map(bool, run_episodes(get_suite(SUITE), task, make, seeds, self.config.horizon)))
            for task in self.config.tasks
        }
        return Cell(method, labels, seed, outcomes)

    def _policy(self, method: str, labels: int, seed: int) -> Callable[[str], Policy]:
        """Task -> policy of a cell."""
        if method == "random":
            name = f"random-{seed}"
            return lambda task: PixelPolicy(name, task, RandomMotion(), _Shut())
        make = {"oracle": self._oracle, "inverse dynamics": self._inverse_dynamics}.get(method)
        clone = make(labels, seed) if make else self._latent(method, labels, seed)
        return lambda task: ClonedPolicy(method, TASKS.index(task), clone)

    def _oracle(self, labels: int, seed: int) -> Clone:
        return self._clone_actions(f"oracle-{seed}", self._data()[0].done_N7, seed)

    def _inverse_dynamics(self, labels: int, seed: int) -> Clone:
        video, rest = self._data()
        few = rest.rows(self._draw(len(rest), labels, seed))
        name = f"inverse-{labels}-{seed}"
        steps = 0 if self._net_path(name).is_file() else self._inverse_steps(few, seed)
        settings = {"outputs": NUM_OUTPUTS, "steps": steps, "seed": seed}
        net = self._kept(name, few, action_loss(few.done_N7), pairs=True, **settings)
        return self._clone_actions(f"from-inverse-{labels}-{seed}", label_by(net, video), seed)

    def _inverse_steps(self, few: Demonstrations, seed: int) -> int:
        """How long the inverse dynamics model trains: what does best on every fifth label when trained on the others."""
        held = np.arange(len(few)) % 5 == 4
        choices = sorted({max(1, self.config.steps // part) for part in INVERSE_PARTS})
        if not held.any():
            return choices[0]
        others, fifth = (few.rows(np.flatnonzero(chosen)) for chosen in (~held, held))
        losses = []
        for steps in choices:
            net = train_net(
                others,
                action_loss(others.done_N7),
                outputs=NUM_OUTPUTS,
                steps=steps,
                seed=seed,
                pairs=True,
                progress=False,
            )
            losses.append(float(np.abs(label_by(net, fifth) - fifth.done_N7).mean()))
        return choices[int(np.argmin(losses))]

    def _clone_actions(self, name: str, actions_N7: np.ndarray, seed: int) -> Clone:
        settings = {"outputs": NUM_OUTPUTS, "steps": self.config.steps, "seed": seed}
        return Clone(self._kept(name, self._data()[0], action_loss(actions_N7), **settings), Actor())

    def _latent(self, method: str, labels: int, seed: int) -> Clone:
        video, rest = self._data()
        space = self.space
        net = self._kept(
            f"latent-{seed}",
            video,
            code_loss(self._codes("video", video), space.num_codes),
            outputs=space.width,
            steps=self.config.steps,
            seed=seed,
        )
        few = labelled(rest, self._codes("rest", rest), self._draw(len(rest), labels, seed))
        if method == "latent dictionary":
            return Clone(net, LatentActor.of(CodeDictionary.fit(space, few)))
        return Clone(net, LatentActor.of(StateDecoder.fit(space, few, image_features(video), seed)))

    def _draw(self, count: int, labels: int, seed: int) -> np.ndarray:
        """Which steps are labelled: fewer labels are a part of more."""
        if count < labels:
            raise ConfigError(
                f"{labels} labels asked of {count} labelled steps; ask for fewer or demonstrate more"
            )
        return np.random.default_rng([seed, 6]).permutation(count)[:labels]

    def _data(self) -> tuple[Demonstrations, Demonstrations]:
        """The video, and the demonstrations that labels are drawn from."""
        if self._video is None:
            count = self.config.video + self.config.labelled_from
            self._video = load_demonstrations(
                self.out_dir / "demonstrations", self.config.tasks, count, progress=False
            )
        first, every = self.config.video, self._video
        return every.between(0, first), every.between(first, first + self.config.labelled_from)

    def _codes(self, name: str, demonstrations: Demonstrations) -> np.ndarray:
        path = self.out_dir / f"codes-{name}.npy"
        if not path.is_file():
            part = path.with_suffix(".part.npy")
            np.save(part, label_video(self.model, demonstrations))
            part.replace(path)
        return np.load(path)

    def _net_path(self, name: str) -> Path:
        return self.out_dir / "nets" / f"{name}.safetensors"

    def _kept(self, name: str, data: Demonstrations, loss: Any, **settings: Any) -> CloneNet:
        """Train a network, or take the one that was finished before an interruption."""
        path = self._net_path(name)
        if not path.is_file():
            net = train_net(data, loss, label=name, progress=False, **settings)
            path.parent.mkdir(exist_ok=True)
            part = path.with_suffix(".part")
            save_file(net.state_dict(), part)
            part.replace(path)
        net = CloneNet(len(TASKS), settings["outputs"], 6 if settings.get("pairs") else 3)
        net.load_state_dict(load_file(path))
        return net.eval().requires_grad_(False)

    def _check_settings(self) -> None:
        settings = json.loads(json.dumps(asdict(self.config))) | {"model": self.model.hash}
        path, before = self.out_dir / SETTINGS_FILE, {}
        if path.is_file():
            before = read_settings(path)
            other = [key for key in settings if key != "seeds" and before.get(key) != settings[key]]
            if other:
                raise ConfigError(
                    f"{self.out_dir} holds results with another {', '.join(other)}; wanted the same to go on; "
                    "give another --out folder, or delete this one"
                )
        write_settings(path, settings, before)


@torch.no_grad()
def label_by(net: CloneNet, video: Demonstrations, batch: int = 256) -> np.ndarray:
    """Robot actions, float32 (N, 7), that an inverse dynamics model reads from pairs of frames."""
    parts = []
    for start in range(0, len(video), batch):
        rows = slice(start, start + batch)
        pairs = np.concatenate([video.images_NYXC[rows], video.next_NYXC[rows]], axis=-1)
        outputs_BO = net(to_input(pairs), torch.from_numpy(video.task_N[rows])).numpy()
        parts.append(Actor().actions(outputs_BO, pairs))
    return np.concatenate(parts)
