"""Pictures of evaluations: labelled grids, strips, GIF and MP4, with OpenCV alone. Frames are uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from genie_robot.errors import DataError, DiskFullError, ImageError

_INK, _PAPER = (30, 30, 30), 255
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    """Frame (Y, X, 3) with each pixel repeated `scale` times both ways."""
    return np.repeat(np.repeat(frame, scale, axis=0), scale, axis=1)


def text_block(lines: Sequence[str], height: int, width: int, size: float = 0.42) -> np.ndarray:
    """White picture (height, width, 3) with lines of text, vertically centred, shrunk where a line is too long."""
    image = np.full((height, width, 3), _PAPER, dtype=np.uint8)
    pitch = round(36 * size)
    top = (height - pitch * (len(lines) - 1)) // 2 + round(9 * size)
    for place, line in enumerate(lines):
        (length, _), _ = cv2.getTextSize(line, _FONT, size, 1)
        fitted = size * min(1.0, (width - 8) / max(1, length))
        cv2.putText(image, line, (4, top + place * pitch), _FONT, fitted, _INK, 1, cv2.LINE_AA)
    return image


def grid(
    cells: Sequence[Sequence[np.ndarray]],
    row_labels: Sequence[Sequence[str]],
    column_labels: Sequence[str] = (),
    *,
    scale: int = 2,
    gap: int = 3,
    label_width: int = 150,
) -> np.ndarray:
    """Labelled grid: `cells[row][column]` frames of one size, `row_labels[row]` lines of text left of each row."""
    rows = []
    for frames, lines in zip(cells, row_labels, strict=True):
        big = [enlarge(frame, scale) for frame in frames]
        spaced = [np.pad(b, ((0, gap), (gap, 0), (0, 0)), constant_values=_PAPER) for b in big]
        rows.append(np.concatenate([text_block(lines, spaced[0].shape[0], label_width), *spaced], axis=1))
    if column_labels:
        width = rows[0].shape[1] - label_width
        each = width // len(column_labels)
        head = [text_block([label], 22, each) for label in column_labels]
        row = np.concatenate([text_block([""], 22, label_width), *head], axis=1)
        rows.insert(
            0, np.pad(row, ((0, 0), (0, rows[0].shape[1] - row.shape[1]), (0, 0)), constant_values=_PAPER)
        )
    return np.concatenate(rows, axis=0)


def write_png(path: Path | str, image: np.ndarray) -> Path:
    """Write an RGB picture; DataError when the folder cannot be written, DiskFullError when there is no space."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ok, encoded = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    assert ok, f"OpenCV did not encode a picture of {image.dtype} {image.shape}"
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        if error.errno == 28:
            raise DiskFullError(f"no space left to write {path}; free some and run again") from error
        raise DataError(f"cannot write {path} ({error.strerror}); name another place") from error
    return path


def write_gif(path: Path | str, frames: np.ndarray, dt_s: float, scale: int = 4) -> Path | None:
    """Write frames (T, Y, X, 3) as an endless GIF; None where this OpenCV (before 4.11) cannot write one."""
    if not hasattr(cv2, "imwriteanimation"):
        return None
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    film = cv2.Animation()
    film.frames = [np.ascontiguousarray(enlarge(frame, scale)[..., ::-1]) for frame in frames]
    film.durations = np.full(len(frames), round(1000 * dt_s), dtype=np.int32)
    if not cv2.imwriteanimation(str(path), film):
        raise DataError(
            f"OpenCV could not write {path}; wanted a place with space that may be written; name another"
        )
    return path


def write_mp4(path: Path | str, frames: np.ndarray, dt_s: float, scale: int = 4) -> Path:
    """Write frames (T, Y, X, 3) as MP4 (MPEG-4 part 2, what OpenCV's wheels can always write)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = (side * scale for side in frames.shape[1:3])
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 1.0 / dt_s, (width, height))
    if not writer.isOpened():
        raise DataError(f"OpenCV could not write {path}; wanted a place that may be written; name another")
    for frame in frames:
        writer.write(np.ascontiguousarray(enlarge(frame, scale)[..., ::-1]))
    writer.release()
    return path


def read_image(path: Path | str) -> np.ndarray:
    """Image file -> uint8 RGB (Y, X, 3); ImageError when it is missing or no image."""
    data = np.fromfile(path, dtype=np.uint8) if Path(path).is_file() else np.zeros(0, dtype=np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ImageError(f"{path} is not an image that can be read; wanted a PNG or JPEG file")
    return np.ascontiguousarray(image[..., ::-1])


def read_video(path: Path | str, dt_s: float | None = None) -> np.ndarray:
    """Video file -> uint8 RGB (T, Y, X, 3), thinned to one frame each `dt_s` seconds if given."""
    if not Path(path).is_file():
        raise DataError(f"no video at {path}; wanted a file such as MP4 or GIF")
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 0.0
    stride = max(1.0, rate * dt_s) if dt_s and rate > 0 else 1.0
    frames: list[np.ndarray] = []
    index = 0
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        if index >= round(len(frames) * stride):
            frames.append(frame[..., ::-1])
        index += 1
    capture.release()
    if not frames:
        raise DataError(f"{path} holds no frame that OpenCV can read; wanted a video such as MP4 or GIF")
    return np.stack(frames)
