"""ROS messages <-> numpy: images, camera calibration, robot actions. Pure functions: no node, no executor, no state.

Whatever a network delivers gives a value or the one documented error, in one line: `ImageError` for images and camera
calibration, `ActionError` for actions (`genie_robot.errors`). Images are read by the function that reads them from
bags (`genie_robot.data.bags.images`, which lists the encodings), so that a recording gives the frames of the live camera.
"""

from __future__ import annotations

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from genie_robot_interfaces.msg import RobotAction
from geometry_msgs.msg import Vector3
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from genie_robot.data.bags.images import MAX_PIXELS, decode_frame
from genie_robot.data.resize import centre_crop
from genie_robot.errors import ActionError, ImageError

NANOSECONDS = 1_000_000_000
ACTION_SIZE = 7


def stamp_to_ns(stamp: Time) -> int:
    """ROS time -> nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds (>= 0) -> ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def image_to_frame(msg: Image, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Image message -> RGB frame, uint8 (Y, X, 3), own memory; ImageError if the message is not sound.

    A 16-bit channel keeps its high byte. Depth pictures (16UC1, 32FC1: REP 118) are refused.
    """
    return decode_frame(msg, max_pixels)


def frame_to_image(frame_YXC: np.ndarray, header: Header) -> Image:
    """RGB frame, uint8 (Y, X, 3) -> Image message (rgb8)."""
    _check_frame(frame_YXC)
    height, width = frame_YXC.shape[:2]
    msg = Image(header=header, height=height, width=width, encoding="rgb8", is_bigendian=0, step=3 * width)
    _fill(msg, np.ascontiguousarray(frame_YXC))
    return msg


