"""Frames to PNG files and into HTML: strips, sheets, sprites. Pictures stay pixel-exact (PNG)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

GAP = 2


def save_png(path: Path, image_YXC: np.ndarray) -> str:
    """Write an RGB uint8 image (Y, X, 3) as PNG; returns the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, buffer = cv2.imencode(
        ".png", cv2.cvtColor(image_YXC, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )
    assert done, path
    path.write_bytes(buffer.tobytes())
    return path.name


def strip(frames_TYXC: np.ndarray) -> np.ndarray:
    """Frames (T, Y, X, 3) side by side without gaps, as a sprite needs them: (Y, T * X, 3)."""
    return np.ascontiguousarray(np.concatenate(list(frames_TYXC), axis=1))


def sheet(rows: Sequence[np.ndarray], gap: int = GAP) -> np.ndarray:
    """Rows of frames, each (T, Y, X, 3), as one picture with white gaps; short rows are filled with white."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    picture = np.full((len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, frame in enumerate(row):
            picture[
                r * (height + gap) : r * (height + gap) + height,
                c * (width + gap) : c * (width + gap) + width,
            ] = frame
    return picture


def data_uri(path: Path) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def png_size(path: Path) -> tuple[int, int]:
    """(width, height) of a PNG file, from its header."""
    header = path.read_bytes()[:24]
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def image_html(path: Path, alt: str, scale: float = 2.0) -> str:
    """An <img> with the picture inside, `scale` times its size in pixels, shrinking with the window."""
    width, _ = png_size(path)
    return f'<img src="{data_uri(path)}" alt="{alt}" style="width:{width * scale:.0f}px">'


def sprite_html(path: Path, frames: int, size: int = 128, step_s: float = 0.2, hold: int = 2) -> str:
    """A strip PNG of `frames` square frames shown as an endless film by CSS alone (pauses under the pointer).

    Args:
        path: the strip's file.
        frames: how many frames it holds.
        size: width and height on the page in CSS pixels.
        step_s: time of one frame.
        hold: how many steps the last frame stays before the film starts again.
    """
    style = (
        f"width:{size}px;height:{size}px;background-image:url({data_uri(path)});"
        f"background-size:{frames * size}px {size}px;--travel:-{(frames - 1) * size}px;"
        f"animation-duration:{(frames - 1 + hold) * step_s:.2f}s;"
        f"animation-timing-function:steps({frames - 1},end)"
    )
    return f'<div class="sprite" style="{style}"></div>'
