"""The latent actions as RViz markers. Pure: model data in, MarkerArray out.

A code that moves the arm is an arrow along its measured displacement. A code that works the gripper is a pair of
jaws with arrows that close or open. A code that does neither, or was never measured, is a small ball. The active
one is warm coloured and larger. Namespaces: `codes` (one marker per code, id = code) and `labels` (names).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from geometry_msgs.msg import Point, Quaternion, Vector3
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from genie_robot import LatentAction

ACTIVE_COLOR = (1.0, 0.45, 0.05, 1.0)
IDLE_COLOR = (0.35, 0.6, 0.85, 0.9)
LABEL_COLOR = (1.0, 1.0, 1.0, 1.0)

# Below this part of the strongest code's motion, a code does not move the arm to a person's eye.
STILL_FRACTION = 0.25
GRIPPER_THRESHOLD = 0.02
# Two arrows closer than this angle [rad] would hide each other: they are set side by side.
SAME_DIRECTION_RAD = math.radians(20)
DOWNWARD = 0.7  # sine of the slope from which an arrow counts as one that points down

ACTIVE_LENGTH = 1.35
ROSETTE_HOLE = 0.15  # arrows start this far from the centre, in units of `scale`


NO_COUNTS: Mapping[int, int] = MappingProxyType({})


def latent_action_markers(
    actions: Sequence[LatentAction],
    active_code: int | None,
    frame_id: str,
    scale: float = 0.12,
    counts: Mapping[int, int] = NO_COUNTS,
) -> MarkerArray:
    """Markers of all codes; `scale` is the length [m] of the longest arrow that is not active.

    `counts` says how often each code was used; the labels of those that were show it: "3 left x12".
    """
    kinds = classify(actions)
    directions = {a.code: np.asarray(a.displacement_m, float) for a in actions if kinds[a.code] == "arrow"}
    ranks = _ranks(directions)
    longest_m = max((float(np.linalg.norm(d)) for d in directions.values()), default=1.0)
    slots = [a.code for a in actions if kinds[a.code] != "arrow"]

    markers = [Marker(action=Marker.DELETEALL)]  # a model with fewer codes leaves no stale arrows
    markers[0].header.frame_id = frame_id
    for action in actions:
        active = action.code == active_code
        color = ACTIVE_COLOR if active else IDLE_COLOR
        if kinds[action.code] == "arrow":
            displacement = directions[action.code]
            norm = float(np.linalg.norm(displacement))
            length = scale * (ACTIVE_LENGTH if active else 0.5 + 0.5 * norm / longest_m)
            direction = displacement / norm
            start = (direction * ROSETTE_HOLE + _aside(direction) * 0.3 * ranks[action.code]) * scale
            tip = start + direction * length
            markers.append(_arrow(action.code, frame_id, start, tip, scale, active, color))
            # above the tip, or below a tip that points down; names of arrows side by side would run into each other
            away = (0.16 + 0.3 * ranks[action.code] + 0.1 * active) * (
                -1.0 if direction[2] < -DOWNWARD else 1.0
            )
            label_at = tip + (direction * 0.12 + np.array([0.0, 0.0, away])) * scale
        else:
            place = _slot(slots.index(action.code), len(slots), scale)
            if kinds[action.code] == "still":
                markers.append(_ball(action.code, frame_id, place, scale, active, color))
            else:
                closing = kinds[action.code] == "close"
                markers.append(_jaws(action.code, frame_id, place, scale, closing, active, color))
            label_at = place + np.array([0.0, 0.0, 0.32 * scale])
        markers.append(_label(action, frame_id, label_at, scale, active, counts.get(action.code, 0)))
    return MarkerArray(markers=markers)


def classify(actions: Sequence[LatentAction]) -> dict[int, str]:
    """Code -> "arrow" (moves the arm), "close", "open" or "still" (neither, or unmeasured)."""
    norms = {a.code: float(np.linalg.norm(a.displacement_m)) for a in actions}
    strongest = max(norms.values(), default=0.0)
    kinds = {}
    for action in actions:
        if norms[action.code] > 0 and norms[action.code] >= STILL_FRACTION * strongest:
            kinds[action.code] = "arrow"
        elif abs(action.gripper) >= GRIPPER_THRESHOLD:
            kinds[action.code] = "close" if action.gripper < 0 else "open"
        else:
            kinds[action.code] = "still"
    return kinds


def _ranks(directions: dict[int, np.ndarray]) -> dict[int, int]:
    """Code -> how many codes before it point the same way: 0 for most."""
    units = {code: direction / np.linalg.norm(direction) for code, direction in directions.items()}
    return {
        code: sum(
            other < code and np.dot(unit, units[other]) > math.cos(SAME_DIRECTION_RAD) for other in units
        )
        for code, unit in units.items()
    }


def _aside(direction: np.ndarray) -> np.ndarray:
    """A level unit vector square to a unit direction: where the next arrow of the same direction goes."""
    aside = np.cross(direction, [0.0, 0.0, 1.0])
    if np.linalg.norm(aside) < 0.1:  # the arrow is vertical
        aside = np.array([0.0, 1.0, 0.0])
    return aside / np.linalg.norm(aside)


def _slot(index: int, count: int, scale: float) -> np.ndarray:
    """Place [m] of a code without direction: a row behind the rosette, on the robot's side."""
    return np.array([-1.9 * scale, (index - (count - 1) / 2) * -0.9 * scale, 0.0])


