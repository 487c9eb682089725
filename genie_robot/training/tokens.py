"""Encode every clip once, so that the dynamics train on tokens from disk: frozen encoders run once, not every step.

    tokens = build_token_cache(model, ClipCache.open("outputs/cache/train"), "outputs/cache/tokens", num_frames=16)

Clips begin every `stride` frames of each episode and are encoded exactly as training on pixels would encode them.
A killed build goes on with the shards that are missing; several processes share them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from genie_robot.data.clips import ClipCache, Windows
from genie_robot.data.token_cache import TokenCache, TokenIndex, claim_folder, has_shard, write_shard
from genie_robot.errors import ConfigError
from genie_robot.models.hashing import weights_hash
from genie_robot.models.world_model import WorldModel
from genie_robot.training.parallel import ONE_PROCESS, Processes

CLIPS_PER_SHARD = 8192  # 200 MB at 16 frames of 768 tokens; every shard is an open file


def build_token_cache(
    model: WorldModel,
    cache: ClipCache,
    folder: str | Path,
    num_frames: int,
    *,
    batch_size: int = 32,
    stride: int = 0,
    still_share: float = 1.0,
    processes: Processes = ONE_PROCESS,
    clips_per_shard: int = CLIPS_PER_SHARD,
) -> TokenCache:
    """Encode the windows of `cache` into `folder`, or what of it is missing, and open it. All processes call it.

    `num_frames` a clip; `stride` frames between the beginnings of two (0: half a clip), and one more clip at each
    episode's end, so that no frame is left out. `still_share`: how many of the clips in which nothing moves are kept.
    Runs on the device of `processes`, in the caller's autocast.
    ConfigError for numbers below 1, DataError when no episode is long enough, CheckpointError when `folder` holds what
    other weights, clips or settings made, DiskFullError.
    """
    stride = stride or max(num_frames // 2, 1)
    if min(num_frames - 1, batch_size, stride, clips_per_shard) < 1:
        got = f"{num_frames=}, {batch_size=}, {stride=}, {clips_per_shard=}"
        raise ConfigError(f"got {got}; wanted numbers of at least 1, and 2 frames")
    model.tokenizer.eval()
    model.latent_action.eval()
    windows = Windows(cache, num_frames, stride, still_share)
    firsts = windows.first_frames(np.arange(len(windows)))
    layout = {"num_frames": num_frames, "stride": stride, "clips_per_shard": clips_per_shard}
    precision = _precision(model, processes.device)
    index = _index(model, clips=cache.contents, precision=precision, num_clips=len(firsts), **layout)
    folder = Path(folder)
    claim_folder(folder, index, writer=f"-{processes.rank}")
    own = [shard for shard in index.shards if shard % processes.world_size == processes.rank]
    missing = [shard for shard in own if not has_shard(folder, index, shard)]
    with tqdm(
        desc="token cache",
        unit=" clips",
        total=sum(len(index.clips_of(shard)) for shard in own),
        initial=sum(len(index.clips_of(shard)) for shard in own if shard not in missing),
        disable=None if missing and processes.is_first else True,
    ) as bar:
        for shard in missing:
            parts = []
            for part in _encode(
                model, cache, firsts[index.clips_of(shard)], num_frames, batch_size, processes
            ):
                parts.append(part)
                bar.update(len(part[0]))
            tokens, actions = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            write_shard(folder, index, shard, tokens, actions)
    processes.wait_for_all()
    return TokenCache.open(folder, index.tokenizer, index.latent_action)


def _index(model: WorldModel, **others: Any) -> TokenIndex:
    action = model.config.latent_action
    return TokenIndex(
        tokenizer=weights_hash(model.tokenizer),
        latent_action=weights_hash(model.latent_action),
        tokens_per_frame=model.config.tokens_per_frame,
        codebook_size=model.config.tokenizer.codebook_size,
        num_actions=action.total_actions,
        action_dim=action.code_dim,
        **others,
    )


@torch.no_grad()
def _encode(
    model: WorldModel,
    cache: ClipCache,
    firsts: np.ndarray,
    num_frames: int,
    batch_size: int,
    processes: Processes,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens (B,T,N) and actions (B,S) or (B,S,K) of at most `batch_size` clips at a time."""
    for start in range(0, len(firsts), batch_size):
        windows = [cache.frames_FYXC[f : f + num_frames] for f in firsts[start : start + batch_size]]
        video_BTYXC = torch.from_numpy(np.stack(windows)).to(processes.device).float() / 255
        tokens_BTN = model.tokenizer.encode(video_BTYXC)
        actions, _ = model.latent_action.infer(model.action_input(video_BTYXC))
        # NumPy has no bfloat16, which autocast may give
        actions = actions.float() if actions.is_floating_point() else actions
        yield tokens_BTN.cpu().numpy(), actions.cpu().numpy()


def _precision(model: WorldModel, device: torch.device) -> str:
    if torch.is_autocast_enabled(device.type):
        return str(torch.get_autocast_dtype(device.type))
    return str(next(model.tokenizer.parameters()).dtype)
