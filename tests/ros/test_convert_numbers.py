"""Camera calibration and robot actions: messages <-> numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from genie_robot_interfaces.msg import RobotAction
from genie_robot_ros import convert
from genie_robot_ros.outputs import letterbox
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from genie_robot.data.resize import resize_frame
from genie_robot.errors import ActionError, ImageError

DISTORTION = [0.1, -0.05, 0.001, -0.002, 0.01]


def calibration(height: int = 480, width: int = 640, **changes) -> CameraInfo:
    """A camera with unequal focal lengths, an off-centre principal point and a stereo baseline."""
    info = CameraInfo(
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=DISTORTION,
        k=[500.0, 0.0, 300.0, 0.0, 520.0, 250.0, 0.0, 0.0, 1.0],
        r=np.eye(3).ravel(),
        p=[490.0, 0.0, 310.0, -40.0, 0.0, 510.0, 245.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
    for name, value in changes.items():
        setattr(info, name, value)
    return info


@pytest.mark.parametrize(
    ("model_hw", "output_hw"),
    [
        ((64, 64), (64, 64)),
        ((90, 160), (90, 160)),
        ((64, 64), (256, 256)),
        ((64, 64), (48, 64)),
        ((64, 64), (480, 640)),
    ],
)
def test_a_point_of_the_world_is_where_the_resized_image_shows_it(model_hw: tuple, output_hw: tuple) -> None:
    info = calibration()
    scaled = convert.scaled_camera_info(info, *output_hw, *model_hw, Header(frame_id="eye"))
    assert (scaled.height, scaled.width, scaled.header.frame_id) == (*output_hw, "eye")
    assert (scaled.distortion_model, list(scaled.d), list(scaled.r)) == (
        "plumb_bob",
        DISTORTION,
        list(info.r),
    )
    for point in ([0.0, 0.0, 1.0], [0.1, -0.12, 1.0], [-0.15, 0.1, 1.1]):
        x, y = (np.array(info.k).reshape(3, 3) @ point)[:2] / point[2]
        picture = np.zeros((480, 640, 3), np.uint8)
        cv2.circle(picture, (round(x * 16), round(y * 16)), 24 * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
        small = letterbox(resize_frame(picture, *model_hw), *output_hw)[..., 0].astype(float)
        rows, columns = np.mgrid[: output_hw[0], : output_hw[1]]
        shown = np.array([(small * columns).sum(), (small * rows).sum()]) / small.sum()
        expected = (np.array(scaled.k).reshape(3, 3) @ point)[:2] / point[2]
        np.testing.assert_allclose(expected, shown, atol=0.1)


def test_a_frame_blown_up_to_the_size_of_its_camera_has_its_calibration() -> None:
    scaled = convert.scaled_camera_info(calibration(), 480, 640, 64, 64, Header())
    np.testing.assert_allclose(scaled.k, calibration().k)
    np.testing.assert_allclose(scaled.p, calibration().p)


def test_the_projection_matrix_keeps_its_baseline() -> None:
    scaled = convert.scaled_camera_info(calibration(), 64, 64, 64, 64, Header())
    p_34 = np.array(scaled.p).reshape(3, 4)
    # disparity of a stereo pair shrinks with the image
    assert p_34[0, 3] / p_34[0, 0] == pytest.approx(-40.0 / 490.0)
    np.testing.assert_allclose(p_34[2], [0.0, 0.0, 1.0, 0.0])


def test_binning_and_region_of_interest_are_worked_in() -> None:
    roi = RegionOfInterest(x_offset=100, y_offset=60, width=400, height=300)
    scaled = convert.scaled_camera_info(
        calibration(roi=roi, binning_x=2, binning_y=2), 150, 200, 150, 200, Header()
    )
    np.testing.assert_allclose(
        np.array(scaled.k).reshape(3, 3), [[250.0, 0.0, 100.0], [0.0, 260.0, 95.0], [0.0, 0.0, 1.0]]
    )
    assert (scaled.binning_x, scaled.roi.width) == (0, 0)


def test_a_camera_that_is_not_calibrated_stays_so() -> None:
    scaled = convert.scaled_camera_info(CameraInfo(width=640, height=480), 64, 64, 64, 64, Header())
    assert not scaled.k.any()
    assert not scaled.p.any()
    assert (scaled.height, scaled.width) == (64, 64)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 0}, "0x480"),
        ({"d": [float("nan")]}, "not finite"),
        ({"k": [1e308, *[1e308] * 8]}, "not finite"),
        ({"roi": RegionOfInterest(x_offset=600, width=100, height=100)}, "outside"),
        ({"binning_y": 1000}, "640x0"),
    ],
)
def test_what_is_no_calibration_is_refused(changes: dict, said: str) -> None:
    with pytest.raises(ImageError, match=said) as error:
        convert.scaled_camera_info(calibration(**changes), 64, 64, 64, 64, Header())
    assert "\n" not in str(error.value)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=6, max_size=6), st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=100, deadline=None)
def test_robot_actions_are_exact_over_the_wire(moves: list[float], gripper: float) -> None:
    action = np.array([*moves, gripper])
    message = convert.vector_to_robot_action(action, Header(frame_id="base_link"))
    received = deserialize_message(serialize_message(message), RobotAction)
    assert received.header.frame_id == "base_link"
    got = convert.robot_action_to_vector(received)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, action)


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_both_ways(place: int, number: float) -> None:
    action = np.zeros(7)
    action[place] = number
    with pytest.raises(ActionError, match="7 finite numbers"):
        convert.vector_to_robot_action(action, Header())
    message = RobotAction()
    where = (message.translation, message.rotation)[place // 3] if place < 6 else message
    setattr(where, ("x", "y", "z")[place % 3] if place < 6 else "gripper", number)
    with pytest.raises(ActionError, match="7 finite numbers"):
        convert.robot_action_to_vector(message)


@pytest.mark.parametrize(
    ("vector", "said"),
    [(np.zeros(6), r"\(6,\)"), (np.zeros((1, 7)), r"\(1, 7\)"), ([0.0] * 6 + [1e39], "1e\\+39")],
)
def test_other_vectors_are_refused(vector, said: str) -> None:
    with pytest.raises(ActionError, match=said):
        convert.vector_to_robot_action(vector, Header())
