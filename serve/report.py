"""One run on one page: what it did, what the gate saw, and what changed for the worse."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from serve import plots
from serve.status import verdicts
from ttrl.store import Store
from ttrl.store.runs import Observation
from ttrl.times import utc

CURVES = {
    "share": "share of the majority",
    "vote_entropy": "entropy of the votes, nats",
    "informative": "groups that teach something",
    "entropy": "entropy of the tokens, nats",
    "completions/mean_length": "length, tokens",
    "unreadable": "answers cut off or unreadable",
    "alike": "pairs of questions with one majority answer",
    "kl": "distance from the start, nats a token",
    "grad_norm": "norm of the gradient",
}
"""Numbers of a step that are drawn, where they were seen."""


def render(store: Store, run_id: int, *, nonce: str = "", **behind: str) -> str:
    """The page as HTML, complete in itself; `nonce` is what its style sheet carries where others
    are not allowed, `behind` what pages behind the operator's door need. Raises KeyError when there
    is no such run."""
    run = store.runs.get(run_id)
    steps = [seen for seen in store.runs.observed(run_id=run_id) if seen.kind == "step"]
    page = _environment().get_template("report.html")
    return page.render(
        nonce=nonce,
        now=time.time(),
        **behind,
        run=run,
        curves=list(_curves(steps)),
        verdicts=list(map(_verdict, verdicts(store, run_id))),
        plots=plots,
    )


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("serve"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    found.filters["time"] = lambda at: "-" if at is None else utc(at)
    return found


def _curves(steps: Sequence[Observation]) -> Iterator[plots.Line]:
    for key, name in CURVES.items():
        known = [s.numbers for s in steps if s.numbers.get(key) is not None]
        seen = [(numbers["step"], numbers[key]) for numbers in known]
        if seen:
            yield plots.line(name, seen)


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    evidence = row["evidence"]
    checks = [{**check, "bar": _bar(check["compared"])} for check in evidence["checks"]]
    return {**row, **evidence, "checks": checks}


def _bar(compared: Mapping[str, float] | None) -> plots.Bar | None:
    if compared is None:
        return None
    return plots.bar(compared["low"], compared["after"] - compared["before"], compared["high"])
