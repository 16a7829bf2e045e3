"""The curve as an SVG: what each arm gains on held-out questions, against how often the labels are
right; medians over seeds, with a bar from the least to the most."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor
from statistics import median

from benchmarks.laboratory.book import Book
from benchmarks.laboratory.mixtures import MIXTURES, Kind
from benchmarks.laboratory.table import gain, groups, label_accuracy

COLOURS = {
    "truth": "#555555",
    "ours": "#0b7a3b",
    "plain": "#c2410c",
    "supervised": "#1d4ed8",
    "prompting": "#8b5cf6",
}
FAMILIES = {
    "wrong labels that few answers agree on": ("easy", "hard-25", "hard-45"),
    "wrong labels that most answers agree on": ("easy", "fooled-25", "fooled-45"),
}
WIDTH, HEIGHT = 340.0, 240.0
LEFT, TOP, APART = 56.0, 60.0, 64.0
STEP = 0.2
"""Between the lines of the grid, both ways."""


@dataclass(frozen=True)
class Point:
    """One mixture: label accuracy, and the median gain with its spread."""

    x: float
    y: float
    least: float
    most: float


@dataclass(frozen=True)
class Panel:
    """Where numbers go on the page; `low` and `high` bound the gains."""

    left: float
    low: float
    high: float

    def x(self, accuracy: float) -> float:
        """From 0.4 on the left to 1 on the right."""
        return self.left + (accuracy - 0.4) / 0.6 * WIDTH

    def y(self, gained: float) -> float:
        """From `high` at the top to `low` at the bottom."""
        return TOP + (self.high - gained) / (self.high - self.low) * HEIGHT


def draw(book: Book) -> str:
    """A panel for each kind of wrong label."""
    width = LEFT + len(FAMILIES) * (WIDTH + APART)
    height = TOP + HEIGHT + 72
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
    ]
    points = _points(book)
    low, high = _bounds(points.values())
    for number, (title, mixtures) in enumerate(FAMILIES.items()):
        panel = Panel(LEFT + number * (WIDTH + APART), low, high)
        parts += [text(panel.left + WIDTH / 2, TOP - 18, title), *_axes(panel)]
        for arm, colour in COLOURS.items():
            curve = [points[name, arm] for name in mixtures if (name, arm) in points]
            parts += _curve(panel, colour, curve)
    parts.append(text(8, 14, "gain in pass@1, held-out questions", "start"))
    return "\n".join([*parts, *_legend(TOP + HEIGHT + 58), "</svg>"]) + "\n"


def _points(book: Book) -> dict[tuple[str, str], Point]:
    """By mixture and arm."""
    found = {}
    for mixture, arm, cells in groups(book):
        gains = [gain(book, cell, "pass_at_1") for cell in cells]
        accuracy = median(label_accuracy(book, cell) for cell in cells)
        if MIXTURES[mixture].kind is Kind.CURVE and arm in COLOURS:
            found[mixture, arm] = Point(accuracy, median(gains), min(gains), max(gains))
    return found


def _bounds(points: Collection[Point]) -> tuple[float, float]:
    """Of the grid, so that all points and no gain at all lie within."""
    low = min([0.0, *(point.least for point in points)])
    high = max([STEP, *(point.most for point in points)])
    return STEP * floor(round(low / STEP, 6)), STEP * ceil(round(high / STEP, 6))


def _axes(panel: Panel) -> Iterator[str]:
    right, bottom = panel.x(1.0), panel.y(panel.low)
    for number in range(round((panel.high - panel.low) / STEP) + 1):
        value = panel.low + number * STEP
        y = panel.y(value)
        yield line((panel.left, y), (right, y), "#999999" if abs(value) < STEP / 2 else "#e5e5e5")
        yield text(panel.left - 6, y + 4, f"{value:+.1f}", "end")
    for accuracy in (0.4, 0.6, 0.8, 1.0):
        yield text(panel.x(accuracy), bottom + 16, f"{accuracy:.1f}")
    yield text(panel.left + WIDTH / 2, bottom + 34, "share of right labels")


def _curve(panel: Panel, colour: str, points: Sequence[Point]) -> Iterator[str]:
    path = " ".join(f"{panel.x(point.x):.1f},{panel.y(point.y):.1f}" for point in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for point in points:
        x = panel.x(point.x)
        yield line((x, panel.y(point.least)), (x, panel.y(point.most)), colour)
        yield f'<circle cx="{x:.1f}" cy="{panel.y(point.y):.1f}" r="3" fill="{colour}"/>'


def _legend(y: float) -> Iterable[str]:
    for number, (arm, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 110
        yield line((x, y - 4), (x + 20, y - 4), colour)
        yield text(x + 26, y, arm, "start")


def line(start: tuple[float, float], end: tuple[float, float], colour: str) -> str:
    """A straight one."""
    (x1, y1), (x2, y2) = start, end
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
