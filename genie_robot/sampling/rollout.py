"""Free-running imagination in token space for many clips at once.

Shapes: B batch, T frames, N tokens per frame, S imagined steps. Actions are codes, or vectors with one axis more.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_robot.config import SamplingConfig
from genie_robot.models.dynamics import Dynamics
from genie_robot.sampling.context import CachedContext
from genie_robot.sampling.maskgit import generate_frame

AS_MEASURED = SamplingConfig()  # defaults that benchmarks/sampling.py found


@torch.no_grad()
def imagine(
    dynamics: Dynamics,
    prompt_BTN: Tensor,
    prompt_actions_BT: Tensor,
    actions_BS: Tensor,
    seeds: Sequence[int],
    sampling: SamplingConfig = AS_MEASURED,
    context: type[CachedContext] = CachedContext,
) -> Tensor:
    """Tokens (B,S,N) of the frames that `actions_BS` produce after the prompt.

    `prompt_actions_BT[:, t]` led to prompt frame t (see `Dynamics.produced_by`); `seeds` are one a row.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    window = context(dynamics)
    window.append(prompt_BTN, prompt_actions_BT)
    frames = []
    for action_B in actions_BS.unbind(1):
        window.make_room()
        frames.append(generate_frame(window, action_B, generators, sampling))
        window.append(frames[-1][:, None], action_B[:, None])
    return torch.stack(frames, dim=1)
