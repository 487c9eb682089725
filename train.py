"""Train a world model: python train.py data.path=outputs/tabletop model=tiny output=outputs/my_run

What can be given: python train.py --help. What it costs: python train.py --describe model=base.
Run it again with the same words to go on from the newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import sys

import hydra
from omegaconf import DictConfig, OmegaConf

from genie_robot.cli._compose import compose, register_fields
from genie_robot.cli.train import HELP, describe_if_asked, wants_help
from genie_robot.config import TrainConfig, from_dict
from genie_robot.errors import GenieError


@hydra.main(version_base=None, config_path="configs", config_name="config")
def train(config: DictConfig) -> None:
    """Compose the configuration, train, and end with an exit code: 0 ok, 1 failed, 2 wrong use, 130 stopped."""
    logging.getLogger("genie_robot").setLevel(logging.INFO)
    values = OmegaConf.to_container(config, resolve=True)
    try:
        from genie_robot.training.run import run

        folder = run(from_dict(TrainConfig, values))  # type: ignore[arg-type]
    except GenieError as error:
        _wrong(error)
    except KeyboardInterrupt as interrupt:
        if os.environ.get("RANK", "0") == "0":  # once, of several processes
            print(f"stopped: {interrupt or 'nothing was saved since the last checkpoint'}", file=sys.stderr)
        sys.exit(130)
    print(f"done: {folder}")


def main() -> None:
    """Options of our own first, then Hydra."""
    words = sys.argv[1:]
    if wants_help(words):
        print(HELP)
        return
    try:
        if describe_if_asked(words):
            return
        if not any(
            word.startswith("-") for word in words
        ):  # Hydra's own options, like --multirun, are Hydra's
            compose(words)  # a mistake is one line that says what is allowed
    except GenieError as error:
        _wrong(error)
    register_fields()
    train()


def _wrong(error: GenieError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
