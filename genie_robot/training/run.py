"""Training from a configuration: data, the stages in order, the model folder at the end.

    run(config)    # trains config.stage (or all of them) into config.output and assembles <output>/world_model

A run goes on from its newest checkpoint, bit for bit on one process: weights, optimizers, data position. The random
numbers of a step are a function of the seed and the step, so there is no random state to restore.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from genie_robot.config import STAGES, StageConfig, TrainConfig, to_dict
from genie_robot.errors import CheckpointError, ConfigError
from genie_robot.models.world_model import WorldModel
from genie_robot.training import parallel
from genie_robot.training.card import model_card
from genie_robot.training.checkpoint import load_weights, newest_run
from genie_robot.training.clip_sets import ClipSet, clip_sets
from genie_robot.training.describe import check_fits
from genie_robot.training.hardware import pick_device
from genie_robot.training.parallel import Processes
from genie_robot.training.source import build_source, held_out_batch
from genie_robot.training.stages import Stage, build_stage
from genie_robot.training.trainer import Trainer, fingerprint, refuse_other_configuration

log = logging.getLogger(__name__)


def run(config: TrainConfig) -> Path:
    """Train `config.stage` and return the folder it wrote: the stage's, or the assembled world model."""
    if not (config.data.path or config.data.mixture):
        raise ConfigError(
            "data.path: got nothing, wanted a dataset folder (or data.mixture a mixture); "
            "make one with: genie-robot data generate, find one with: genie-robot data list"
        )
    if config.hardware.threads:
        torch.set_num_threads(config.hardware.threads)
    stages = config.training.stages if config.stage == "all" else (config.stage,)
    if stages == ("latent_action",) and "latent_action" not in config.training.stages:
        raise ConfigError(
            f"stage: got latent_action, but training.co_training={config.training.co_training} trains it with stage=dynamics"
        )
    output = Path(config.output)
    if config.stage == "assemble":
        return assemble(config, output)
    with parallel.joined(pick_device(config.hardware)) as processes:
        longest = max(getattr(config.training, name).num_frames for name in stages)
        clips = clip_sets(config, output, processes, longest)
        for name in stages:
            train_stage(name, config, output, clips, processes)
        if stages[-1] != "dynamics":
            return output / stages[-1]
        if processes.is_first:
            assemble(config, output)
        processes.wait_for_all()
    return output / "world_model"


def train_stage(
    name: str, config: TrainConfig, output: Path, clips: tuple[ClipSet, ClipSet], processes: Processes
) -> None:
    """Train one stage to its last step, from its newest checkpoint if there is one."""
    stage_config: StageConfig = getattr(config.training, name)
    done = newest_run(output / name / "checkpoints")
    if done is not None and done["step"] >= stage_config.steps:
        refuse_other_configuration(output / name, done, fingerprint(config, name))
        log.info("%s: already trained to step %d", name, done["step"])
        return
    if processes.device.type == "cuda":
        _, memory = torch.cuda.mem_get_info(processes.device)
        check_fits(config, name, memory, processes.world_size)
    torch.manual_seed(config.seed)
    stage = build_stage(name, config)
    for frozen in stage.frozen:
        load_frozen(stage, frozen, output, config)
    if config.init_from and done is None:
        for network in set(STAGES) & set(stage.networks):
            init_weights(stage.model, network, config)
    stage.model.to(processes.device)
    stage.networks.to(processes.device)
    trainer = Trainer(stage, config, output / name, processes)
    source = build_source(stage, config, output, clips[0], processes)
    trainer.resume(source)
    trainer.fit(source, held_out_batch(clips[1], stage_config.num_frames, processes.device))
    processes.wait_for_all()  # the first one has published the last checkpoint, which the next stage reads


def load_frozen(stage: Stage, name: str, output: Path, config: TrainConfig) -> None:
    """Give a stage the finished weights of a network it builds on: the run's own, else those of `init_from`.

    CheckpointError when they are not finished.
    """
    wanted: StageConfig = getattr(config.training, name)
    run = newest_run(output / name / "checkpoints")
    if run is None and config.init_from:
        init_weights(stage.model, name, config, as_it_is=True)
        return
    if run is None or run["step"] < wanted.steps:
        at = "none" if run is None else f"step {run['step']}"
        raise CheckpointError(
            f"{output / name}: {stage.name} needs the finished {name} stage, got {at}, wanted step {wanted.steps}; "
            f"run the same command with stage={name} (or stage=all) first"
        )
    read = _load_network(stage.model, name, name, output, config)
    if read["step"] < wanted.steps:  # an older one was read instead
        folder = output / name / "checkpoints"
        raise CheckpointError(
            f"{folder}: the last checkpoint of the finished {name} stage is damaged, wanted it whole; "
            f"remove {folder}/step_{run['step']:08d} and run the same command with stage={name} to make it again"
        )


def _load_network(
    model: WorldModel, name: str, stage: str, output: Path, config: TrainConfig
) -> dict[str, Any]:
    """Fill one network from the newest checkpoint of the stage that trains it; returns what that says of its run.

    CheckpointError when there is none, or when it is of another configuration.
    """
    folder = output / stage / "checkpoints"
    run = newest_run(folder)
    if run is not None:
        refuse_other_configuration(output / stage, run, fingerprint(config, stage))
    averaged = getattr(config.training, stage).ema_decay > 0
    run = load_weights(folder, name, getattr(model, name), averaged)
    if run is None:
        raise CheckpointError(
            f"{output / stage}: has no checkpoint of the {name}, wanted one of each network; train stage={stage} first"
        )
    return run


def init_weights(model: WorldModel, name: str, config: TrainConfig, as_it_is: bool = False) -> None:
    """Fill one network with the weights of the model folder `config.init_from`.

    as_it_is: it will not be trained, so it must mean the same there: equal configurations, not only equal shapes. ConfigError,
    or ModelFolderError for a broken folder.
    """
    other = WorldModel.load(config.init_from)
    here, there = (to_dict(each.config)[name] for each in (model, other))
    if as_it_is and here != there:
        key = next(key for key in here if here[key] != there.get(key))
        raise ConfigError(
            f"init_from: the {name} of {config.init_from} has {key} {there.get(key)}, wanted {here[key]} as in this "
            f"configuration; set model.{name}.{key}, or train stage={name} first"
        )
    try:
        getattr(model, name).load_state_dict(getattr(other, name).state_dict())
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()[:120]
        raise ConfigError(
            f"init_from: the {name} of {config.init_from} is another network ({line}); choose the model=... that it was "
            "trained with"
        ) from error
    log.info("%s: begins with the weights of %s (%s)", name, config.init_from, other.hash)


def assemble(config: TrainConfig, output: Path) -> Path:
    """Bundle the newest checkpoints, finished or not, as the model folder `output/world_model`.

    Any number of processes may have written them. A network that was not trained is that of `init_from`; CheckpointError
    without one.
    """
    model = WorldModel(config.model)
    for name in STAGES:
        stage = name if name in config.training.stages else "dynamics"
        if config.init_from and newest_run(output / stage / "checkpoints") is None:
            init_weights(model, name, config, as_it_is=True)
        else:
            _load_network(model, name, stage, output, config)
    return model.save(output / "world_model", model_card(config, output))
