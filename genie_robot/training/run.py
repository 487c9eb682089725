"""The one training loop, for every stage.

    run(config)    # trains config.stage (or all three) into config.output and assembles <output>/world_model

A run continues from its newest checkpoint, bit for bit: weights, optimizers, random states and data position.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from genie_robot.config import STAGES, StageConfig, TrainConfig, to_dict
from genie_robot.data.clips import ClipCache, build_clip_cache
from genie_robot.data.loader import ClipLoader
from genie_robot.errors import CheckpointError, ConfigError, TrainingDivergedError
from genie_robot.models.world_model import WorldModel
from genie_robot.training import checkpoint
from genie_robot.training.card import git_hash, model_card
from genie_robot.training.hardware import autocast, compile_blocks, pick_device, pick_precision
from genie_robot.training.logs import RunLog
from genie_robot.training.optim import build_optimizers, set_rate
from genie_robot.training.stages import Stage, build_stage

log = logging.getLogger(__name__)

VALIDATION_CLIPS = 32
LOG_EVERY = 10


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after the checkpoint was written."""


class _StopOnSignal:
    """Turns the first Ctrl-C or SIGTERM into a flag, so that a step is never cut; the second one interrupts."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> _StopOnSignal:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


def run(config: TrainConfig) -> Path:
    """Train `config.stage` and return the folder it wrote: the stage's, or the assembled world model."""
    if not config.data.path:
        raise ConfigError(
            "data.path: got nothing, wanted a dataset folder; make one with: genie-robot data generate"
        )
    if config.hardware.threads:
        torch.set_num_threads(config.hardware.threads)
    output = Path(config.output)
    caches = _caches(config, output)
    stages = STAGES if config.stage == "all" else (config.stage,)
    for name in stages:
        train_stage(name, config, output, *caches)
    if stages[-1] != "dynamics":
        return output / stages[-1]
    return assemble(config, output)


def _caches(config: TrainConfig, output: Path) -> tuple[ClipCache, ClipCache]:
    root = Path(config.data.cache) if config.data.cache else output / "cache"
    video = config.model.video
    splits = (("train", "train"), ("val", config.data.validation_split or "val"))
    train, validation = (
        build_clip_cache(
            config.data.path,
            root / folder,
            video.height,
            video.width,
            split=split,
            max_episodes=config.data.max_episodes or None,
            image_key=config.data.image_key or None,
        )
        for folder, split in splits
    )
    return train, validation


def train_stage(
    name: str, config: TrainConfig, output: Path, train: ClipCache, validation: ClipCache
) -> None:
    """Train one stage to its last step, from its newest checkpoint if there is one."""
    stage_config: StageConfig = getattr(config.training, name)
    torch.manual_seed(config.seed)
    device = pick_device(config.hardware)
    stage = build_stage(name, config.model)
    if name == "dynamics":
        _load_frozen(stage, output, config)
    stage.model.to(device)  # type: ignore[attr-defined]
    trainer = _Trainer(stage, stage_config, config, output / name, device)
    loader = ClipLoader(train, stage_config.num_frames, stage_config.batch_size, seed=config.seed)
    held_out = _held_out(validation, stage_config.num_frames)
    trainer.fit(loader, held_out)


def _held_out(cache: ClipCache, num_frames: int) -> np.ndarray:
    """The same clips for every validation of every run: uint8 (B,T,Y,X,C)."""
    loader = ClipLoader(cache, num_frames, min(VALIDATION_CLIPS, 8 * len(cache)), seed=0)
    return next(iter(loader))


def _load_frozen(stage: Stage, output: Path, config: TrainConfig) -> None:
    model: WorldModel = stage.model  # type: ignore[attr-defined]
    for name in ("tokenizer", "latent_action"):
        wanted: StageConfig = getattr(config.training, name)
        state = checkpoint.load_newest(output / name / "checkpoints")
        if state is None or state["step"] < wanted.steps:
            at = "none" if state is None else f"step {state['step']}"
            raise CheckpointError(
                f"{output / name}: dynamics needs the finished {name} stage, got {at}, wanted step {wanted.steps}; "
                f"run the same command with stage={name} (or stage=all) first"
            )
        getattr(model, name).load_state_dict(state["model"])


