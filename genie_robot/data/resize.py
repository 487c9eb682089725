"""The one way a frame is brought to the model's size: caches, serving and the ROS 2 camera all call `resize_frame`.

Rule: cut the largest centred rectangle with the wanted aspect ratio (its sides rounded to whole pixels, the spare
pixel left at the right or bottom), then cv2.INTER_AREA; where a side has to grow, cv2.INTER_LINEAR. A frame that has
the size already is returned as it is. INTER_LINEAR for shrinking aliases: 29 dB against an antialiased resize.
"""

from __future__ import annotations

import cv2
import numpy as np

from genie_robot.errors import ImageError


def resize_frame(image_YXC: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 RGB (Y, X, 3) of any size -> uint8 RGB (height, width, 3); ImageError for another type or shape."""
    if image_YXC.dtype != np.uint8 or image_YXC.ndim != 3 or image_YXC.shape[2] != 3 or 0 in image_YXC.shape:
        raise ImageError(
            f"got an image of {image_YXC.dtype} {image_YXC.shape}; wanted uint8 RGB (height, width, 3)"
        )
    rows, columns = image_YXC.shape[:2]
    if (rows, columns) == (height, width):
        return image_YXC
    top, left, crop_rows, crop_columns = centre_crop(rows, columns, height, width)
    crop = image_YXC[top : top + crop_rows, left : left + crop_columns]
    grows = height > crop_rows or width > crop_columns
    return cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR if grows else cv2.INTER_AREA)


def centre_crop(rows: int, columns: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, rows, columns) of what `resize_frame` keeps of a rows x columns image for a height x width one."""
    crop_rows = min(rows, max(1, round(columns * height / width)))
    crop_columns = min(columns, max(1, round(rows * width / height)))
    return (rows - crop_rows) // 2, (columns - crop_columns) // 2, crop_rows, crop_columns
