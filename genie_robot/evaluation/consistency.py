"""Does a latent action do the same thing wherever it is given? (evaluation.md, section 2, "Latent-action health")

Shapes: P prompts, L codes of a row, Y X pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.heldout import collect_prompts
from genie_robot.evaluation.imagination import ModelEvalConfig
from genie_robot.evaluation.latent_actions import CodeMeasurement, mean_code_cosine, measure_codes
from genie_robot.evaluation.probe import ProbePair
from genie_robot.simulation.world_session import WorldSession

PROMPTS = 16
MOST_CODES = 64


class _CoarseCodes:
    """A model of several codebooks seen as one with the codes of the coarsest codebook alone."""

    def __init__(self, model: Any) -> None:
        self.model, self.num_actions = model, int(model.config.latent_action.num_actions)


class _CoarseSession:
    """A session that takes codes of the coarsest codebook."""

    def __init__(self, coarse: _CoarseCodes, **options: Any) -> None:
        self._world = WorldSession(coarse.model, **options)
        self.reset = self._world.reset

    def step(self, codes_P: np.ndarray) -> np.ndarray:
        return self._world.step(self._world.model.action_rows(codes_BL=codes_P[:, None]))


def code_consistency(
    model: Any, episodes: Sequence[Episode], probes: ProbePair, config: ModelEvalConfig
) -> dict[str, Any]:
    """Mean pairwise cosine of the displacements that a code causes from different prompts, and of different codes.

    Only codes that move the gripper count. Of a model with several codebooks that takes action rows, the codes of the
    coarsest one are measured. Raises DataError when the episodes hold too few prompts with room to move, or when fewer
    than two codes move the gripper; ConfigError for a model of more than 64 codes that takes no rows.
    """
    prompts, _ = collect_prompts(episodes, prompts=PROMPTS, frames=config.prompt_frames, seed=config.seed)
    several = model.config.latent_action.num_codebooks > 1
    options: dict[str, Any] = {"steps": 2, "seed": config.seed, "maskgit_steps": config.maskgit_steps}
    options["temperature"] = config.temperature
    if several and model.config.dynamics.robot_action_dim:
        measured, _ = measure_codes(
            _CoarseCodes(model), probes.judge, prompts, session=_CoarseSession, **options
        )
    elif model.num_actions <= MOST_CODES:
        measured, _ = measure_codes(model, probes.judge, prompts, **options)
    else:
        raise ConfigError(
            f"the model has {model.num_actions} codes; wanted {MOST_CODES} or fewer, or a model that takes action rows"
        )
    moving = [m.code for m in measured if m.moves]
    if len(moving) < 2:
        raise DataError(
            f"{len(moving)} of {len(measured)} codes move the gripper; wanted 2 or more to compare; train the model on"
        )
    same, other = mean_code_cosine(measured), other_code_cosine(measured)
    return {
        "code_cosine": same,
        "code_cosine_of_different_codes": other,
        "code_consistency": same - other,
        "codes_that_move": moving,
        "cosine_per_code": [round(m.cosine, 3) for m in measured],
        "prompts": len(prompts),
    }


def other_code_cosine(measurements: Sequence[CodeMeasurement]) -> float:
    """Mean cosine of displacements caused by two different codes from two different prompts; NaN with fewer than 2.

    Codes that do not move the gripper are left out, as in `mean_code_cosine`.
    """
    moved = [m.displacement_m_P3 for m in measurements if m.moves]
    if len(moved) < 2:
        return float("nan")
    field = np.stack(moved)
    unit = field / np.maximum(np.linalg.norm(field, axis=-1, keepdims=True), 1e-9)
    cosine = np.einsum("kpd,lqd->klpq", unit, unit)
    codes, prompts = unit.shape[:2]
    differ = ~np.eye(codes, dtype=bool)[:, :, None, None] & ~np.eye(prompts, dtype=bool)
    return float(cosine[differ].mean())
