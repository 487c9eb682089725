"""Where a stage's batches come from: the clip cache, or for the dynamics the token cache, onto the training device."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from genie_robot.config import StageConfig, TrainConfig
from genie_robot.data.augment import Augmentation
from genie_robot.data.labels import pooled
from genie_robot.data.loader import ClipLoader, Clips, fitting_label_size
from genie_robot.data.token_cache import TokenCache, TokenClips, TokenLoader
from genie_robot.errors import ConfigError
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.hashing import weights_hash
from genie_robot.training.batch import Batch
from genie_robot.training.clip_sets import ClipSet
from genie_robot.training.hardware import autocast, pick_precision
from genie_robot.training.parallel import Processes
from genie_robot.training.stages import Stage
from genie_robot.training.tokens import build_token_cache

log = logging.getLogger(__name__)

VALIDATION_CLIPS = 32


class _Loader(Protocol):
    def __next__(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Source:
    """Endless batches for one process, the next one read while this one trains.

    Its state is that of the loader after the batches given out, alike in all processes.
    """

    def __init__(self, loader: _Loader, device: torch.device) -> None:
        self._loader, self._device = loader, device
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._ahead: Future[tuple[Any, dict[str, Any]]] | None = None
        self._state = loader.state_dict()

    def _read(self) -> tuple[Any, dict[str, Any]]:
        return next(self._loader), self._loader.state_dict()

    def __next__(self) -> Batch:
        """Clips of this process of the next batch."""
        read, self._state = (self._ahead or self._reader.submit(self._read)).result()
        self._ahead = self._reader.submit(self._read)
        return to_batch(read, self._device)

    def state_dict(self) -> dict[str, Any]:
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
    return Batch(move(read.video_BTYXC).float() / 255, labels, move(read.gaps_B))


def build_source(
    stage: Stage, config: TrainConfig, output: Path, clips: ClipSet, processes: Processes
) -> Source:
    """The batches of `stage` for one process."""
    stage_config: StageConfig = getattr(config.training, stage.name)
    data, num_frames = config.data, stage_config.num_frames
    place: dict[str, Any] = {"seed": config.seed, "rank": processes.rank, "world_size": processes.world_size}
    place |= {"weights": clips.weights, "balanced": clips.balanced}
    _check_label_size(config, clips)
    embedding = stage.model.dynamics.embed_action
    by_robot = False
    if stage.name == "dynamics" and isinstance(embedding, MixedEmbedding):
        by_robot = True
        embedding.standardise(*pooled([cache.labels for cache in clips.caches if cache.labels is not None]))
    if data.tokens and stage.name == "dynamics":
        tokens = _token_caches(stage, config, output, clips, processes)
        return Source(TokenLoader(tokens, stage_config.batch_size, **place), processes.device)
    loader = ClipLoader(
        clips.caches,
        num_frames,
        stage_config.batch_size,
        still_share=data.still_share,
        augmentation=Augmentation(data.crop, data.colour),
        workers=data.workers or os.cpu_count() or 1,
        stored_labels=by_robot,
        memory_share=config.model.dynamics.memory_share if stage.name == "dynamics" else 0.0,
        **place,
    )
    return Source(loader, processes.device)


def _check_label_size(config: TrainConfig, clips: ClipSet) -> None:
    has = fitting_label_size(clips.caches)
    for name, wanted, is_used in (
        (
            "latent_action.label_dim",
            config.model.latent_action.label_dim,
            config.model.latent_action.label_weight,
        ),
        (
            "dynamics.robot_action_dim",
            config.model.dynamics.robot_action_dim,
            config.model.dynamics.robot_action_dim,
        ),
    ):
        if has and is_used and has != wanted:
            raise ConfigError(
                f"model.{name}: got {wanted}, but actions of this dataset have {has} numbers; use model.{name}={has}"
            )


def _token_caches(
    stage: Stage, config: TrainConfig, output: Path, clips: ClipSet, processes: Processes
) -> list[TokenCache]:
    """A token cache for each clip cache, made by the frozen encoders of `stage`."""
    num_frames = config.training.dynamics.num_frames
    root = Path(config.data.cache) if config.data.cache else output / "cache"
    still_share = config.data.still_share
    name = f"{weights_hash(stage.model.tokenizer)}_{weights_hash(stage.model.latent_action)}_{num_frames}"
    name += f"_still{still_share:g}" if still_share < 1 else ""
    if config.data.crop or config.data.colour:
        log.info(
            "data.tokens: the dynamics learn from tokens of the clips as they are, without data.crop and data.colour"
        )
    with autocast(pick_precision(config.hardware, processes.device), processes.device):
        return [
            build_token_cache(
                stage.model,
                cache,
                root / "tokens" / name / f"{cache.dataset}_{cache.contents[:12]}",
                num_frames,
                still_share=still_share,
                processes=processes,
            )
            for cache in clips.caches
        ]


def held_out_batch(clips: ClipSet, num_frames: int, device: torch.device) -> Batch:
    """The same clips for every validation of every run, with labels as stored where they have some."""
    size = min(VALIDATION_CLIPS, 8 * len(clips))
    mix: dict[str, Any] = {"weights": clips.weights, "balanced": clips.balanced, "stored_labels": True}
    return to_batch(next(ClipLoader(clips.caches, num_frames, size, seed=0, **mix)), device)
