"""Train a world model: python train.py stage=all data=tabletop data.path=datasets/generated/tabletop model=tiny

stage   tokenizer | latent_action | dynamics | all (in this order; a finished stage is not trained again)
data    tabletop | rt1 | bridge, with data.path=<TFDS folder>
model   tiny | robotics_2_5b
Any field of the configuration can be given: training.dynamics.steps=500, hardware.precision=fp32, output=outputs/my_run.
Run it again with the same words to go on from the newest checkpoint.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from genie_robot.config import TrainConfig, from_dict, to_dict
from genie_robot.errors import GenieError

# Every field with its default, so that each can be overridden; the files in configs/ hold what differs.
ConfigStore.instance().store("all_fields", to_dict(TrainConfig()))


@hydra.main(version_base=None, config_path="configs", config_name="config")
def main(config: DictConfig) -> None:
    """Compose the configuration, train, and end with an exit code: 0 ok, 1 failed, 2 wrong use, 130 stopped."""
    logging.getLogger("genie_robot").setLevel(logging.INFO)
    values = OmegaConf.to_container(config, resolve=True)
    try:
        from genie_robot.training.run import run

        folder = run(from_dict(TrainConfig, values))  # type: ignore[arg-type]
    except GenieError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as interrupt:
        print(f"stopped: {interrupt or 'nothing was saved since the last checkpoint'}", file=sys.stderr)
        sys.exit(130)
    print(f"done: {Path(folder)}")


if __name__ == "__main__":
    main()
