"""The report says what report.json says, is one file, and marks honestly."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.demo import sections_system
from genie_robot.demo.targets import TARGETS, value_at, verdicts
from genie_robot.report import charts, page, pictures

GOOD = {
    "duration_s": 700.0,
    "peak_memory_gib": 2.0,
    "model": {
        "tokenizer_psnr_db": 30.0,
        "psnr_t4_db": 25.0,
        "copy_last_psnr_t4_db": 22.0,
        "moving_psnr_t4_db": 15.0,
        "moving_copy_last_psnr_t4_db": 11.0,
        "delta_psnr_t4_db": 2.5,
        "codes_used": 8,
        "nmi_direction": 0.5,
        "nmi_shuffled": 0.01,
        "code_cosine": 0.9,
    },
    "cache": {"tokens_identical": True, "speedup": 4.0},
    "ros2": {
        "commands": 200,
        "frames": 200,
        "in_order": True,
        "overhead_p50_ms": 1.0,
        "overhead_p99_ms": 3.0,
    },
    "policies": {"best_and_worst_told_apart": True, "pearson_r": 0.9, "n": 7},
    "skipped": {},
}


def changed(key: str, value: object) -> dict:
    """GOOD with one dotted key replaced."""
    report = {name: dict(part) if isinstance(part, dict) else part for name, part in GOOD.items()}
    *path, last = key.split(".")
    place = report
    for part in path:
        place = place[part]
    place[last] = value
    return report


def verdict_of(report: dict, key: str) -> bool | None:
    return next(target for target in TARGETS if target.key == key).verdict(report)


def test_all_targets_reached_by_a_good_report() -> None:
    assert [entry["key"] for entry in verdicts(GOOD) if entry["reached"] is not True] == []


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        ("model.tokenizer_psnr_db", 27.99),
        ("model.psnr_t4_db", 22.0),
        ("model.moving_psnr_t4_db", 10.0),
        ("model.delta_psnr_t4_db", 2.06),
        ("model.codes_used", 5),
        ("model.nmi_direction", 0.34),
        ("model.nmi_shuffled", 0.06),
        ("model.code_cosine", 0.49),
        ("cache.tokens_identical", False),
        ("ros2.frames", 199),
        ("ros2.in_order", False),
        ("ros2.overhead_p99_ms", 10.1),
        ("policies.best_and_worst_told_apart", False),
        ("duration_s", 901.0),
        ("peak_memory_gib", 6.1),
    ],
)
def test_every_target_can_be_missed_and_left_out(key: str, bad: object) -> None:
    assert verdict_of(changed(key, bad), key) is False
    assert verdict_of(changed(key, None), key) is None


def test_every_target_is_tested_above() -> None:
    marks = test_every_target_can_be_missed_and_left_out.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {key for key, _ in marks} == {target.key for target in TARGETS}


def test_missed_targets_stand_in_the_limits() -> None:
    report = changed("model.delta_psnr_t4_db", 1.23)
    assert "1.23 dB" in sections_system.limits_section(report)
    assert "1.23" not in sections_system.limits_section(GOOD)
    assert "14 of 15" in sections_system.header(report)


def test_left_out_ros_is_said_plainly() -> None:
    report = changed("ros2", None) | {"skipped": {"ros2": "ROS 2 is not installed"}}
    assert "not measured" in sections_system.targets_section(report)
    assert "ROS 2 is not installed" in sections_system.limits_section(report)
    assert "ROS 2 is not installed" in sections_system.ros_section(
        {"skipped": "ROS 2 is not installed"}, Path()
    )


def test_value_at_missing_keys() -> None:
    assert value_at(GOOD, "model.nothing") is None
    assert value_at(GOOD, "ros2.commands") == 200


def test_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    path = tmp_path / "strip.png"
    pictures.save_png(path, pictures.strip(frames))
    html = page.page("t", "h", pictures.sprite_html(path, 4) + pictures.image_html(path, "a"), "f")
    assert html.count("data:image/png;base64,") == 2
    assert "http" not in html
    assert "<script" not in html
    assert 'src="data:' in html


def test_png_and_sheet_keep_every_pixel(tmp_path: Path) -> None:
    import cv2

    frames = np.random.default_rng(1).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)
    sheet = pictures.sheet([frames, frames[:2]])
    pictures.save_png(tmp_path / "sheet.png", sheet)
    back = cv2.imread(str(tmp_path / "sheet.png"))
    assert back is not None and (back[..., ::-1] == sheet).all()
    assert (sheet[:6, :5] == frames[0]).all()
    assert (sheet[8:14, 7:12] == frames[1]).all()
    assert (sheet[8:14, 14:19] == 255).all(), "a short row is filled with white"


def test_text_from_outside_is_escaped() -> None:
    chart = charts.scatter_chart(
        [charts.ScatterPoint(0.5, 0.5, (0.2, 0.8), (0.2, 0.8), "<b>&", "push")], "x<", "y&"
    )
    ElementTree.fromstring(chart[: chart.index("</svg>") + 6])
    assert "<b>" not in chart


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(allow_nan=True, allow_infinity=True)), max_size=6),
        max_size=3,
    )
)
def test_any_series_gives_a_chart_or_a_sentence(series: dict) -> None:
    chart = charts.line_chart(series, "step", "loss")
    if "<svg" in chart:
        ElementTree.fromstring(chart[: chart.index("</svg>") + 6])
        assert "nan" not in chart.lower().replace("nano", "")
        assert "inf" not in chart.split("polyline")[1].split("/>")[0] if "polyline" in chart else True
    else:
        assert "nothing measured" in chart


def test_a_logarithmic_axis_has_its_ticks_where_the_points_are() -> None:
    chart = charts.line_chart({"a": [(50, 0.1), (500, 0.2), (5000, 0.3)]}, "labels", "rate", log_x=True)
    places = [float(x) for x in re.findall(r'x="([0-9.]+)"[^>]*>(?:50|500|5,000)</text>', chart)]
    assert len(places) == 3 and max(places) < 360 - 15, "written within the picture"
    points = [float(pair.split(",")[0]) for pair in re.findall(r'points="([^"]+)"', chart)[0].split()]
    assert points[1] - points[0] == pytest.approx(points[2] - points[1], abs=0.2)
    assert points == pytest.approx(places, abs=15)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_lie_within_the_range(low: float, span: float) -> None:
    ticks = charts.nice_ticks(low, low + span)
    assert all(low - 1e-6 * span <= tick <= low + span * (1 + 1e-6) for tick in ticks if math.isfinite(tick))
    assert 1 <= len(ticks) <= 12
