"""Demo step: make a small tabletop dataset in RLDS form and read it back as the trainer does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from genie_robot.demo.steps import Context, Result
from genie_robot.report.pictures import save_png, sheet

SHEET_ROWS, SHEET_COLUMNS = 8, 10


def make_data(
    context: Context, *, train_episodes: int, val_episodes: int, test_episodes: int, frames: int, seed: int
) -> Result:
    """Generate the dataset into the step's folder, read it back, and describe it."""
    from genie_robot.simulation.mujoco.generate import generate_dataset

    folder = generate_dataset(
        context.folder / "dataset",
        train_episodes,
        val_episodes,
        test_episodes,
        frames_per_episode=frames,
        seed=seed,
        overwrite=True,
    )
    context.say("reading it back with the trainer's reader, actions untouched")
    return describe(folder, context.folder)


def describe(dataset_folder: Path, folder: Path) -> Result:
    """Counts, solved tasks and a contact sheet of the dataset; the picture goes into `folder`."""
    from genie_robot.data.open import open_dataset

    dataset = open_dataset(dataset_folder)
    splits, sheet_rows, bad_records = [], [], 0
    height = width = 0
    for split in dataset.splits:
        tasks: Counter[str] = Counter()
        episodes = frames = solved = tried = 0
        for episode in dataset.episodes(split, state=True, skip_bad=True):
            assert episode.actions_TA is None, "actions were read without being asked for"
            task = episode.instruction.split()[0]
            tasks[task] += 1
            episodes, frames = episodes + 1, frames + episode.num_frames
            height, width = episode.frames_TYXC.shape[1:3]
            if episode.state_TS is not None and (reached := _solved(task, episode.state_TS)) is not None:
                tried, solved = tried + 1, solved + reached
            if len(sheet_rows) < SHEET_ROWS and split == "train":
                columns = np.linspace(0, episode.num_frames - 1, SHEET_COLUMNS).round().astype(int)
                sheet_rows.append(episode.frames_TYXC[columns])
        bad_records += dataset.bad_records
        splits.append(
            {
                "split": split,
                "episodes": episodes,
                "frames": frames,
                "tasks": dict(sorted(tasks.items())),
                "solved": solved,
                "tried": tried,
            }
        )
    picture = save_png(folder / "data_sheet.png", sheet(sheet_rows))
    size = sum(path.stat().st_size for path in dataset_folder.rglob("*") if path.is_file())
    return {
        "dataset": str(dataset_folder),
        "splits": splits,
        "height": int(height),
        "width": int(width),
        "rate_hz": round(1.0 / dataset.dt_s, 4),
        "bad_records": bad_records,
        "size_mb": round(size / 1e6, 2),
        "pictures": {"sheet": picture},
    }


def _solved(task: str, states_TS: np.ndarray) -> bool | None:
    """Whether a task episode reached its goal at any time; None for play, which has no goal."""
    from genie_robot.simulation.mujoco.tasks import TASKS, task_success

    return any(task_success(task, state) for state in states_TS) if task in TASKS else None
