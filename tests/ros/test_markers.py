"""The rules by which RViz 2 accepts markers, and what ours must show."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from genie_robot_ros.markers import ACTIVE_COLOR, classify, latent_action_markers
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from visualization_msgs.msg import Marker, MarkerArray


@dataclass(frozen=True)
class Action:
    code: int
    name: str = ""
    displacement_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gripper: float = 0.0


KEYBOARD = tuple(
    Action(code, name, displacement, gripper)
    for code, (name, displacement, gripper) in enumerate(
        [
            ("forward", (0.04, 0, 0), 0.0),
            ("back", (-0.04, 0, 0), 0.0),
            ("left", (0, 0.04, 0), 0.0),
            ("right", (0, -0.04, 0), 0.0),
            ("up", (0, 0, 0.04), 0.0),
            ("down", (0, 0, -0.04), 0.0),
            ("close", (0, 0, 0), -0.5),
            ("open", (0, 0, 0), 0.5),
        ]
    )
)


def floats_of(marker: Marker) -> list[float]:
    p, o, s, c = marker.pose.position, marker.pose.orientation, marker.scale, marker.color
    values = [p.x, p.y, p.z, o.x, o.y, o.z, o.w, s.x, s.y, s.z, c.r, c.g, c.b, c.a]
    return values + [value for point in marker.points for value in (point.x, point.y, point.z)]


def assert_rviz_accepts(array: MarkerArray) -> None:
    serialize_message(array)
    seen = set()
    for marker in array.markers:
        assert marker.header.frame_id
        assert marker.header.stamp.sec == marker.header.stamp.nanosec == 0
        assert (marker.ns, marker.id) not in seen
        seen.add((marker.ns, marker.id))
        assert all(math.isfinite(value) for value in floats_of(marker))
        if marker.action == Marker.DELETEALL:
            assert marker.ns == ""
            continue
        assert marker.action == Marker.ADD
        o = marker.pose.orientation
        assert math.isclose(o.x**2 + o.y**2 + o.z**2 + o.w**2, 1.0)
        assert 0 < marker.color.a <= 1
        if marker.type == Marker.ARROW:
            assert len(marker.points) == 2
            assert marker.scale.x + marker.scale.y > 0
        elif marker.type == Marker.LINE_LIST:
            assert marker.points
            assert len(marker.points) % 2 == 0
            assert marker.scale.x > 0
        elif marker.type == Marker.TEXT_VIEW_FACING:
            assert marker.text.strip()
            assert marker.scale.z > 0
        else:
            assert marker.type == Marker.SPHERE
            assert min(marker.scale.x, marker.scale.y, marker.scale.z) > 0


def arrows(array: MarkerArray) -> dict[int, np.ndarray]:
    found = {}
    for marker in array.markers:
        if marker.type == Marker.ARROW and marker.ns == "codes":
            a, b = marker.points
            found[marker.id] = np.array([b.x - a.x, b.y - a.y, b.z - a.z])
    return found


@pytest.mark.parametrize("active", [None, *range(8)])
def test_keyboard_codes(active: int | None) -> None:
    array = latent_action_markers(KEYBOARD, active, "base_link", scale=0.3)
    assert_rviz_accepts(array)
    assert {m.header.frame_id for m in array.markers} == {"base_link"}
    codes = {m.id: m for m in array.markers if m.ns == "codes"}
    labels = {m.id: m for m in array.markers if m.ns == "labels"}
    assert sorted(codes) == sorted(labels) == list(range(8))
    for action in KEYBOARD:
        assert action.name in labels[action.code].text
        warm = (codes[action.code].color.r, codes[action.code].color.g) == pytest.approx(ACTIVE_COLOR[:2])
        assert warm == (action.code == active)
    for code, vector in arrows(array).items():
        wanted = np.array(KEYBOARD[code].displacement_m)
        assert vector @ wanted / np.linalg.norm(vector) / np.linalg.norm(wanted) == pytest.approx(1.0)


@pytest.mark.parametrize("active", range(6))
def test_the_active_arrow_is_the_longest(active: int) -> None:
    lengths = {c: np.linalg.norm(v) for c, v in arrows(latent_action_markers(KEYBOARD, active, "m")).items()}
    assert sorted(lengths) == list(range(6))
    assert all(lengths[active] > 1.2 * length for code, length in lengths.items() if code != active)


def test_closing_and_opening_jaws_differ() -> None:
    assert [classify(KEYBOARD)[code] for code in (6, 7)] == ["close", "open"]
    codes = {m.id: m for m in latent_action_markers(KEYBOARD, None, "m").markers if m.ns == "codes"}
    tips = {}
    for code in (6, 7):
        assert codes[code].type == Marker.LINE_LIST
        # each jaw's second segment is its arrow: from tail to tip
        tips[code] = [(abs(codes[code].points[i].y), abs(codes[code].points[i + 1].y)) for i in (2, 10)]
    assert all(tip < tail for tail, tip in tips[6])  # towards the other jaw
    assert all(tip > tail for tail, tip in tips[7])


def test_arrows_of_one_direction_lie_side_by_side() -> None:
    same = (Action(0, "left", (0, 0.04, 0)), Action(1, "left", (0, 0.035, 0)), Action(2, "up", (0, 0, 0.04)))
    starts = [
        np.array([m.points[0].x, m.points[0].y, m.points[0].z])
        for m in latent_action_markers(same, None, "m", scale=1.0).markers
        if m.type == Marker.ARROW and m.ns == "codes"
    ]
    assert all(np.linalg.norm(a - b) > 0.15 for a, b in itertools.combinations(starts, 2))


@pytest.mark.parametrize("active", [None, 0, 1])
def test_names_of_arrows_of_one_direction_do_not_run_into_each_other(active: int | None) -> None:
    same = (
        Action(0, "down", (0, 0, -0.04)),
        Action(1, "down (2)", (0, 0, -0.035)),
        Action(2, "left", (0, 0.04, 0)),
    )
    array = latent_action_markers(same, active, "m", scale=1.0)
    labels = {m.id: m for m in array.markers if m.ns == "labels"}
    tips = {m.id: m.points[1].z for m in array.markers if m.ns == "codes"}
    apart = abs(labels[0].pose.position.z - labels[1].pose.position.z)
    assert apart > (labels[0].scale.z + labels[1].scale.z) / 2
    below = {code: labels[code].pose.position.z < tips[code] for code in tips}
    assert below == {0: True, 1: True, 2: False}  # a name stands beyond its tip, never on the arrow


def test_labels_say_how_often_a_code_was_used() -> None:
    array = latent_action_markers(KEYBOARD, 2, "m", counts={2: 12, 4: 1, 99: 5})
    texts = {m.id: m.text for m in array.markers if m.ns == "labels"}
    assert texts == {0: "0 forward", 1: "1 back", 2: "2 left x12", 3: "3 right", 4: "4 up x1"} | {
        5: "5 down",
        6: "6 close",
        7: "7 open",
    }


def test_an_unmeasured_model_shows_every_code() -> None:
    array = latent_action_markers([Action(code) for code in range(8)], 3, "base_link")
    assert_rviz_accepts(array)
    assert sum(m.type == Marker.SPHERE for m in array.markers) == 8
    assert all("unmeasured" in m.text for m in array.markers if m.ns == "labels")


finite = st.floats(-1, 1)


@given(
    st.lists(st.tuples(finite, finite, finite, finite, st.text(max_size=8)), min_size=1, max_size=12),
    st.one_of(st.none(), st.integers(0, 11)),
    st.floats(0.001, 100),
)
@settings(max_examples=150, deadline=None)
def test_any_measurement_gives_markers_that_rviz_accepts(rows, active, scale) -> None:
    actions = [
        Action(code, name.encode("utf-8", "ignore").decode(), (x, y, z), gripper)
        for code, (x, y, z, gripper, name) in enumerate(rows)
    ]
    assert_rviz_accepts(latent_action_markers(actions, active, "base_link", scale))
