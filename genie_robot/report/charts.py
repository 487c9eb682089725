"""Small charts as inline SVG text: no plotting library, no external file, sharp at any size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from genie_robot.report.labels import place_labels

PALETTE = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2")
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
FONT = 'font-family="system-ui, sans-serif"'
DRAWABLE = 1e30  # beyond it, and for NaN, a point is left out
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 62, 14, 14, 40


@dataclass(frozen=True)
class ScatterPoint:
    """One policy or code: a centre with an interval in both directions, a label and a group (its colour)."""

    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]
    label: str
    group: str


@dataclass(frozen=True)
class Arrow:
    """One measured motion in metres: x forward, y left, z up; `name` is written at its tip."""

    name: str
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class _Frame:
    """The plot area and its scales."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return MARGIN_LEFT + (value - low) / (high - low) * (self.width - MARGIN_LEFT - MARGIN_RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return (
            self.height
            - MARGIN_BOTTOM
            - (value - low) / (high - low) * (self.height - MARGIN_TOP - MARGIN_BOTTOM)
        )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that cover [low, high]; every tick lies within the range."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if raw <= power * factor * 1.0001)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str,
    y_label: str,
    *,
    width: int = 360,
    height: int = 220,
    marks: bool = False,
    target: float | None = None,
    log_x: bool = False,
) -> str:
    """Lines of (x, y) pairs, one colour a series; `target` draws a dashed level. Non-finite points are left out.

    log_x: x (above 0) is drawn by its logarithm, with a tick at each that occurs.
    """
    ticks = None
    if log_x:
        ticks = {math.log10(x): f"{x:,.0f}" for points in series.values() for x, _ in points}
        series = {name: [(math.log10(x), y) for x, y in points] for name, points in series.items()}
    clean = {
        name: [p for p in points if all(abs(value) < DRAWABLE for value in p)]
        for name, points in series.items()
    }
    clean = {name: points for name, points in clean.items() if points}
    if not clean:
        return '<p class="faint">nothing measured</p>'
    every = [point for points in clean.values() for point in points]
    ys = [y for _, y in every] + ([] if target is None else [target])
    frame = _Frame(width, height, _padded([x for x, _ in every], 0.0), _padded(ys, 0.06))
    parts = [_axes(frame, x_label, y_label, ticks)]
    if target is not None:
        parts.append(_level(frame, target))
    for index, (_, points) in enumerate(clean.items()):
        colour = PALETTE[index % len(PALETTE)]
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if marks or len(points) == 1:
            parts += [
                f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in points
            ]
    return _svg(width, height, "".join(parts)) + _legend(list(clean))


def scatter_chart(
    points: Sequence[ScatterPoint],
    x_label: str,
    y_label: str,
    *,
    band: Sequence[tuple[float, float, float]] = (),
    named: bool = True,
    width: int = 430,
    height: int = 400,
) -> str:
    """Success rates in [0, 1] against each other, with both intervals and the diagonal of perfect agreement.

    band: (x, low, high) from left to right, a grey area behind the points. named: write each point's name beside it.
    """
    if not points:
        return '<p class="faint">nothing measured</p>'
    frame = _Frame(width, height, (-0.03, 1.03), (-0.03, 1.03))
    groups = list(dict.fromkeys(point.group for point in points))
    parts = [_band(frame, band), _axes(frame, x_label, y_label)]
    parts.append(
        f'<line x1="{frame.x(0):.1f}" y1="{frame.y(0):.1f}" x2="{frame.x(1):.1f}" y2="{frame.y(1):.1f}" '
        f'stroke="{FAINT}" stroke-dasharray="4 4"/>'
    )
    parts += [_point(frame, point, PALETTE[groups.index(point.group) % len(PALETTE)]) for point in points]
    if named:
        names = [point.label for point in points]
        area = (MARGIN_LEFT, 0.0, float(width), float(height - MARGIN_BOTTOM))
        places = place_labels([(frame.x(p.x), frame.y(p.y)) for p in points], names, area)
        halo = '<g paint-order="stroke" stroke="#fff" stroke-width="3" stroke-linejoin="round">'
        texts = [_text(x, y, name, size=10) for (x, y), name in zip(places, names, strict=True)]
        parts += [halo, *texts, "</g>"]
    return _svg(width, height, "".join(parts)) + _legend(groups)


def _point(frame: _Frame, point: ScatterPoint, colour: str) -> str:
    x, y = frame.x(point.x), frame.y(point.y)
    x0, x1 = (frame.x(value) for value in point.x_interval)
    y0, y1 = (frame.y(value) for value in point.y_interval)
    return (
        f'<g stroke="{colour}" stroke-opacity="0.45"><line x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}"/>'
        f'<line x1="{x:.1f}" y1="{y0:.1f}" x2="{x:.1f}" y2="{y1:.1f}"/></g>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"><title>{escape(point.label)}</title></circle>'
    )


