"""What a run writes while it trains: metrics.jsonl first, TensorBoard beside it, pictures, Weights & Biases on request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tensorboardX import SummaryWriter

from genie_robot.errors import ConfigError


class RunLog:
    """Rows of numbers. Going on from `step` drops the rows that a killed run wrote after it."""

    def __init__(self, folder: Path, stage: str, step: int, wandb_project: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.stage = folder, stage
        self.path = folder / "metrics.jsonl"
        rows = [row for row in read_rows(self.path) if row["step"] <= step] if step else []
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)
        self._wandb = _wandb_run(wandb_project, folder, stage) if wandb_project else None

    def write(self, step: int, split: str, values: dict[str, Any]) -> None:
        """One row: numbers of `split` ("train" or "validation") at `step`."""
        row = {"stage": self.stage, "step": step, "split": split, **values}
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")
        numbers = {
            f"{self.stage}/{split}/{name}": value
            for name, value in values.items()
            if isinstance(value, (int, float))
        }
        for name, value in numbers.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)

    def picture(self, step: int, rows: list[np.ndarray]) -> Path:
        """Rows of frames (each uint8 (T,Y,X,3)) under each other, as samples/step_<step>.png."""
        grid = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
        path = self.folder / "samples" / f"step_{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        big = cv2.resize(grid, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(path), big[..., ::-1])
        return path

    def close(self) -> None:
        """Flush TensorBoard and end the Weights & Biases run."""
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()


def _wandb_run(project: str, folder: Path, stage: str) -> Any:
    """One run per output folder and stage, gone on with after a resume."""
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"wandb: got project {project!r}, but wandb is not installed; pip install wandb, or leave wandb empty"
        ) from error
    name = f"{folder.parent.name}-{stage}"
    return wandb.init(project=project, name=name, id=name, resume="allow", dir=str(folder))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics.jsonl; a last line cut by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
