"""What a run writes while it trains: metrics.jsonl first, TensorBoard beside it, and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tensorboardX import SummaryWriter


class RunLog:
    """Rows of numbers. Going on from `step` drops the rows that a killed run wrote after it."""

    def __init__(self, folder: Path, stage: str, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.stage = folder, stage
        self.path = folder / "metrics.jsonl"
        rows = [row for row in read_rows(self.path) if row["step"] <= step] if step else []
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """One row: numbers of `split` ("train" or "validation") at `step`."""
        row = {"stage": self.stage, "step": step, "split": split, **values}
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in values.items():
            if isinstance(value, (int, float)):
                self._board.add_scalar(f"{self.stage}/{split}/{name}", value, step)

    def picture(self, step: int, rows: list[np.ndarray]) -> Path:
        """Rows of frames (each uint8 (T,Y,X,3)) under each other, as samples/step_<step>.png."""
        grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
        path = self.folder / "samples" / f"step_{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        big = cv2.resize(grid, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(path), big[..., ::-1])
        return path

    def close(self) -> None:
        """Flush TensorBoard."""
        self._board.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line cut by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
