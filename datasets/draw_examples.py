"""Draw the contact sheets of the data cards: python datasets/draw_examples.py [TASK ...]"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genie_robot.simulation.mujoco.manipulation.generate import PLAY, Recipe, generate_episode
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS

COLUMNS, ROWS, SIDE, MARGIN = 12, 8, 96, 18


def different_episodes(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield episodes of the training split whose behaviours differ as much as possible."""
    seen: list[str] = []
    for index in range(60):
        episode = generate_episode(recipe, index)
        kind = episode["attributes"]["collection_mode_name"].split("_skill")[0]
        if recipe.task == PLAY or seen.count(kind) < (2 if kind in ("expert", "noisy") else 1):
            seen.append(kind)
            yield episode


def draw(recipe: Recipe) -> np.ndarray:
    """Return the sheet, uint8 RGB: a row is an episode, its text says who drives and what came of it."""
    rows = []
    for _, episode in zip(range(ROWS), different_episodes(recipe), strict=False):
        frames = episode["frames_TYXC"][np.linspace(0, recipe.frames - 1, COLUMNS).astype(int)]
        large = [cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for frame in frames]
        strip = np.full((MARGIN, COLUMNS * (SIDE + 2), 3), 255, np.uint8)
        facts = episode["attributes"]
        text = f"{facts['collection_mode_name']} -> {facts['data_type_name']}: {episode['instruction']}"
        cv2.putText(strip, text, (2, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        padded = [np.pad(frame, ((0, 2), (0, 2), (0, 0)), constant_values=255) for frame in large]
        rows += [strip, np.hstack(padded)]
    return np.vstack(rows)


def main() -> None:
    """Draw the sheets of the tasks named, of all without names."""
    for task in sys.argv[1:] or (*TASKS, PLAY):
        recipe = Recipe(task)
        file = Path(__file__).parent / recipe.name / "examples.png"
        file.write_bytes(cv2.imencode(".png", draw(recipe)[..., ::-1])[1].tobytes())
        print(file)


if __name__ == "__main__":
    main()
