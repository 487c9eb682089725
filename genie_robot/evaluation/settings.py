"""What the episodes in a folder were run with, so that different experiments never mix in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genie_robot.config import to_dict
from genie_robot.data.atomic import whole_file
from genie_robot.data.provenance import provenance
from genie_robot.errors import ConfigError
from genie_robot.evaluation.evaluation_config import EvaluationConfig

SETTINGS_FILE, CONFIG_FILE = "settings.json", "evaluation.yaml"
FREE = ("seeds", "policies", "tasks", "horizons", "worlds")
"""More of these only adds rows, fewer only leaves some out; any other change would mix different experiments."""
HARMLESS = ("name", "unseen_policies", "policy_timeout_s", "i_know")


def keep_settings(out_dir: Path, config: EvaluationConfig, hashes: Mapping[str, str]) -> None:
    """Write the settings into `out_dir`; ConfigError when it holds episodes of others, or longer ones.

    hashes: of what decides the outcomes, by name; one that was not needed before may be new.
    """
    settings: dict[str, Any] = to_dict(config) | {"hashes": dict(hashes)}
    path, before = out_dir / SETTINGS_FILE, {}
    if path.is_file() and (out_dir / "episodes.csv").is_file():
        before = read_settings(path)
        free = (*FREE, *HARMLESS, "hashes")
        other = [key for key in settings if key not in free and before.get(key) != settings[key]]
        known: dict[str, str] = before.get("hashes", {})
        other += [key for key in hashes if known.get(key, hashes[key]) != hashes[key]]
        if other:
            raise ConfigError(
                f"{out_dir} holds episodes with another {', '.join(other)}; wanted the same settings to go on; give "
                "another --out folder, or delete this one"
            )
        longest = max(before.get("horizons", config.horizons))
        if config.horizon < longest:  # its films would be replaced by shorter ones
            raise ConfigError(
                f"{out_dir} holds episodes of {longest} steps, got horizons up to {config.horizon}; wanted {longest} among them; "
                "give another --out folder"
            )
        settings["hashes"] = known | dict(hashes)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_settings(path, settings, before)
    (out_dir / CONFIG_FILE).write_text(config.text, encoding="utf-8")


def write_settings(path: Path, settings: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Write settings as JSON, and `made_with`; the file appears whole or not at all.

    before: the settings that are replaced, whose `made_with` is kept: one entry (`provenance`) for each machine or version that
    worked in the folder.
    """
    known, now = list(before.get("made_with", ())), provenance()
    content = dict(settings) | {"made_with": known + [now] * (now not in known)}
    with whole_file(path) as file:
        file.write((json.dumps(content, indent=1) + "\n").encode())


def made_with(out_dir: Path) -> tuple[dict[str, str], ...]:
    """What a folder was made with, see `write_settings`; empty for one without settings."""
    path = out_dir / SETTINGS_FILE
    return tuple(read_settings(path).get("made_with", ())) if path.is_file() else ()


def read_settings(path: Path) -> dict[str, Any]:
    """Settings that `write_settings` wrote; ConfigError for a file that is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read ({error}); give another --out folder") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no settings; give another --out folder")
    return content