def _marker(kind: int, code: int, frame_id: str, color: tuple[float, float, float, float]) -> Marker:
    marker = Marker(ns="codes", id=code, type=kind, action=Marker.ADD)
    marker.header.frame_id = frame_id  # the stamp stays zero: RViz then takes the latest transform
    marker.pose.orientation = Quaternion(x=0.0, y=0.0, z=0.0, w=1.0)
    marker.color = ColorRGBA(r=color[0], g=color[1], b=color[2], a=color[3])
    return marker


def _point(xyz: np.ndarray) -> Point:
    return Point(x=float(xyz[0]), y=float(xyz[1]), z=float(xyz[2]))


def _arrow(
    code: int, frame_id: str, start: np.ndarray, tip: np.ndarray, scale: float, active: bool, color: tuple
) -> Marker:
    marker = _marker(Marker.ARROW, code, frame_id, color)
    marker.points = [_point(start), _point(tip)]
    thickness = scale * (0.09 if active else 0.06)
    marker.scale = Vector3(x=thickness, y=2.2 * thickness, z=3.0 * thickness)
    return marker


def _ball(code: int, frame_id: str, place: np.ndarray, scale: float, active: bool, color: tuple) -> Marker:
    marker = _marker(Marker.SPHERE, code, frame_id, color)
    marker.pose.position = _point(place)
    diameter = scale * (0.35 if active else 0.22)
    marker.scale = Vector3(x=diameter, y=diameter, z=diameter)
    return marker


def _jaws(
    code: int, frame_id: str, place: np.ndarray, scale: float, closing: bool, active: bool, color: tuple
) -> Marker:
    """Two jaws (bars) and an arrow on each that points at the other jaw (closing) or away from it (opening)."""
    marker = _marker(Marker.LINE_LIST, code, frame_id, color)
    marker.pose.position = _point(place)
    marker.scale = Vector3(x=scale * (0.06 if active else 0.035), y=0.0, z=0.0)
    size = scale * (1.3 if active else 1.0)
    segments = []
    for side in (-1.0, 1.0):
        jaw, far = 0.12 * side, 0.34 * side
        tip, tail = (jaw + 0.04 * side, far) if closing else (far, jaw + 0.04 * side)
        barb = tip + 0.08 * (1 if tail > tip else -1)
        segments += [((jaw, -0.14), (jaw, 0.14)), ((tail, 0.0), (tip, 0.0))]
        segments += [((barb, 0.07), (tip, 0.0)), ((barb, -0.07), (tip, 0.0))]
    for begin, end in segments:
        for y, z in (begin, end):
            marker.points.append(Point(x=0.0, y=y * size, z=z * size))
    return marker


def _label(
    action: LatentAction, frame_id: str, place: np.ndarray, scale: float, active: bool, count: int
) -> Marker:
    marker = _marker(Marker.TEXT_VIEW_FACING, action.code, frame_id, ACTIVE_COLOR if active else LABEL_COLOR)
    marker.ns = "labels"
    marker.pose.position = _point(place)
    marker.scale = Vector3(x=0.0, y=0.0, z=scale * (0.2 if active else 0.16))
    used = f" x{count}" if count else ""
    marker.text = f"{action.code} {action.name or '(unmeasured)'}{used}"
    return marker