def _band(frame: _Frame, band: Sequence[tuple[float, float, float]]) -> str:
    edge = [(x, high) for x, _, high in band] + [(x, low) for x, low, _ in reversed(band)]
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in edge)
    return f'<polygon points="{path}" fill="#eef2f7"/>' if band else ""


def arrow_chart(arrows: Sequence[Arrow], *, width: int = 430, height: int = 330) -> str:
    """Measured motions as arrows: seen from above (x forward is up, y left is left) and, beside it, the height change."""
    reach = max((math.hypot(a.x, a.y) for a in arrows), default=0.0)
    reach = max(reach, max((abs(a.z) for a in arrows), default=0.0), 1e-6)
    radius = height / 2 - 38
    cx, cy, bar_x = height / 2 + 6, height / 2, height + 50
    parts = [
        f'<circle cx="{cx}" cy="{cy}" r="{radius}" fill="none" stroke="{GRID}"/>'
        f'<circle cx="{cx}" cy="{cy}" r="{radius / 2}" fill="none" stroke="{GRID}"/>'
        + _text(cx, 12, "seen from above: forward", anchor="middle", colour=FAINT, size=11)
        + _text(cx + radius + 4, cy - 6, f"{reach * 1000:.0f} mm", colour=FAINT, size=10)
        + _text(bar_x, 12, "height", anchor="middle", colour=FAINT, size=11)
        + f'<line x1="{bar_x}" y1="{cy - radius}" x2="{bar_x}" y2="{cy + radius}" stroke="{GRID}"/>'
    ]
    for index, arrow in enumerate(arrows):
        colour = PALETTE[index % len(PALETTE)]
        tip_x, tip_y = cx - arrow.y / reach * radius, cy - arrow.x / reach * radius
        if math.hypot(tip_x - cx, tip_y - cy) > 0.3 * radius:
            parts.append(_arrow(cx, cy, tip_x, tip_y, colour, arrow.name))
        if abs(arrow.z) / reach > 0.4:
            parts.append(_arrow(bar_x, cy, bar_x, cy - arrow.z / reach * radius, colour, arrow.name))
    return _svg(width, height, "".join(parts))


def _arrow(x0: float, y0: float, x1: float, y1: float, colour: str, name: str) -> str:
    angle = math.atan2(y1 - y0, x1 - x0)
    wings = [(x1 - 9 * math.cos(angle + side), y1 - 9 * math.sin(angle + side)) for side in (0.42, -0.42)]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x1, y1), *wings])
    label_x, label_y = x1 + 12 * math.cos(angle), y1 + 12 * math.sin(angle) + 4
    anchor = "start" if math.cos(angle) > 0.3 else "end" if math.cos(angle) < -0.3 else "middle"
    return (
        f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" stroke-width="2.4"/>'
        f'<polygon points="{head}" fill="{colour}"/>' + _text(label_x, label_y, name, anchor=anchor, size=11)
    )


def _axes(frame: _Frame, x_label: str, y_label: str, x_ticks: Mapping[float, str] | None = None) -> str:
    bottom, right = frame.height - MARGIN_BOTTOM, frame.width - MARGIN_RIGHT
    parts = []
    for tick in nice_ticks(*frame.y_range):
        y = frame.y(tick)
        parts.append(f'<line x1="{MARGIN_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(_text(MARGIN_LEFT - 6, y + 4, _short(tick), anchor="end", colour=FAINT, size=11))
    for tick, text in (x_ticks or {tick: _short(tick) for tick in nice_ticks(*frame.x_range)}).items():
        x = min(frame.x(tick), frame.width - 3.5 * len(text))  # within the picture
        parts.append(_text(x, bottom + 16, text, anchor="middle", colour=FAINT, size=11))
    parts.append(f'<line x1="{MARGIN_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}" stroke="{FAINT}"/>')
    parts.append(_text((MARGIN_LEFT + right) / 2, frame.height - 6, x_label, anchor="middle", size=12))
    middle = (MARGIN_TOP + bottom) / 2
    parts.append(
        f'<text x="12" y="{middle:.1f}" text-anchor="middle" font-size="12" fill="{INK}" {FONT} '
        f'transform="rotate(-90 12 {middle:.1f})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _level(frame: _Frame, value: float) -> str:
    y, right = frame.y(value), frame.width - MARGIN_RIGHT
    return (
        f'<line x1="{MARGIN_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{INK}" stroke-dasharray="5 4"/>'
        + _text(right, y - 5, f"target {_short(value)}", anchor="end", size=11)
    )


def _legend(names: list[str]) -> str:
    if len(names) < 2:
        return ""
    items = "".join(
        f'<span><i style="background:{PALETTE[index % len(PALETTE)]}"></i>{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<div class="legend">{items}</div>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = INK, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" {FONT}>'
        f"{escape(text)}</text>"
    )


def _svg(width: int, height: int, body: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{body}</svg>'


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * share or (0.0 if high > low else max(abs(high) * 0.05, 0.5))
    return low - pad, high + pad
