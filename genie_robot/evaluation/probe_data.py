"""Frames with true states to train probes and judges on: as they are, as a world model shows them, as it imagines them.

Shape legend: F frames of all episodes one after the other, E episodes, S numbers of the state, A numbers of an action.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from genie_robot.data.commands import COMMAND_SIZE, commands, poses_of
from genie_robot.errors import ConfigError, DataError
from genie_robot.simulation.suites import SUITES, Suite, suite_of_size

PROMPT, IMAGINED = 3, 5
"""Frames of a clip that are given, and that the world model imagines after them."""
SAMPLING: Mapping[str, Any] = {"maskgit_steps": 4, "temperature": 0.0}
"""How they are imagined: as by configs/evaluation, where what is trained on them is used."""
VIEW_M: Mapping[str, tuple[float, float]] = {"x": (0.15, 0.65), "y": (-0.30, 0.30), "z": (-0.05, 0.30)}
"""The part of the table that the camera sees. A thing that fell off is metres below, and no picture says where."""


@dataclass(frozen=True)
class LabelledFrames:
    """Episodes one after the other: frames uint8 (F, Y, X, 3), true states (F, S) in view, robot actions (F, A).

    lengths_E: frames of each episode. tasks_E: its task, "" where the dataset does not say.
    """

    suite: Suite
    frames_FYXC: np.ndarray
    states_FS: np.ndarray
    actions_FA: np.ndarray
    lengths_E: tuple[int, ...]
    tasks_E: tuple[str, ...]

    def robot_actions(self, width: int) -> np.ndarray:
        """What leads a world model that takes `width` numbers of a robot action: float32 (F, width).

        7: the actions. 12: with the poses that they command (`data.commands`).
        """
        if width != COMMAND_SIZE:
            return self.actions_FA
        rows = [
            commands(poses_of(self.states_FS[at], self.suite.state_names), self.actions_FA[at : at + size])
            for at, size in zip(self.starts_E, self.lengths_E, strict=True)
        ]
        return np.concatenate(rows)

    @property
    def starts_E(self) -> np.ndarray:
        """Index of each episode's first frame."""
        return np.cumsum((0, *self.lengths_E[:-1]))


def load_frames(
    data: Sequence[Path | str], split: str, limit: int | None = None, skip: int = 0
) -> LabelledFrames:
    """Read a split of one or more RLDS datasets: of each, `limit` episodes (None: all) after the first `skip`.

    DataError where there are none, or no true states. Positions are clipped to VIEW_M.
    """
    from genie_robot.data.open import open_dataset

    frames, states, actions, tasks = [], [], [], []
    for place in data:
        source = open_dataset(place)
        task = _task_of(Path(source.folder))
        episodes = source.episodes(split=split, state=True, actions=True)
        for episode in itertools.islice(episodes, skip, None if limit is None else skip + limit):
            if episode.state_TS is None or episode.actions_TA is None:
                raise DataError(
                    f"{place} has no states and actions; wanted one from `genie-robot data generate`"
                )
            frames.append(episode.frames_TYXC)
            states.append(episode.state_TS)
            actions.append(episode.actions_TA)
            tasks.append(task)
    if not frames:
        raise DataError(
            f"split {split!r} of {', '.join(map(str, data))} has no episodes; generate the data again"
        )
    suite = _suite_of(states, data)
    return LabelledFrames(
        suite,
        np.concatenate(frames),
        in_view(np.concatenate(states).astype(np.float32), suite.state_names),
        np.concatenate(actions).astype(np.float32),
        tuple(len(part) for part in frames),
        tuple(tasks),
    )


def in_view(states: np.ndarray, state_names: Sequence[str]) -> np.ndarray:
    """States (..., S) with every position clipped to VIEW_M."""
    states = states.copy()
    for index, name in enumerate(state_names):
        if name[-4:-2] in ("_x", "_y", "_z") and name.endswith("_m"):
            states[..., index] = states[..., index].clip(*VIEW_M[name[-3]])
    return states


