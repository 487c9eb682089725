"""One stage's training: its state, one optimizer step, validation, saving and going on."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from genie_robot.config import StageConfig, TrainConfig, to_dict
from genie_robot.data.provenance import git_hash
from genie_robot.errors import CheckpointError, TrainingDivergedError
from genie_robot.training import parallel
from genie_robot.training.batch import Batch, clip_generators
from genie_robot.training.checkpoint import Checkpoints, checkpoints, load_newest, newest_run
from genie_robot.training.ema import WeightAverage
from genie_robot.training.hardware import autocast, pick_precision
from genie_robot.training.logs import RunLog
from genie_robot.training.optim import build_optimizers, create_state, set_rate, state_tensors
from genie_robot.training.parallel import Processes
from genie_robot.training.signals import Interrupted, StopOnSignal
from genie_robot.training.source import Source
from genie_robot.training.stages import Stage, validate
from genie_robot.training.throughput import Meter, peak_flops

log = logging.getLogger(__name__)

LOG_EVERY = 10
_RECENT = 64  # losses whose median a spike is measured against


class Trainer:
    """A stage with its optimizers, averaged weights, checkpoints and counters."""

    def __init__(self, stage: Stage, config: TrainConfig, folder: Path, processes: Processes) -> None:
        self.stage, self.folder, self.processes = stage, folder, processes
        self.config: StageConfig = getattr(config.training, stage.name)
        self.seed, self.wandb, self.hardware = config.seed, config.wandb, config.hardware
        self.fingerprint = fingerprint(config, stage.name)
        self.settings = to_dict(self.config)
        self.precision = pick_precision(config.hardware, processes.device)
        parallel.prepare(stage.networks, config.hardware, processes)
        self.optimizers = build_optimizers(stage.networks, self.config)
        self.average = WeightAverage(stage.networks, self.config.ema_decay)
        self.checkpoints = Checkpoints(folder / "checkpoints", self.config.keep_checkpoints, processes)
        self.step, self.elapsed_s = 0, 0.0
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def fit(self, source: Source, held_out: Batch) -> None:
        """Train to the last step. Raises Interrupted after a Ctrl-C, with everything saved."""
        if self.step >= self.config.steps:
            return
        first = self.processes.is_first
        rows = RunLog(self.folder, self.stage.name, self.step, self.wandb) if first else None
        meter = self._meter()
        started, before = time.perf_counter(), self.elapsed_s
        bar = tqdm(
            total=self.config.steps,
            initial=self.step,
            desc=self.stage.name,
            unit="step",
            mininterval=1.0,
            disable=not first,
        )
        with bar, StopOnSignal() as stop:
            while self.step < self.config.steps:
                asked = time.perf_counter()
                batch = next(source)
                meter.waited(time.perf_counter() - asked)
                metrics, stopping = self._train_step(batch, stop.requested)
                meter.step()
                bar.update()
                self.elapsed_s = before + time.perf_counter() - started
                if rows is not None and self.step % LOG_EVERY == 0:
                    rows.write(
                        self.step, "train", {**metrics, **meter.read(), "elapsed_s": round(self.elapsed_s, 2)}
                    )
                    bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
                last = self.step == self.config.steps
                if last or self.step % self.config.validate_every == 0:
                    paused = time.perf_counter()
                    self._validate(held_out, rows, bar)
                    meter.skip(time.perf_counter() - paused)
                self.checkpoints.poll()
                if last or stopping or self.step % self.config.checkpoint_every == 0:
                    self.save(source)
                if last or stopping:
                    path = self.checkpoints.wait()
                if stopping:
                    if rows is not None:
                        rows.close()
                    raise Interrupted(
                        f"{self.stage.name} stopped at step {self.step}, saved {path}; run the same command to go on"
                    )
        if rows is not None:
            rows.close()

    def _meter(self) -> Meter:
        frames, video = self.config.num_frames, self.stage.model.config
        clips = self.config.batch_size // self.processes.world_size
        device = self.processes.device
        peak = peak_flops(device, self.precision, self.hardware.peak_tflops)
        flops = clips * self.stage.flops_per_clip(frames)
        return Meter(flops, clips * frames, video.tokens_per_frame, peak, device)

    def _train_step(self, batch: Batch, stop_requested: bool) -> tuple[dict[str, float], bool]:
        """One optimizer step; returns metrics over all processes, and whether any process was asked to stop."""
        networks = self.stage.networks.train()
        rate = set_rate(self.optimizers, self.step, self.config)
        sums = self._backward(batch)
        sums["stop"] = torch.tensor(float(stop_requested), device=self.processes.device)
        names = sorted(sums)
        totals = self.processes.sum(torch.stack([sums[name].double() for name in names]))
        total = dict(zip(names, totals.tolist(), strict=True))
        self._scale(total)
        norm = parallel.clip_gradients(networks, self.config.clip_norm)
        metrics = self._means(total)
        self._refuse_divergence(metrics["loss"], norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)  # validation needs the memory
        self.average.update(self.step)
        parallel.after_step(networks, self.processes)
        self.step += 1
        return {**metrics, "gradient_norm": norm, "learning_rate": rate}, total["stop"] > 0

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        """Gradients of sum(loss * weight) over micro-batches; returns those sums and those of the weights."""
        networks, size = self.stage.networks, self.hardware.micro_batch_size or len(batch)
        first_clip = self.processes.rank * len(batch)
        generators = clip_generators(self.seed, self.step, first_clip, len(batch))
        sums: dict[str, Tensor] = {}
        for start, part in zip(range(0, len(batch), size), batch.split(size), strict=True):
            last = start + size >= len(batch)
            with parallel.accumulating(networks, last, self.hardware):
                with autocast(self.precision, self.processes.device):
                    out = self.stage.losses(part, generators[start : start + size])
                torch.stack([term.loss * term.weight for term in out.terms.values()]).sum().backward()
            main = next(iter(out.terms.values()))
            found = {f"weight/{name}": term.weight for name, term in out.terms.items()}
            found |= {f"metric/{name}": value * main.weight for name, value in out.metrics.items()}
            found["metric/loss"] = main.loss * main.weight
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
        parallel.average_whole_gradients(networks, self.processes)
        return sums

    def _scale(self, total: dict[str, float]) -> None:
        """From sums (averaged over processes by then) to means: divide each network's gradients by its weight."""
        main = next(iter(self.stage.networks))
        for name, network in self.stage.networks.items():
            weight = total.get(f"weight/{name}", total[f"weight/{main}"])
            parallel.scale_gradients(network.parameters(), self.processes.world_size / max(weight, 1e-12))

    def _means(self, total: dict[str, float]) -> dict[str, float]:
        weight = max(total[f"weight/{next(iter(self.stage.networks))}"], 1e-12)
        return {
            name.removeprefix("metric/"): value / weight
            for name, value in total.items()
            if name.startswith("metric/")
        }

    def _refuse_divergence(self, loss: float, norm: float) -> None:
        """Raise before a bad update, while the weights are still good."""
        what = ""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            what = f"loss is {loss:.4g} and gradient norm {norm:.4g}"
        elif self.config.spike_factor and len(self._recent) == _RECENT:
            usual = sorted(self._recent)[_RECENT // 2]
            if loss > self.config.spike_factor * usual > 0:
                what = f"loss jumped to {loss:.4g}, {loss / usual:.0f} times the recent median {usual:.4g},"
        if what:
            self.checkpoints.wait()
            newest = (checkpoints(self.checkpoints.folder) or ["none"])[-1]
            raise TrainingDivergedError(
                f"{self.stage.name}: {what} at step {self.step + 1}; last good checkpoint: {newest}; "
                "lower the learning rate and run the same command again, it goes on from there"
            )
        self._recent.append(loss)

    def _validate(self, held_out: Batch, rows: RunLog | None, bar: tqdm[Any]) -> None:
        self.stage.networks.eval()
        with self.average.applied(), torch.no_grad(), autocast(self.precision, self.processes.device):
            metrics, pictures = validate(self.stage, held_out)
            parallel.reshard(self.stage.networks)
        if rows is None:
            return
        rows.write(self.step, "validation", metrics)
        rows.picture(self.step, pictures)
        numbers = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        bar.write(f"{self.stage.name} step {self.step}: {numbers}", file=sys.stderr)

    def save(self, source: Source) -> None:
        """Start a checkpoint of everything that going on needs."""
        run = {
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "recent_losses": list(self._recent),
            "source": source.state_dict(),
            "fingerprint": self.fingerprint,
            "settings": self.settings,
            "git": git_hash(),
        }
        self.checkpoints.save(self.step, self._tensors(), run)

    def _tensors(self) -> dict[str, Any]:
        networks = self.stage.networks
        tensors: dict[str, Any] = {
            "model": networks.state_dict(),
            "optimizers": state_tensors(self.optimizers, networks),
        }
        return tensors | ({"average": self.average.weights} if self.average.weights else {})

    def resume(self, source: Source) -> None:
        """Go on from the newest checkpoint, if there is one. CheckpointError for one of another configuration."""
        folder = self.checkpoints.folder
        if not checkpoints(folder):
            return
        run = newest_run(folder)
        if run is not None:
            refuse_other_configuration(self.folder, run, self.fingerprint)
            stored = run["settings"]
            for name, value in self.settings.items():
                if stored.get(name) != value:
                    log.warning(
                        "%s goes on with %s %s (before: %s)", self.stage.name, name, value, stored.get(name)
                    )
        create_state(self.optimizers, self.stage.networks)
        run = load_newest(folder, self._tensors(), self.processes)
        assert run is not None
        source.load_state_dict(run["source"])
        self.step, self.elapsed_s = run["step"], run["elapsed_s"]
        self._recent.extend(run["recent_losses"])


def fingerprint(config: TrainConfig, stage: str) -> dict[str, Any]:
    """What a checkpoint's state means; a run with another one cannot go on from it. Steps, rates and hardware may change."""
    stage_config: StageConfig = getattr(config.training, stage)
    model, parts = to_dict(config.model), ["video", "tokenizer", "latent_action", "dynamics"]
    if stage == "tokenizer":
        parts = ["video", "tokenizer"]
    elif stage == "latent_action":
        on_tokens = config.model.latent_action.input == "tokens"
        parts = ["video", "latent_action", *(["tokenizer"] if on_tokens else [])]
    return json.loads(
        json.dumps(
            {
                "model": {part: model[part] for part in parts},
                "training": {
                    "optimizer": stage_config.optimizer,
                    "batch_size": stage_config.batch_size,
                    "num_frames": stage_config.num_frames,
                    "averages": stage_config.ema_decay > 0,
                    "co_training": config.training.co_training,
                },
                "data": {
                    "tokens": config.data.tokens,
                    "label_share": config.data.label_share,
                    "max_episodes": config.data.max_episodes,
                    "image_key": config.data.image_key,
                },
                "seed": config.seed,
            }
        )
    )


def refuse_other_configuration(folder: Path, run: dict[str, Any], now: dict[str, Any]) -> None:
    """CheckpointError that names the field when `run` was made with another fingerprint."""
    stored = run["fingerprint"]
    for group, value in now.items():
        if stored.get(group) != value:
            names = (
                [name for name in value if stored.get(group, {}).get(name) != value[name]]
                if isinstance(value, dict)
                else []
            )
            what = ".".join([group, *names[:1]])
            raise CheckpointError(
                f"{folder}: its checkpoint was made with another {what}; use the same configuration to go on, "
                "or another output folder"
            )
