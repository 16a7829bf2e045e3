"""Pages as HTML: the templates, small plots as SVG in the page's own colours, and the page about
one run, which `ttrl runs report` writes as well."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from serve.views import verdicts
from ttrl.config.section import utc
from ttrl.store import Store
from ttrl.store.runs import Observation

WIDTH, HEIGHT, MARGIN = 320, 120, 8
CURVES = {
    "share": "share of the majority",
    "vote_entropy": "entropy of the votes, nats",
    "informative": "questions with a training signal",
    "entropy": "entropy of the tokens, nats",
    "completions/mean_length": "answer length, tokens",
    "unreadable": "answers cut off or unreadable",
    "cut": "answers cut off",
    "alike": "question pairs with the same majority answer",
    "kl": "KL divergence from the start, nats per token",
    "grad_norm": "gradient norm",
}
"""Numbers of a step that are drawn, where they were seen."""


@cache
def templates() -> Environment:
    """Where every page is made."""
    found = Environment(
        loader=PackageLoader("serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["time"] = lambda at: "-" if at is None else utc(at)
    found.filters["percent"] = lambda share: "-" if share is None else f"{share:.0%}"
    found.globals["plots"] = {"WIDTH": WIDTH, "HEIGHT": HEIGHT}
    return found


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


def bar(low: float, middle: float, high: float, *, floor: float = 0.0) -> Bar:
    """Where a value and its bounds are on the scale from `floor` to 1."""
    return Bar(*(_place(value, floor, 1, WIDTH) for value in (low, middle, high)))


def _place(value: float, low: float, high: float, size: float) -> float:
    """Where a value is between two others, on a scale with margins; in the middle of no range."""
    share = (value - low) / (high - low) if high > low else 0.5
    return MARGIN + share * (size - 2 * MARGIN)


def run_page(store: Store, run_id: int, *, nonce: str = "", **behind: str) -> str:
    """What one run did, what the gate saw, and what changed for the worse: a page complete in
    itself. `nonce` is what its style sheet carries where others are not allowed, `behind` what
    pages behind the operator's door need. Raises KeyError when there is no such run."""
    run = store.runs.get(run_id)
    steps = [seen for seen in store.runs.observed(run_id=run_id) if seen.kind == "step"]
    return (
        templates()
        .get_template("report.html")
        .render(
            nonce=nonce,
            now=time.time(),
            **behind,
            run=run,
            curves=list(_curves(steps)),
            verdicts=list(map(_verdict, verdicts(store, run_id))),
        )
    )


def _curves(steps: Sequence[Observation]) -> Iterator[Line]:
    for key, name in CURVES.items():
        known = [s.numbers for s in steps if s.numbers.get(key) is not None]
        if seen := [(numbers["step"], numbers[key]) for numbers in known]:
            yield line(name, seen)


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    evidence = row["evidence"]
    checks = [
        {
            **check,
            "bar": None
            if (seen := check["compared"]) is None
            else bar(seen["low"], seen["after"] - seen["before"], seen["high"], floor=-1.0),
        }
        for check in evidence["checks"]
    ]
    return {**row, **evidence, "checks": checks}
