"""The cache against running all frames again: the same tokens, and how many times faster, in one process."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genie_robot.config import SamplingConfig
from genie_robot.models.world_model import WorldModel
from genie_robot.sampling.context import CachedContext, RecomputedContext
from genie_robot.sampling.rollout import imagine


@torch.no_grad()
def compare_cache(
    model: WorldModel, video_BTYXC: np.ndarray, *, prompt_frames: int = 1, steps: int = 8, rounds: int = 3
) -> dict[str, Any]:
    """Imagine a real video (uint8) from its first frames on, with its own inferred actions, both ways in turn.

    Returns `tokens_identical`, `tokens_compared`, `speedup` (median ratio of the processor time, or of wall time
    on a GPU, of `rounds` pairs), `cached_frames_per_s`, `recomputed_frames_per_s`, and what was run.
    """
    inferred_BS, _ = model.latent_action.infer(model.action_input(model.to_float(video_BTYXC)))
    prompt_BTN = model.encode(video_BTYXC[:, :prompt_frames])
    prompt_actions_BT = model.dynamics.produced_by(inferred_BS[:, : prompt_frames - 1])
    actions_BS = inferred_BS[:, prompt_frames - 1 :]
    clock = time.process_time if prompt_BTN.device.type == "cpu" else time.perf_counter
    seeds = range(len(prompt_BTN))
    seconds: dict[type[CachedContext], list[float]] = {CachedContext: [], RecomputedContext: []}
    tokens: dict[type[CachedContext], Tensor] = {}
    for _ in range(rounds):
        for context, spent in seconds.items():
            started = clock()
            tokens[context] = imagine(
                *(model.dynamics, prompt_BTN, prompt_actions_BT, actions_BS, seeds),
                sampling=SamplingConfig(steps),
                context=context,
            )
            if prompt_BTN.device.type == "cuda":
                torch.cuda.synchronize()
            spent.append(clock() - started)
    cached, recomputed = tokens[CachedContext], tokens[RecomputedContext]
    ratios = sorted(b / a for a, b in zip(seconds[CachedContext], seconds[RecomputedContext], strict=True))
    frames = len(actions_BS) * actions_BS.shape[1]
    return {
        "tokens_identical": bool(torch.equal(cached, recomputed)),
        "tokens_compared": cached.numel(),
        "speedup": round(ratios[len(ratios) // 2], 2),
        "cached_frames_per_s": round(frames / min(seconds[CachedContext]), 2),
        "recomputed_frames_per_s": round(frames / min(seconds[RecomputedContext]), 2),
        "maskgit_steps": steps,
        "prompt_frames": prompt_BTN.shape[1],
        "imagined_frames": actions_BS.shape[1],
        "batch": len(prompt_BTN),
    }
