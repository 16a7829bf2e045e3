"""What the page shows, read from the store; times in Unix seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve import accuracy, plots
from serve.branches import branches
from serve.labels import sides
from serve.live import BASE
from serve.page.sentence import by
from serve.plots import Bar
from ttrl.questions import Question, message_text
from ttrl.store import Store
from ttrl.store.comparisons import StoredPair
from ttrl.store.measurements import Kind

RUNS, QUESTIONS, ANSWERS = 10, 50, 8
UNEASY = 0.5


@dataclass(frozen=True)
class Right:
    """A share of right answers; by `labels`, with an interval, but for old measurements."""

    value: float
    interval: str = ""
    bar: Bar | None = None
    labels: int | None = None


@dataclass(frozen=True)
class Version:
    """A version in the tree, with how good it is: `right` on the labelled probes, and `estimate`
    for the traffic, or why there is none (`withheld`); None and "" where it was not measured."""

    name: str
    depth: int
    role: str
    why: str
    verdict: str | None
    created: float | None
    right: Right | None
    estimate: Right | None
    withheld: str
    agreement: float | None


def versions(store: Store) -> list[Version]:
    """The base model and all that came of it, each below what it goes on from."""
    roles = store.adapters.roles()
    why = {row.name: row.reason or "" for row in store.adapters.all()}
    why |= {each.version: by(each) for each in store.rollbacks.all()}
    base = _version(store, {"name": BASE, "depth": 0, "role": roles.get(None, "base")}, None, "")
    grown = [
        _version(store, each, each["name"], why.get(each["name"], ""))
        for each in _in_order([dict(branch) for branch in branches(store)])
    ]
    return [base, *grown]


def _in_order(found: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Depth first, so that a tree can be drawn line by line."""
    names = {each["name"] for each in found}

    def below(parent: str | None) -> Iterator[Mapping[str, Any]]:
        for each in found:
            if (each["parent"] if each["parent"] in names else None) == parent:
                yield each
                yield from below(each["name"])

    return below(None)


def _version(store: Store, branch: Mapping[str, Any], name: str | None, why: str) -> Version:
    newest = store.measurements.newest(Kind.QUALITY, name)
    numbers: Mapping[str, Any] = newest.numbers if newest else {}
    estimate = numbers.get("estimate")
    return Version(
        name=branch["name"],
        depth=branch["depth"],
        role=branch["role"] or str(branch["state"]).replace("_", " "),
        why=why,
        verdict=branch.get("verdict"),
        created=branch.get("created"),
        right=_on_probes(numbers),
        estimate=_right(estimate) if estimate else None,
        withheld=accuracy.withheld(numbers) if numbers and not estimate else "",
        agreement=numbers.get("agreement"),
    )


def _on_probes(numbers: Mapping[str, Any]) -> Right | None:
    if known := numbers.get("right"):
        return _right(known)
    value = numbers.get("pass_at_1")
    return None if value is None else Right(value, labels=numbers["labelled"])


def _right(found: Mapping[str, Any]) -> Right:
    bar = plots.part(found["low"], found["value"], found["high"])
    return Right(found["value"], accuracy.interval(found), bar, found["labels"])


def turns(question: Question) -> list[tuple[str, str]]:
    """Who said what, in order."""
    return [(each["role"], message_text(each)) for each in question.body["messages"]]


def pair_of(stored: StoredPair) -> dict[str, Any]:
    """What is judged, and nothing that would tell which side is which."""
    (_, a), (_, b) = sides(stored)
    return {
        "id": stored.id,
        "turns": turns(stored.question),
        "a": a.text,
        "b": b.text,
        "same": a.text == b.text,
    }
