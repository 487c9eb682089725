"""Several imagined frames in one picture, under their names: for an image panel of RViz, Foxglove or rqt.

Pure: frames in, picture out. Frames are uint8 RGB. A small frame is enlarged by a whole number, so that no pixel is
made up; a large one is reduced, so that a sheet of camera images stays a message of about a megabyte.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from genie_robot import LatentAction

MIN_TILE, MAX_TILE = 128, 320  # shorter side at least, longer side at most [pixels]
GAP = 6
BACKGROUND = (36, 36, 36)
INK = (235, 235, 235)
HORIZON_COLUMNS = 8
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LETTER_HEIGHT = 22  # of _FONT at size 1, capitals [pixels]
_LABEL_LETTERS = 11  # a tile is as wide as this many of its label's letters are high
SMALLEST_TEXT = 0.25  # in OpenCV's unit; a longer label is cut


def contact_sheet(frames_AYXC: np.ndarray, actions: Sequence[LatentAction], columns: int = 4) -> np.ndarray:
    """The futures of one moment, `frames_AYXC[i]` with `actions[i]`, each over its code and measured name.

    Returns uint8 (Y, X, 3), `columns` tiles wide or fewer.
    """
    return _sheet(frames_AYXC, [f"{action.code} {action.name}".strip() for action in actions], columns)


def horizon_strip(frames_TYXC: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Frames one after another, left to right, each over its name: "camera", "+1 left", "+2 left" ...

    Returns uint8 (Y, X, 3); a row holds at most `HORIZON_COLUMNS` frames.
    """
    return _sheet(frames_TYXC, names, HORIZON_COLUMNS)


def _sheet(frames_NYXC: np.ndarray, labels: Sequence[str], columns: int) -> np.ndarray:
    """Tiles in rows of `columns`, each with its label below; places that stay empty show the background."""
    assert len(frames_NYXC) == len(labels) > 0, (frames_NYXC.shape, len(labels))
    tiles = [_tile(frame_YXC) for frame_YXC in frames_NYXC]
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    texts = [label.encode("ascii", errors="replace").decode() for label in labels]
    size, thickness = _text_size(texts, width)
    letters = round(width / _LABEL_LETTERS)  # height [pixels]
    pitch_y, pitch_x = height + 2 * letters + GAP, width + GAP
    sheet_YXC = np.full((rows * pitch_y + GAP, columns * pitch_x + GAP, 3), BACKGROUND, np.uint8)
    for place, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
        top = GAP + place // columns * pitch_y
        left = GAP + place % columns * pitch_x
        sheet_YXC[top : top + height, left : left + width] = tile
        label = np.full((2 * letters, width, 3), BACKGROUND, np.uint8)
        (length, _), _ = cv2.getTextSize(text, _FONT, size, thickness)
        at = (max(0, (width - length) // 2), round(1.6 * letters))
        cv2.putText(label, text, at, _FONT, size, INK, thickness, cv2.LINE_AA)
        sheet_YXC[top + height : top + height + 2 * letters, left : left + width] = label
    return sheet_YXC


def _tile(frame_YXC: np.ndarray) -> np.ndarray:
    """The frame enlarged by a whole number to MIN_TILE, or reduced to MAX_TILE."""
    height, width = frame_YXC.shape[:2]
    if max(height, width) > MAX_TILE:
        scale = MAX_TILE / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return cv2.resize(frame_YXC, size, interpolation=cv2.INTER_AREA)
    times = math.ceil(MIN_TILE / min(height, width))
    return frame_YXC.repeat(times, axis=0).repeat(times, axis=1)


def _text_size(texts: Sequence[str], width: int) -> tuple[float, int]:
    """Size and thickness of the letters, one for all: smaller where the longest text needs it, but never tiny."""
    size = width / _LABEL_LETTERS / _LETTER_HEIGHT
    thickness = max(1, round(2 * size))
    while size > SMALLEST_TEXT:
        if max(cv2.getTextSize(text, _FONT, size, thickness)[0][0] for text in texts) <= width - 2:
            break
        size *= 0.9  # in steps: OpenCV rounds letters to pixels, so that their length is not in proportion
    return size, thickness
