"""`genie-robot train ...`: the door of `train.py`, from any directory."""

from __future__ import annotations

import argparse
import sys

HELP = """usage: genie-robot train stage=STAGE data.path=FOLDER [model=PRESET] [output=FOLDER] [key=value ...]

Same as `python train.py ...` (Hydra). Training is from video alone: no action is ever read.

  stage=       tokenizer | latent_action | dynamics | all (in this order; a finished stage is not trained again)
  data.path=   an RLDS / TFDS dataset: the folder with dataset_info.json, or one above it
  model=       tiny | robotics_2_5b
  output=      where checkpoints, metrics.jsonl, sample pictures and the model folder go
  Any field of the configuration can be given: training.dynamics.steps=500 hardware.precision=fp32

examples:
  genie-robot train stage=all model=tiny data.path=outputs/tabletop output=outputs/my_run
  genie-robot train stage=dynamics model=tiny data.path=outputs/tabletop output=outputs/my_run

The same words again go on from the newest checkpoint. Ctrl-C saves one first.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Only for the list of commands: `run_overrides` takes the words as they are."""
    subparsers.add_parser("train", add_help=False)


def run_overrides(overrides: list[str]) -> int:
    """Train with Hydra `overrides`, as `python train.py` does; returns its exit code."""
    if not overrides or overrides[0] in {"-h", "--help"}:
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
