"""What the `data` commands print for people and write for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def say(json_path: str | None, text: str) -> None:
    """Print `text`, unless the screen is for the JSON (`--json -`)."""
    if json_path != "-":  # the screen is for the JSON alone, so that it can be piped
        print(text)


def write_json(json_path: str | None, content: dict[str, Any]) -> None:
    """Write `content` where `--json` says: a file, the screen for "-", nowhere for None."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if json_path == "-":
        print(text)
    elif json_path:
        Path(json_path).parent.mkdir(parents=True, exist_ok=True)
        Path(json_path).write_text(text + "\n", encoding="utf-8")
