"""What leads a training clip when the dynamics takes latent and robot actions: drawn anew for each clip.

Shapes: B clips, S steps, L codebooks, K numbers before the quantizer, R numbers of a robot action, W all of them in a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from genie_robot.config import DynamicsConfig
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.masking import Generators, uniform

PROMPT_SHARE = 0.2


class KnownActions(NamedTuple):
    """All that is known of the actions of a batch; `robot_BSR` is NaN where a step has no label."""

    codes_BSL: Tensor
    vectors_BSK: Tensor
    robot_BSR: Tensor


def robot_rows(embedding: MixedEmbedding, known: KnownActions) -> Tensor:
    """Rows (B,S,W) of the robot's actions alone; steps without a label are led by all of their codes."""
    rows_BSW = embedding.rows(robot_BSR=known.robot_BSR)
    unlabelled = known.robot_BSR.isnan().any(-1, keepdim=True)
    return torch.where(unlabelled, embedding.rows(known.codes_BSL), rows_BSW)


def drawn_rows(
    embedding: MixedEmbedding, config: DynamicsConfig, known: KnownActions, generators: Generators
) -> Tensor:
    """Rows (B,S,W): each clip is led by the robot's actions, by vectors, by nothing, or by codes of some codebooks.

    The shares are those of `config`; of a clip led by codes the coarsest 1 to L codebooks are known, each number of
    them equally often. So one set of weights serves 8, 8x2 and 8x3 codes, vectors and robot actions. In PROMPT_SHARE of the
    clips the first steps are led by all of their codes, which is how a session reads a prompt of several frames.
    """
    batch, steps, levels = known.codes_BSL.shape
    device = known.codes_BSL.device
    kind_B, depth_B, prompt_B, where_B = uniform((batch, 4), generators, device).unbind(-1)
    by_codes_BSW = rows_BSW = embedding.rows(known.codes_BSL)
    first_dropped_B = (1 + (depth_B * levels).long()) * embedding.num_codes
    column_W = torch.arange(rows_BSW.shape[-1], device=device)
    rows_BSW = rows_BSW.masked_fill((column_W >= first_dropped_B[:, None])[:, None], float("nan"))

    below = 0.0
    for share, rows in (
        (config.robot_share, robot_rows(embedding, known)),
        (config.vector_share, embedding.rows(vectors_BSK=known.vectors_BSK)),
        (config.no_action_share, torch.full_like(rows_BSW, float("nan"))),
    ):
        chosen_B = (kind_B >= below) & (kind_B < below + share)
        rows_BSW = torch.where(chosen_B[:, None, None], rows, rows_BSW)
        below += share
    begins_B = (where_B * steps).long() * (prompt_B < PROMPT_SHARE)
    is_prompt_BS = torch.arange(steps, device=device) < begins_B[:, None]
    return torch.where(is_prompt_BS[..., None], by_codes_BSW, rows_BSW)
