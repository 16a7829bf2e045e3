"""What the page shows, read from the store; times in Unix seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from serve import plots
from serve.branches import branches
from serve.labels import sides
from serve.live import BASE
from serve.plots import Bar
from serve.schedule import PAUSED
from ttrl.questions import Question, message_text
from ttrl.store import Store
from ttrl.store.comparisons import StoredPair
from ttrl.store.measurements import Kind
from ttrl.store.runs import Run, RunState

RUNS, QUESTIONS, ANSWERS = 10, 50, 8
UNEASY = 0.5


class Mood(StrEnum):
    """How the sentence is meant."""

    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"


@dataclass(frozen=True)
class Facts:
    """What the one sentence rests on."""

    engine_up: bool
    answering: str
    wanted: str
    paused: bool
    run: Run | None
    last: Run | None
    waiting: int
    uneasy: str | None
    damage: str | None = None


def sentence(facts: Facts) -> tuple[Mood, str]:
    """How it is, the most pressing first."""
    if not facts.engine_up:
        return Mood.BAD, "The engine is not up: users get no answers until it is."
    if facts.damage:
        return Mood.BAD, f"Users get the base model, and nothing is learned: {facts.damage}."
    if facts.answering != facts.wanted:
        return Mood.BAD, f"Users get {_named(facts.answering)} and not {_named(facts.wanted)}."
    serving = f"Serving {_named(facts.answering)}"
    if facts.uneasy:
        return Mood.BUSY, f"{serving}; the live guard is uneasy ({facts.uneasy})."
    if facts.run is not None:
        return Mood.BUSY, f"{serving}; run {facts.run.id} is {DOING[facts.run.state]}."
    if facts.last is not None and facts.last.state is RunState.FAILED:
        return Mood.BUSY, f"{serving}; run {facts.last.id}, the last one, failed."
    if facts.waiting:
        return Mood.GOOD, f"{serving}; {facts.waiting} answers wait for your judgement."
    if facts.paused:
        return Mood.GOOD, f"{serving}; learning is paused."
    return Mood.GOOD, f"{serving}; nothing odd has happened."


DOING = {
    RunState.QUEUED: "about to begin",
    RunState.SELECTING: "choosing its questions",
    RunState.UPDATING: "learning",
    RunState.JUDGING: "at the gate",
    RunState.PUBLISHING: "being published",
}


def _named(version: str) -> str:
    return "the base model" if version == BASE else version


@dataclass(frozen=True)
class Version:
    """A version in the tree, with how good it is; `accuracy` is of the traffic where labels are
    enough (`estimated`), else of labelled probes, else None."""

    name: str
    depth: int
    role: str
    verdict: str | None
    created: float | None
    accuracy: float | None
    estimated: bool
    bar: Bar | None
    interval: str
    agreement: float | None


def versions(store: Store) -> list[Version]:
    """The base model and all that came of it, each below what it goes on from."""
    roles = store.adapters.roles()
    base = _version(store, {"name": BASE, "depth": 0, "role": roles.get(None, "base")}, None)
    grown = [
        _version(store, each, each["name"])
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


def _version(store: Store, branch: Mapping[str, Any], name: str | None) -> Version:
    newest = store.measurements.newest(Kind.QUALITY, name)
    numbers: Mapping[str, Any] = newest.numbers if newest else {}
    estimate = numbers.get("estimate")
    accuracy = estimate["value"] if estimate else numbers.get("pass_at_1")
    return Version(
        name=branch["name"],
        depth=branch["depth"],
        role=branch["role"] or str(branch["state"]).replace("_", " "),
        verdict=branch.get("verdict"),
        created=branch.get("created"),
        accuracy=accuracy,
        estimated=bool(estimate),
        bar=plots.part(estimate["low"], estimate["value"], estimate["high"]) if estimate else None,
        interval=f"{estimate['low']:.0%} to {estimate['high']:.0%}" if estimate else "",
        agreement=numbers.get("agreement"),
    )


def facts(
    store: Store, *, engine_up: bool, answering: str, uneasy: str | None, damage: str | None
) -> Facts:
    """What can be said now."""
    newest = store.runs.newest()
    return Facts(
        engine_up=engine_up,
        answering=answering,
        wanted=store.adapters.wanted().adapter or BASE,
        paused=store.fact(PAUSED) is not None,
        run=store.runs.active(),
        last=newest[0] if newest else None,
        waiting=len(store.comparisons.waiting()),
        uneasy=uneasy,
        damage=damage,
    )


def vote_of(vote: Mapping[str, Any]) -> dict[str, Any]:
    """A vote with a bar for each of its leading answers, as shares of the box's width."""
    counts = vote["counts"]
    most = counts[0][1] if counts else 1
    rows = [(answer, count, count / most) for answer, count in counts[:ANSWERS]]
    return {**vote, "rows": rows, "more": max(0, len(counts) - ANSWERS)}


def turns(question: Question) -> list[tuple[str, str]]:
    """Who said what, in order."""
    return [(each["role"], message_text(each)) for each in question.body["messages"]]


def pair_of(stored: StoredPair) -> dict[str, Any]:
    """What is judged, and nothing that would tell which side is which."""
    (_, a), (_, b) = sides(stored)
    return {"id": stored.id, "turns": turns(stored.question), "a": a.text, "b": b.text}
