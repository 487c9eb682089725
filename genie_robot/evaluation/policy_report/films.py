"""The report's films: MuJoCo and imagination side by side, from the same start, in step, without any script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from genie_robot.errors import DataError, ImageError
from genie_robot.evaluation.films import SCALE, episode_path
from genie_robot.evaluation.pictures import read_video
from genie_robot.report.page import number, paragraph, section

Summary = Mapping[str, Any]
WORLDS = ("mujoco", "imagined")
WIDEST = 16_000  # pixels; WebP ends at 16383
QUALITY = 80
SIZE, STILL = 150, 96  # of a film and of a still on the page [CSS pixels]
STILLS = 6
HOLD = 4  # steps that the last frame stays


def films_section(summary: Summary, out_dir: Path) -> str:
    """The episodes that `choose_films` named."""
    films = summary["films"]
    shown = "".join(_film(film, index, summary["dt_s"], out_dir) for index, film in enumerate(films))
    return section(
        "films",
        "The largest disagreements, side by side",
        paragraph(
            "Chosen by rule, not by eye: of each cell (policy x task) whose rates differ most, the first seed that shows the "
            "cell's kind of error; then one agreeing success and one agreeing failure. Left MuJoCo, right imagination."
        ),
        shown or paragraph("No episode came out differently in the two worlds."),
    )


def _film(film: Summary, index: int, dt_s: float, out_dir: Path) -> str:
    title = f"<b>{escape(film['policy'])}</b>, {escape(film['task'])}, seed {film['seed']}: {escape(film['kind'])}"
    text = f"<p>{title}<br><small>{_verdicts(film)}</small></p>"
    try:
        both_WTYXC, every = _both(film, out_dir)
    except ImageError:
        return (
            f'<div class="filmbox">{text}<p class="faint">not shown: the two films differ in size</p></div>'
        )
    except DataError:
        return f'<div class="filmbox">{text}<p class="faint">film not stored</p></div>'
    frames = both_WTYXC.shape[1]
    name = f"film{index}"
    moving = "".join(
        f'<div style="text-align:center">{_moving(name, row, frames, every * dt_s)}<small>{world}</small></div>'
        for row, world in enumerate(("MuJoCo", "imagined"))
    )
    stills = "".join(
        f'<div class="stills" style="margin-bottom:3px">{_stills(name, row, frames)}</div>' for row in (0, 1)
    )
    style = f"<style>.{name}{{background-image:url({_sheet(both_WTYXC)})}}</style>"
    return f'<div class="filmbox">{style}{text}<div class="row" style="gap:16px">{moving}<div>{stills}</div></div></div>'


def _verdicts(film: Summary) -> str:
    second = film["second_judge"]
    parts = [
        f"MuJoCo: {_outcome(film['mujoco_success'], film['mujoco_step'], film['mujoco_distance_m'])}",
        f"judge on MuJoCo's pictures: {_word(film['judge_on_true_pictures'])}",
        f"imagined: {_outcome(film['imagined_success'], film['imagined_step'], film['imagined_distance_m'])}",
    ]
    if second is not None:
        parts.append(f"second judge: {_word(second)}")
    if film["invalid"]:
        parts.append("film cannot be judged")
    return "; ".join(parts)


def _outcome(success: bool, step: int, distance_m: float | None) -> str:
    when = f" at step {step}" if success and step else ""
    if distance_m is None:
        end = ""
    else:
        far = "over a metre" if distance_m > 1 else f"{number(100 * distance_m, 1)} cm"
        end = f", {far} from the goal at the end"
    return f"{_word(success)}{when}{end}"


def _word(success: bool) -> str:
    return "success" if success else "failure"


def _both(film: Summary, out_dir: Path) -> tuple[np.ndarray, int]:
    """Both films at their own size and equal length, uint8 (2, T, Y, X, 3): each n-th frame, as one picture can hold; n.

    Raises DataError when one is not stored, ImageError when they differ in size.
    """
    films = []
    for world in WORLDS:
        place = (world, film["task"], film["policy"], film["seed"])
        frames = read_video(episode_path(out_dir, "videos", place, ".mp4"))
        size = frames.shape[2] // SCALE, frames.shape[1] // SCALE
        films.append([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])
    if films[0][0].shape != films[1][0].shape:
        sizes = " and ".join(f"{one[0].shape[1]}x{one[0].shape[0]}" for one in films)
        raise ImageError(f"the two films are of {sizes} pixels; wanted one size; run these episodes again")
    length = min(map(len, films))
    every = -(-length * films[0][0].shape[1] // WIDEST)
    return np.stack([np.stack(frames[:length:every]) for frames in films]), every


def _sheet(both_WTYXC: np.ndarray) -> str:
    """All frames as one picture in a data URI: a row for each world, time from left to right."""
    rows = [np.concatenate(list(film), axis=1) for film in both_WTYXC]
    picture = np.concatenate(rows)[..., ::-1]
    done, data = cv2.imencode(".webp", np.ascontiguousarray(picture), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    assert done, picture.shape
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode()


def _moving(name: str, row: int, frames: int, dt_s: float) -> str:
    style = (
        f"width:{SIZE}px;height:{SIZE}px;background-size:{frames * SIZE}px {len(WORLDS) * SIZE}px;"
        f"background-position-y:-{row * SIZE}px;--travel:-{(frames - 1) * SIZE}px;"
        f"animation-duration:{(frames - 1 + HOLD) * dt_s:.2f}s;animation-timing-function:steps({max(1, frames - 1)},end)"
    )
    return f'<div class="sprite {name}" style="{style}"></div>'


def _stills(name: str, row: int, frames: int) -> str:
    chosen = np.linspace(0, frames - 1, min(STILLS, frames)).round().astype(int)
    return "".join(
        f'<div class="{name}" style="width:{STILL}px;height:{STILL}px;'
        f"background-size:{frames * STILL}px {len(WORLDS) * STILL}px;"
        f'background-position:-{index * STILL}px -{row * STILL}px"></div>'
        for index in chosen
    )
