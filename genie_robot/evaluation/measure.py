"""Measure what a world model's codes do, name them, fit the action adapter, and write both into the model folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.data.episode import Episode
from genie_robot.evaluation.heldout import HeldOut, collect_clips, collect_prompts
from genie_robot.evaluation.latent_actions import (
    TOGGLE,
    CodeMeasurement,
    LabelAgreement,
    label_agreement,
    latent_action_records,
    mean_code_cosine,
    measure_codes,
)
from genie_robot.evaluation.pictures import grid, text_block
from genie_robot.evaluation.probe import ProbePair
from genie_robot.models.world_model import LatentAction
from genie_robot.simulation.action_interface import (
    DEFAULT_TRANSITIONS,
    ActionAdapter,
    fit_adapter_from_episodes,
    infer_codes,
)


@dataclass(frozen=True)
class CodeBook:
    """Everything measured about the codes of one model."""

    latent_actions: tuple[LatentAction, ...]
    measurements: list[CodeMeasurement]
    labels: LabelAgreement | None
    code_cosine: float
    prompts_PTYXC: np.ndarray
    frames_KPTYXC: np.ndarray

    @property
    def metrics(self) -> dict[str, Any]:
        """Keys for `evaluate model`'s JSON."""
        moving = [m.code for m in self.measurements if m.moves]
        return {
            "code_cosine": self.code_cosine,
            "codes_that_move": moving,
            "cosine_per_code": [round(m.cosine, 3) for m in self.measurements],
            "code_names": [action.name for action in self.latent_actions],
        }


def measure_codebook(
    model: Any,
    episodes: Sequence[Episode],
    probes: ProbePair,
    *,
    prompts: int = 16,
    prompt_frames: int = 1,
    steps: int = 2,
    seed: int = 0,
    maskgit_steps: int = 8,
    temperature: float = TEMPERATURE,
) -> CodeBook:
    """Imagine each code from held-out prompts (episodes with states) and label the episodes' true transitions."""
    images, _ = collect_prompts(episodes, prompts=prompts, frames=prompt_frames, seed=seed)
    measurements, frames = measure_codes(
        model,
        probes.judge,
        images,
        steps=steps,
        seed=seed,
        maskgit_steps=maskgit_steps,
        temperature=temperature,
    )
    labels = _labels(model, episodes, seed)
    evidence = {
        "seed": seed,
        "maskgit_steps": maskgit_steps,
        "temperature": temperature,
        "probe": probes.hash[:12],
        "method": "imagined from held-out prompts, gripper read by the judge probe; not typed by hand",
    }
    records = latent_action_records(measurements, labels.table if labels else None, **evidence)
    actions = tuple(
        LatentAction(**{**record, "displacement_m": tuple(record["displacement_m"])}) for record in records
    )
    return CodeBook(actions, measurements, labels, mean_code_cosine(measurements), images, frames)


def _labels(model: Any, episodes: Sequence[Episode], seed: int) -> LabelAgreement | None:
    frames = min(e.num_frames for e in episodes)
    clips: HeldOut = collect_clips(episodes, clips=len(episodes), frames=frames, seed=seed)
    if clips.states_BTS is None:
        return None
    codes = np.concatenate(
        [infer_codes(model, clips.video_BTYXC[k : k + 32]) for k in range(0, len(clips), 32)]
    )
    return label_agreement(codes, clips.states_BTS, clips.actions_BSA, int(model.num_actions), seed=seed)


def write_codebook(model: Any, folder: Path | str, codebook: CodeBook) -> None:
    """Put the measured meanings into the model and into the folder's latent_actions.json."""
    model.latent_actions = codebook.latent_actions
    model.save_latent_actions(folder)


def write_adapter(
    model: Any,
    folder: Path | str,
    episodes: Iterable[Episode],
    *,
    transitions: int = DEFAULT_TRANSITIONS,
    heldout_episodes: Iterable[Episode] | None = None,
    heldout: int = 1000,
    metres_per_unit: float = 1.0,
) -> ActionAdapter:
    """Fit the action adapter (see `fit_adapter_from_episodes`) and write it into the model folder."""
    adapter = fit_adapter_from_episodes(
        model,
        episodes,
        transitions=transitions,
        heldout_episodes=heldout_episodes,
        heldout=heldout,
        metres_per_unit=metres_per_unit,
    )
    adapter.save(folder)
    return adapter


def describe(action: LatentAction, measurement: CodeMeasurement | None = None) -> list[str]:
    """Three short lines about a code for a picture: its name, centimetres a step, consistency."""
    forward, left, up = (100.0 * v for v in action.displacement_m)
    lines = [f"{action.code}: {action.name or 'not measured'}", f"x{forward:+.1f} y{left:+.1f} z{up:+.1f} cm"]
    if abs(action.gripper) > 0.05:
        lines.append(f"fingers {action.gripper:+.2f}")
    cosine = measurement.cosine if measurement else action.evidence.get("mean_pairwise_cosine")
    return [*lines, f"cosine {cosine:+.2f}"] if cosine is not None else lines


def action_grid(codebook: CodeBook, *, columns: int = 6, scale: int = 2) -> np.ndarray:
    """Picture: the prompts in the top row, then one row a code with what it makes of each of them."""
    count = min(columns, codebook.frames_KPTYXC.shape[1])
    # Half of the prompts have an open gripper and half a closed one; show some of both.
    chosen = np.linspace(0, codebook.frames_KPTYXC.shape[1] - 1, count).round().astype(int)
    steps = codebook.frames_KPTYXC.shape[2] - 1
    cells = [[codebook.frames_KPTYXC[0, p, 0] for p in chosen]]
    # The fingers are done after one step, and a code that toggles them would undo it in the second.
    shown = [1 if m.direction in ("close", "open", TOGGLE) else -1 for m in codebook.measurements]
    cells += [[film[p, k] for p in chosen] for film, k in zip(codebook.frames_KPTYXC, shown, strict=True)]
    labels = [["prompt", "(as the model shows it)"]]
    labels += [describe(a, m) for a, m in zip(codebook.latent_actions, codebook.measurements, strict=True)]
    head = [f"prompt {k + 1}" for k in range(count)]
    picture = grid(cells, labels, head, scale=scale, label_width=190)
    title = text_block(
        [f"each latent action from the same prompts: {steps} steps, finger codes 1; x forward, y left, z up"],
        24,
        picture.shape[1],
    )
    return np.concatenate([title, picture], axis=0)