class _Trainer:
    """State of one stage's run."""

    def __init__(
        self, stage: Stage, stage_config: StageConfig, config: TrainConfig, folder: Path, device: torch.device
    ) -> None:
        self.stage, self.config, self.folder, self.device = stage, stage_config, folder, device
        self.fingerprint = {
            "model": to_dict(config.model),
            "training": to_dict(stage_config),
            "data": config.data.path,
            "seed": config.seed,
        }
        self.precision = pick_precision(config.hardware, device)
        self.optimizers = build_optimizers(stage.module, stage_config)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        self.step = 0
        self.elapsed_s = 0.0
        if config.hardware.compile:
            compile_blocks(stage.module)

    def fit(self, loader: ClipLoader, held_out: np.ndarray) -> None:
        """Train to the last step. Raises Interrupted after a Ctrl-C, with everything saved."""
        self._resume(loader)
        if self.step >= self.config.steps:
            log.info("%s: already trained to step %d", self.stage.name, self.step)
            return
        rows = RunLog(self.folder, self.stage.name, self.step)
        started, before = time.perf_counter(), self.elapsed_s
        bar = tqdm(
            total=self.config.steps, initial=self.step, desc=self.stage.name, unit="step", mininterval=1.0
        )
        with bar, _StopOnSignal() as stop:
            while self.step < self.config.steps:
                metrics = self._train_step(next(loader))
                self.elapsed_s = before + time.perf_counter() - started
                bar.update()
                if self.step % LOG_EVERY == 0:
                    values = {key: float(value) for key, value in metrics.items()}
                    rows.write(self.step, "train", {**values, "elapsed_s": round(self.elapsed_s, 2)})
                    bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
                last = self.step == self.config.steps
                if last or self.step % self.config.validate_every == 0:
                    self._validate(held_out, rows, bar)
                if last or stop.requested or self.step % self.config.checkpoint_every == 0:
                    path = checkpoint.save(self.folder / "checkpoints", self.step, self._state(loader))
                if stop.requested and not last:
                    rows.close()
                    raise Interrupted(
                        f"{self.stage.name} stopped at step {self.step}, saved {path}; run the same command to go on"
                    )
        rows.close()

    def _train_step(self, video: np.ndarray) -> dict[str, Tensor]:
        self.stage.module.train()
        rate = set_rate(self.optimizers, self.step, self.config)
        with autocast(self.precision, self.device):
            metrics = self.stage.loss(self._to_float(video), self.generator)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        metrics["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.stage.module.parameters(), self.config.clip_norm)
        if not torch.isfinite(norm):
            newest = (checkpoint.checkpoints(self.folder / "checkpoints") or ["none"])[-1]
            raise TrainingDivergedError(
                f"{self.stage.name}: gradient norm is {float(norm)} at step {self.step + 1}; last good checkpoint: "
                f"{newest}; lower the learning rate in a new output folder"
            )
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        return {key: value.detach() for key, value in metrics.items()} | {
            "gradient_norm": norm,
            "learning_rate": torch.tensor(rate),
        }

    def _validate(self, held_out: np.ndarray, rows: RunLog, bar: tqdm[Any]) -> None:
        self.stage.module.eval()
        with torch.no_grad(), autocast(self.precision, self.device):
            metrics, pictures = self.stage.validate(self._to_float(held_out))
        rows.write(self.step, "validation", metrics)
        rows.picture(self.step, pictures)
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        bar.write(f"{self.stage.name} step {self.step}: {numbers}", file=sys.stderr)

    def _to_float(self, video: np.ndarray) -> Tensor:
        return torch.from_numpy(video).to(self.device, non_blocking=True).float() / 255

    def _state(self, loader: ClipLoader) -> dict[str, Any]:
        return {
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "model": self.stage.module.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "loader": loader.state_dict(),
            "fingerprint": json.dumps(self.fingerprint, sort_keys=True),
            "git": git_hash(),
        }

    def _resume(self, loader: ClipLoader) -> None:
        state = checkpoint.load_newest(self.folder / "checkpoints")
        if state is None:
            return
        stored, now = json.loads(state["fingerprint"]), json.loads(json.dumps(self.fingerprint))
        if stored != now:
            field = next(key for key in now if stored.get(key) != now[key])
            raise CheckpointError(
                f"{self.folder}: its checkpoint was made with another {field} configuration; "
                "use the same configuration to go on, or another output folder"
            )
        self.stage.module.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        loader.load_state_dict(state["loader"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]


def assemble(config: TrainConfig, output: Path) -> Path:
    """Bundle the three finished stages as the model folder `output/world_model`."""
    model = WorldModel(config.model)
    for name in STAGES:
        state = checkpoint.load_newest(output / name / "checkpoints")
        assert state is not None, name
        getattr(model, name).load_state_dict(state["model"])
    return model.save(output / "world_model", model_card(config, output))