def compressed_to_frame(msg: CompressedImage, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """JPEG or PNG CompressedImage -> RGB frame, uint8 (Y, X, 3); ImageError if it is not whole or does not decode.

    The pixels as they are stored: an EXIF orientation is ignored, as a raw image would not carry it. A 16-bit PNG keeps
    the high byte, an alpha channel is dropped.
    """
    return decode_frame(msg, max_pixels)


def frame_to_compressed(frame_YXC: np.ndarray, header: Header, jpeg_quality: int = 90) -> CompressedImage:
    """RGB frame, uint8 (Y, X, 3) -> JPEG CompressedImage, with the format string image_transport writes."""
    _check_frame(frame_YXC)
    flags = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    encoded = cv2.imencode(".jpg", cv2.cvtColor(frame_YXC, cv2.COLOR_RGB2BGR), flags)[1]
    msg = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    _fill(msg, encoded)
    return msg


def scaled_camera_info(
    info: CameraInfo, height: int, width: int, model_height: int, model_width: int, header: Header
) -> CameraInfo:
    """The live camera's calibration `info` -> that of the imagined image of height x width pixels.

    On its way the camera image was brought to model_height x model_width by `resize_frame` (centre crop, then resize)
    and fitted from there into height x width (`letterbox_box`); K and P follow, pixel centres at whole numbers as
    OpenCV's resize has them. Distortion and R are in coordinates that neither step changes. The camera's binning and
    region of interest are worked in, so the answer has none. A camera that is not calibrated (K zero) stays so.

    Raises ImageError for a calibration that is no calibration: numbers that are not finite, a size of zero, a region of
    interest outside of the image.
    """
    scaled = CameraInfo(header=header, height=height, width=width, distortion_model=info.distortion_model)
    if info.k[0] == 0.0:
        scaled.distortion_model = ""
        return scaled
    to_image_33, rows, columns = _sensor_to_image(info)
    crop = centre_crop(rows, columns, model_height, model_width)
    whole = (0, 0, model_height, model_width)
    to_model_33 = _move_matrix(crop, whole)
    to_output_33 = _move_matrix(whole, letterbox_box(model_height, model_width, height, width))
    to_frame_33 = to_output_33 @ to_model_33 @ to_image_33
    with np.errstate(all="ignore"):  # what is not finite is said below
        scaled.k = (to_frame_33 @ np.array(info.k).reshape(3, 3)).ravel()
        scaled.p = (to_frame_33 @ np.array(info.p).reshape(3, 4)).ravel()
    scaled.d, scaled.r = info.d, info.r
    if not all(np.isfinite(numbers).all() for numbers in (scaled.k, scaled.p, scaled.d, scaled.r)):
        raise ImageError("camera calibration has a number that is not finite; fix the camera's camera_info")
    return scaled


def letterbox_box(rows: int, columns: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(top, left, rows, columns) of a rows x columns frame fitted into height x width, whole, centred, in proportion."""
    scale = min(height / rows, width / columns)
    inner_rows, inner_columns = max(1, round(rows * scale)), max(1, round(columns * scale))
    return (height - inner_rows) // 2, (width - inner_columns) // 2, inner_rows, inner_columns


def robot_action_to_vector(msg: RobotAction) -> np.ndarray:
    """RobotAction -> float64 (7,): translation [m], rotation vector [rad], gripper (+1 close, -1 open, 0 keep).

    Raises ActionError if one of them is not finite.
    """
    moves = (msg.translation, msg.rotation)
    action = np.array([*(part for move in moves for part in (move.x, move.y, move.z)), msg.gripper])
    if not np.isfinite(action).all():
        raise ActionError(f"robot action is {_numbers(action)}; wanted 7 finite numbers; check the policy")
    return action


def vector_to_robot_action(vector: np.ndarray, header: Header) -> RobotAction:
    """7 numbers as `robot_action_to_vector` gives them -> RobotAction; the gripper is rounded to float32.

    Raises ActionError for another shape, a number that is not finite, or a gripper too large for a float32.
    """
    action = np.asarray(vector, dtype=np.float64)
    if action.shape != (ACTION_SIZE,):
        raise ActionError(f"robot action has shape {action.shape}; wanted ({ACTION_SIZE},); check the policy")
    if not (np.isfinite(action).all() and abs(action[6]) <= np.finfo(np.float32).max):
        raise ActionError(f"robot action is {_numbers(action)}; wanted 7 finite numbers; check the policy")
    x, y, z, turn_x, turn_y, turn_z, gripper = action.tolist()
    return RobotAction(
        header=header,
        translation=Vector3(x=x, y=y, z=z),
        rotation=Vector3(x=turn_x, y=turn_y, z=turn_z),
        gripper=float(np.float32(gripper)),
    )


def _fill(msg: Image | CompressedImage, content: np.ndarray) -> None:
    # Into the empty array that the message has: 0.03 ms at 640x480. An array.array assigned to it is copied once more, in
    # the constructor twice; an ndarray is accepted and copied element by element (56 ms).
    msg.data.frombytes(content.data)


def _numbers(action_F: np.ndarray) -> str:
    return f"[{', '.join(f'{number:g}' for number in action_F)}]"


def _sensor_to_image(info: CameraInfo) -> tuple[np.ndarray, int, int]:
    """Pixel matrix (3, 3) from the whole sensor to the image that is published, and that image's rows and columns."""
    roi = info.roi
    rows, columns = roi.height or info.height, roi.width or info.width
    if roi.y_offset + rows > info.height or roi.x_offset + columns > info.width:
        raise ImageError(
            f"camera calibration is for {info.width}x{info.height} pixels, its region of interest {columns}x{rows} at "
            f"{roi.x_offset},{roi.y_offset} is outside; fix the camera's camera_info"
        )
    binning_y, binning_x = max(1, info.binning_y), max(1, info.binning_x)
    rows, columns = rows // binning_y, columns // binning_x
    if rows < 1 or columns < 1:
        raise ImageError(
            f"camera calibration is for an image of {columns}x{rows} pixels; fix the camera's camera_info"
        )
    # as image_geometry has it: without the half pixel of an interpolation
    return (
        _pixel_matrix(1 / binning_y, 1 / binning_x, -roi.y_offset / binning_y, -roi.x_offset / binning_x),
        rows,
        columns,
    )


def _move_matrix(source: tuple[int, int, int, int], target: tuple[int, int, int, int]) -> np.ndarray:
    """Pixel matrix (3, 3) that takes one box (top, left, rows, columns) to another as an interpolation does."""
    top, left, rows, columns = source
    new_top, new_left, new_rows, new_columns = target
    down, across = new_rows / rows, new_columns / columns
    shift_y = (0.5 - top) * down - 0.5 + new_top
    return _pixel_matrix(down, across, shift_y, (0.5 - left) * across - 0.5 + new_left)


def _pixel_matrix(down: float, across: float, shift_y: float, shift_x: float) -> np.ndarray:
    return np.array([[across, 0.0, shift_x], [0.0, down, shift_y], [0.0, 0.0, 1.0]])


def _check_frame(frame_YXC: np.ndarray) -> None:
    assert frame_YXC.dtype == np.uint8, frame_YXC.dtype
    assert frame_YXC.ndim == 3 and frame_YXC.shape[2] == 3, frame_YXC.shape
