"""Where a stage's batches come from: the clip cache, or for the dynamics the token cache, onto the training device."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from genie_robot.config import StageConfig, TrainConfig
from genie_robot.data.clips import ClipCache
from genie_robot.data.loader import ClipLoader, Clips
from genie_robot.data.token_cache import TokenClips, TokenLoader
from genie_robot.errors import ConfigError
from genie_robot.models.hashing import weights_hash
from genie_robot.training.batch import Batch
from genie_robot.training.hardware import autocast, pick_precision
from genie_robot.training.parallel import Processes
from genie_robot.training.stages import Stage
from genie_robot.training.tokens import build_token_cache

VALIDATION_CLIPS = 32


class _Loader(Protocol):
    def __next__(self) -> Any: ...
    def state_dict(self) -> dict[str, int]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Source:
    """Endless batches for one process, the next one read while this one trains.

    Its state is that of the loader after the batches given out, alike in all processes.
    """

    def __init__(self, loader: _Loader, device: torch.device) -> None:
        self._loader, self._device = loader, device
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._ahead: Future[tuple[Any, dict[str, int]]] | None = None
        self._state = loader.state_dict()

    def _read(self) -> tuple[Any, dict[str, int]]:
        return next(self._loader), self._loader.state_dict()

    def __next__(self) -> Batch:
        """Clips of this process of the next batch."""
        read, self._state = (self._ahead or self._reader.submit(self._read)).result()
        self._ahead = self._reader.submit(self._read)
        return to_batch(read, self._device)

    def state_dict(self) -> dict[str, int]:
        """Place in the data."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at `state`."""
        if self._ahead is not None:
            self._ahead.result()
            self._ahead = None
        self._loader.load_state_dict(state)
        self._state = self._loader.state_dict()


def to_batch(read: Clips | TokenClips, device: torch.device) -> Batch:
    """Pictures as float in [0, 1] on the device; tokens, actions and labels as they are."""

    def move(values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

    if isinstance(read, TokenClips):
        return Batch(tokens_BTN=move(read.tokens_BTN), actions=move(read.actions))
    labels = None if read.labels_BSA is None else move(read.labels_BSA)
    return Batch(video_BTYXC=move(read.video_BTYXC).float() / 255, labels_BSA=labels)


def build_source(
    stage: Stage, config: TrainConfig, output: Path, cache: ClipCache, processes: Processes
) -> Source:
    """The batches of `stage` for one process."""
    stage_config: StageConfig = getattr(config.training, stage.name)
    shape = (stage_config.num_frames, stage_config.batch_size)
    place = {"seed": config.seed, "rank": processes.rank, "world_size": processes.world_size}
    wanted, has = config.model.latent_action.label_dim, cache.labels_FA
    if has is not None and has.shape[1] != wanted:
        raise ConfigError(
            f"model.latent_action.label_dim: got {wanted}, but actions of this dataset have {has.shape[1]} numbers; "
            f"use model.latent_action.label_dim={has.shape[1]}"
        )
    if not (config.data.tokens and stage.name == "dynamics"):
        return Source(ClipLoader(cache, *shape, **place), processes.device)
    root = Path(config.data.cache) if config.data.cache else output / "cache"
    name = f"{weights_hash(stage.model.tokenizer)}_{weights_hash(stage.model.latent_action)}"
    folder = root / "tokens" / f"{name}_{stage_config.num_frames}"
    with autocast(pick_precision(config.hardware, processes.device), processes.device):
        tokens = build_token_cache(stage.model, cache, folder, stage_config.num_frames, processes=processes)
    return Source(TokenLoader(tokens, stage_config.batch_size, **place), processes.device)


def held_out_batch(cache: ClipCache, num_frames: int, device: torch.device) -> Batch:
    """The same clips for every validation of every run."""
    loader = ClipLoader(cache, num_frames, min(VALIDATION_CLIPS, 8 * len(cache)), seed=0)
    return to_batch(next(loader), device)
