"""`genie-robot train ...`: the door of `train.py`, from any directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HELP = """usage: genie-robot train data.path=FOLDER [group=NAME ...] [field=value ...]
       genie-robot train --describe [--json FILE] [group=NAME ...] [field=value ...]

Same as `python train.py ...` (Hydra). Training is from video alone: no action is read unless you ask for it.

groups (files in configs/, each says what it is good for):
  stage=       all (in this order:) | tokenizer | latent_action | dynamics | assemble (only bundle the newest checkpoints)
  model=       tiny (2 CPU cores) | manipulation (the same, also led by robot actions) | small (one GPU) | base (onboard) |
               robotics_2_5b | platformers_11b | coinrun
  tokenizer=   preset (the model's own) | st_vivit | vit | c_vivit | magvit2
  recipe=      preset (the model's own) | paper | modern
  hardware=    auto | cpu | gpu | gpus (torchrun) | low_memory
  data=        tabletop | rt1 | bridge | rt1_bridge | oxe_magic_soup

fields:
  data.path=   RLDS / TFDS folder or one above it, rosbag2 or LeRobot folder, registered name (genie-robot data list), gs://...
  data.mixture=  instead: the name of a mixture or a YAML file; data.root= where registered names lie
  output=      where checkpoints, metrics.jsonl, sample pictures and the model folder go
  Any field of the configuration: training.dynamics.steps=500 hardware.precision=fp32 model.dynamics.action_mode=adaln

options:
  --describe   what this configuration costs, without data: parameters, FLOPs, memory, which GPU it fits, hours
  --json FILE  the same, for machines (- for the screen)

examples:
  genie-robot train model=tiny data.path=outputs/tabletop output=outputs/my_run
  genie-robot train stage=dynamics model=small recipe=modern hardware=gpu data.path=outputs/tabletop
  genie-robot train --describe model=robotics_2_5b hardware.recompute=full hardware.micro_batch_size=4
  torchrun --nproc-per-node=8 train.py model=robotics_2_5b hardware=gpus data=rt1 data.root=/data/oxe

The same words again go on from the newest checkpoint. Ctrl-C saves one first.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Only for the list of commands: `run_overrides` takes the words as they are."""
    subparsers.add_parser("train", add_help=False)


def wants_help(words: list[str]) -> bool:
    """True when the words ask for HELP."""
    return any(word in {"-h", "--help"} for word in words)


def run_overrides(overrides: list[str]) -> int:
    """Train with Hydra `overrides`, as `python train.py` does; returns its exit code."""
    if not overrides or wants_help(overrides):
        print(HELP)
        return 0 if overrides else 2
    from genie_robot.demo.process import run_child
    from genie_robot.demo.steps import REPOSITORY_ROOT
    from genie_robot.errors import ConfigError

    door = REPOSITORY_ROOT / "train.py"
    if not door.is_file():
        raise ConfigError(
            f"no {door}; training needs a checkout of the repository: pip install -e <checkout>"
        )
    return run_child([sys.executable, str(door), *overrides])


def describe_if_asked(words: list[str]) -> bool:
    """With --describe among the words: print what they would cost (and write --json FILE); True when it did.

    Raises ConfigError for words that do not make a configuration.
    """
    from genie_robot.errors import ConfigError

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    try:
        options, overrides = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}; see --help") from error
    if not options.describe:
        if options.json:
            raise ConfigError(f"--json: got {options.json} without --describe, wanted both; see --help")
        return False

    import json

    from genie_robot.cli._compose import compose
    from genie_robot.training.describe import as_text, describe

    report = describe(compose(overrides))
    print(as_text(report))
    if options.json == "-":
        print(json.dumps(report))
    elif options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n")
    return True
