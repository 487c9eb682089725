"""Words of the command line -> TrainConfig, by Hydra and the files in configs/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genie_robot.config import TrainConfig, from_dict, to_dict
from genie_robot.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def register_fields() -> None:
    """Give Hydra every field with its default, so that each can be overridden; the files hold what differs."""
    ConfigStore.instance().store("all_fields", to_dict(TrainConfig()))


def choices(group: str) -> list[str]:
    """Names that `group=` takes."""
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def compose(overrides: Sequence[str] = ()) -> TrainConfig:
    """The configuration that `train.py` would train with. Raises ConfigError, in one line, for any mistake."""
    register_fields()
    try:
        with initialize_config_dir(str(CONFIGS), version_base=None):
            values = OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(str(error))) from error
    return from_dict(TrainConfig, values)  # type: ignore[arg-type]


def _one_line(message: str) -> str:
    """Hydra's answer with what is allowed instead of how Hydra looked for it."""
    if match := re.search(r"Could not find '(\w+)/([^']+)'", message):
        group, name = match.groups()
        return f"{group}: got {name!r}, wanted one of {', '.join(choices(group))}"
    if match := re.search(r"Could not override '([^']+)'", message):
        return _unknown_field(match[1].split("."))
    return " ".join(message.split())


def _unknown_field(path: list[str]) -> str:
    known: Any = to_dict(TrainConfig())
    for depth, name in enumerate(path):
        if not isinstance(known, dict) or name not in known:
            where = ".".join(path[:depth]) or "command line"
            names = ", ".join(known) if isinstance(known, dict) else "nothing below it"
            return f"{where}: unknown field {name!r}, known are {names}"
        known = known[name]
    return f"{'.'.join(path)}: cannot be set like this"
