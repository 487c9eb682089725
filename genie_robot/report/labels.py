"""Where the names of a chart's points go, so that they cover neither each other nor the points."""

from __future__ import annotations

from collections.abc import Sequence

CHARACTER = 0.56  # mean width of a character in a sans-serif font, of its size
GAP = 7.0
Box = tuple[float, float, float, float]


def place_labels(
    points: Sequence[tuple[float, float]], texts: Sequence[str], area: Box, size: float = 10.0
) -> list[tuple[float, float]]:
    """Left end of the baseline of each text, inside `area` (left, top, right, bottom).

    Each takes the first free place of right, left, above, below and farther out; where none is free, that with the least
    overlap.
    """
    taken: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    places = []
    for (x, y), text in zip(points, texts, strict=True):
        width = CHARACTER * size * len(text)
        candidates = [
            (left, base)
            for far in (0.0, 1.0, 2.0)
            for left, base in (
                (x + GAP, y + size / 3 + far * size),
                (x - GAP - width, y + size / 3 + far * size),
                (x + GAP, y + size / 3 - far * size),
                (x - GAP - width, y + size / 3 - far * size),
                (x - width / 2, y - GAP - far * size),
                (x - width / 2, y + GAP + size * (0.8 + far)),
            )
        ]
        candidates = [_moved_inside(left, base, width, size, area) for left, base in candidates]
        costs = [
            sum(_overlap((left, base - size, left + width, base), other) for other in taken)
            for left, base in candidates
        ]
        best = min(range(len(candidates)), key=costs.__getitem__)
        left, base = candidates[best]
        taken.append((left, base - size, left + width, base))
        places.append((left, base))
    return places


def _moved_inside(left: float, base: float, width: float, size: float, area: Box) -> tuple[float, float]:
    """The nearest place at which a text of `width` lies inside `area`; one that is too wide begins at its left edge."""
    return (
        max(min(left, area[2] - width), area[0]),
        max(min(base, area[3]), area[1] + size),
    )


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