def _suite_of(states: list[np.ndarray], data: Sequence[Path | str]) -> Suite:
    widths = {part.shape[-1] for part in states}
    try:
        (width,) = widths
        return suite_of_size(width)
    except (ValueError, ConfigError):
        wanted = ", ".join(f"{len(suite.state_names)} ({suite.name})" for suite in SUITES.values())
        raise DataError(
            f"states of {' and '.join(map(str, sorted(widths)))} numbers in {', '.join(map(str, data))}; wanted one of "
            f"{wanted}, from `genie-robot data generate`"
        ) from None


def _task_of(folder: Path) -> str:
    card = folder / "metadata.json"
    return str(json.loads(card.read_text(encoding="utf-8")).get("task", "")) if card.is_file() else ""


def recipe_of(arguments: Mapping[str, object]) -> dict[str, str]:
    """The arguments of a script for a model card; of files and folders the name alone, wherever they lay on that machine."""

    def words(value: object) -> str:
        if isinstance(value, list):
            return ", ".join(words(part) for part in value)
        return value.name if isinstance(value, Path) else str(value)

    return {name: words(value) for name, value in arguments.items()}


def reconstruct(world_model: str | Path, data: LabelledFrames, clip: int = 8, batch: int = 16) -> np.ndarray:
    """Tokenizer reconstructions of the frames, uint8 (F, Y, X, 3), in clips of consecutive frames of one film.

    A clip has `clip` frames, or as many as the model looks at. The tokenizer looks back in time: a clip across two films
    would show what no film of a world model shows.
    """
    import genie_robot

    model = genie_robot.load(world_model)
    clip = min(clip, model.config.video.num_frames)
    index_CT = np.concatenate(
        [
            start + np.arange(size + -size % clip).reshape(-1, clip).clip(max=size - 1)
            for start, size in zip(data.starts_E, data.lengths_E, strict=True)
        ]
    )
    result = np.empty_like(data.frames_FYXC)
    for k in tqdm(range(0, len(index_CT), batch), "reconstruct"):
        part_CT = index_CT[k : k + batch]
        shown = model.decode(model.encode(data.frames_FYXC[part_CT]))
        is_new = np.diff(part_CT, axis=1, prepend=-1) > 0  # the last frame is repeated to fill a clip
        result[part_CT[is_new]] = shown[is_new]
    return result


def imagine_over(
    world_model: str | Path, data: LabelledFrames, rough: np.ndarray, windows: int, seed: int = 0
) -> np.ndarray:
    """`rough` with the ends of random clips imagined: PROMPT true frames, then IMAGINED with the film's own actions.

    Its robot actions where the model takes them, else the latent actions that the model infers from the true film. Few
    steps only, so that the true state is still a fair label of what is imagined.
    """
    import genie_robot

    model = genie_robot.load(world_model, dtype="bfloat16")
    width = model.config.dynamics.robot_action_dim
    robot_FR = data.robot_actions(width)
    clip = PROMPT + IMAGINED
    starts = np.concatenate(
        [
            np.arange(start, start + size - clip + 1)
            for start, size in zip(data.starts_E, data.lengths_E, strict=True)
        ]
    )
    rng = np.random.default_rng(seed)
    starts = rng.choice(starts, min(windows, len(starts)), replace=False)
    mixed = rough.copy()
    for k in tqdm(range(0, len(starts), 64), "imagine"):
        index_BT = starts[k : k + 64, None] + np.arange(clip)
        video = data.frames_FYXC[index_BT]
        if width:
            steps = model.action_rows(robot_BR=robot_FR[index_BT])
        else:
            steps, _ = model.infer_actions(video)
        session = genie_robot.WorldSession(model, **SAMPLING, seed=seed + k)
        session.reset(video[:, :PROMPT])
        for t in range(PROMPT, clip):
            mixed[index_BT[:, t]] = session.step(steps[:, t - 1])
    return mixed
