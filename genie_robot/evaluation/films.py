"""What is kept of an episode beside its rows: the actions and states as .npz, the film as MP4. See `episodes`."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from genie_robot.data.atomic import whole_file
from genie_robot.data.video import write_h264
from genie_robot.errors import DataError
from genie_robot.evaluation.episodes import file_name

SCALE = 3
"""A film shows each pixel as 3 x 3, so that 64 pixels can be looked at."""
_CRF = 18
Place = tuple[str, str, str, int]
"""(world, task, policy, seed)."""


def episode_path(out_dir: Path, kind: str, place: Place, suffix: str) -> Path:
    """Where a file of an episode lies; `kind` is "videos" or "trajectories"."""
    world, task, policy, seed = place
    return out_dir / kind / world / task / file_name(policy) / f"{seed}{suffix}"


def save_episode(
    out_dir: Path,
    place: Place,
    frames_TYXC: np.ndarray,
    actions_SA: np.ndarray,
    states_TK: np.ndarray,
    dt_s: float,
) -> None:
    """Write film and trajectory; each file appears whole or not at all."""
    big_TYXC = frames_TYXC.repeat(SCALE, axis=1).repeat(SCALE, axis=2)
    write_h264(episode_path(out_dir, "videos", place, ".mp4"), big_TYXC, dt_s, crf=_CRF)
    path = episode_path(out_dir, "trajectories", place, ".npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez(file, actions_S7=actions_SA.astype(np.float32), states_TS=states_TK.astype(np.float32))


def load_actions(out_dir: Path, place: Place) -> np.ndarray:
    """Actions, float32 (S, 7), of a stored episode; DataError when they are gone or damaged."""
    path = episode_path(out_dir, "trajectories", place, ".npz")
    try:
        with np.load(path) as stored:
            return stored["actions_S7"]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read ({error}), but episodes.csv has its row; delete the row, or give another --out folder"
        ) from error
