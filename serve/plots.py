"""Small plots as SVG, in the page's own colours: `currentColor` and the class `plot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 320, 120, 8


@dataclass(frozen=True)
class Line:
    """A curve, as a path in a box of WIDTH by HEIGHT, with the ends of its scales and of itself."""

    name: str
    path: str
    first: float
    last: float
    low: float
    high: float
    begins: float
    ends: float


def line(name: str, points: Sequence[tuple[float, float]]) -> Line:
    """The curve through at least one point, filling the box."""
    xs, ys = zip(*points, strict=True)
    low, high = min(ys), max(ys)
    places = (
        f"{_place(x, min(xs), max(xs), WIDTH):.1f},{HEIGHT - _place(y, low, high, HEIGHT):.1f}"
        for x, y in points
    )
    return Line(name, "M" + " L".join(places), xs[0], xs[-1], low, high, ys[0], ys[-1])


@dataclass(frozen=True)
class Bar:
    """A value and its bounds on a scale: places from 0 to WIDTH."""

    low: float
    middle: float
    high: float


def bar(low: float, middle: float, high: float) -> Bar:
    """Where a difference and its bounds are on the scale."""
    return Bar(*(_place(value, -1, 1, WIDTH) for value in (low, middle, high)))


def _place(value: float, low: float, high: float, size: float) -> float:
    """Where a value is between two others, on a scale with margins; in the middle of no range."""
    share = (value - low) / (high - low) if high > low else 0.5
    return MARGIN + share * (size - 2 * MARGIN)


def part(low: float, middle: float, high: float) -> Bar:
    """Where a share and its bounds are on a scale from 0 to 1."""
    return Bar(*(_place(value, 0, 1, WIDTH) for value in (low, middle, high)))
