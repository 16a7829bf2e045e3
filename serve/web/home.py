"""What the page's first view says: how it is in one sentence (is it serving, is it learning, is it
better, what was odd), and every version with how good it is. Times are in Unix seconds."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from serve.daemon.schedule import PAUSED
from serve.gateway.live import BASE
from serve.views import (
    Numbers,
    beside_base,
    branches,
    compared,
    interval,
    on_probes,
    quality,
    withheld,
)
from serve.web import html
from serve.web.html import Bar
from ttrl.config.section import utc
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState, Author, RollBack
from ttrl.store.measurements import Kind
from ttrl.store.runs import Run, RunState

RECENT_SECONDS = 7 * 86400.0
"""So long a roll-back is worth a word."""
REASON_CHARS = 160


class Mood(StrEnum):
    """How the sentence is meant."""

    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"


@dataclass(frozen=True)
class Facts:
    """What the sentence rests on; `taken_back` is the newest roll-back while it is recent, `live`
    and `base` how good the live version and the base model are (ttrl.evaluation.estimates)."""

    engine_up: bool
    answering: str
    wanted: str
    paused: bool
    run: Run | None
    last: Run | None
    waiting: int
    uneasy: str | None
    damage: str | None = None
    taken_back: RollBack | None = None
    newest: AdapterRow | None = None
    live: Numbers | None = None
    base: Numbers | None = None


def facts(
    store: Store, *, engine_up: bool, answering: str, uneasy: str | None, damage: str | None
) -> Facts:
    """What can be said now. The last run is the newest that has ended, unless what it held was
    decided on since."""
    back, known = next(iter(store.adapters.roll_backs()), None), quality(store)
    last = next((run for run in store.runs.newest(2) if run.state.ended), None)
    if last and last.state is RunState.HELD and last.adapter:
        made = store.adapters.find(last.adapter)
        last = last if made and made.state is AdapterState.HELD else None
    return Facts(
        engine_up=engine_up,
        answering=answering,
        wanted=store.adapters.wanted().adapter or BASE,
        paused=store.fact(PAUSED) is not None,
        run=store.runs.active(),
        last=last,
        waiting=len(store.comparisons.waiting()),
        uneasy=uneasy,
        damage=damage,
        taken_back=back if back and time.time() - back.at < RECENT_SECONDS else None,
        newest=next(iter(store.adapters.all()), None),
        live=known["live"],
        base=known["base"],
    )


def sentence(facts: Facts) -> tuple[Mood, str]:
    """How it is: what keeps users from their answers alone, else all that is worth a word, the most
    pressing first."""
    if not facts.engine_up:
        return Mood.BAD, "The engine is down: users get no answers."
    if facts.damage:
        return Mood.BAD, f"The base model is live, and training is off: {facts.damage}."
    if facts.answering != facts.wanted:
        return Mood.BAD, f"Users get {_named(facts.answering)} instead of {_named(facts.wanted)}."
    odd, usual = list(_odd(facts)), list(_usual(facts))
    clauses = [*odd, *usual] or ["no problems"]
    mood = Mood.BUSY if odd or facts.run else Mood.GOOD
    return mood, f"Serving {_named(facts.answering)}; {'; '.join(clauses)}."


def progress(facts: Facts) -> str:
    """Whether the live version is better than the base model, and when something was learned."""
    if facts.newest is None:
        learned = "There are no versions yet."
    else:
        learned = (
            f"The newest version, {facts.newest.name}, was created {utc(facts.newest.created)}."
        )
    if facts.answering != BASE:
        return f"{compared(facts.live, facts.base)} {learned}"
    right = on_probes(facts.base) if facts.base else None
    if right is None:
        return learned
    return f"The base model's accuracy on the labelled probes is {right}. {learned}"


def _odd(facts: Facts) -> Iterator[str]:
    if facts.uneasy:
        yield f"the live monitor is near an alarm ({facts.uneasy})"
    if facts.answering != BASE and beside_base(facts.live, facts.base) == -1:
        yield "on the labelled probes it is worse than the base model"
    if back := facts.taken_back:
        yield f"{back.version} was rolled back {by(back)}"
    if facts.last is not None and facts.last.state in ENDED:
        why = f": {_short(facts.last.reason)}" if facts.last.reason else ""
        yield f"the last run, {facts.last.id}, {ENDED[facts.last.state]}{why}"


def _usual(facts: Facts) -> Iterator[str]:
    if facts.run is not None:
        yield f"run {facts.run.id} is {DOING[facts.run.state]}"
    if facts.waiting:
        yield (
            "1 pair waits for a label"
            if facts.waiting == 1
            else f"{facts.waiting} pairs wait for a label"
        )
    if facts.paused:
        yield "training is paused"


DOING = {
    RunState.QUEUED: "starting",
    RunState.SELECTING: "selecting questions",
    RunState.UPDATING: "training",
    RunState.JUDGING: "evaluating its candidate",
    RunState.PUBLISHING: "publishing its version",
}
ENDED = {
    RunState.REJECTED: "was rejected",
    RunState.NOTHING: "had nothing to train on",
    RunState.HELD: "is held for the operator",
    RunState.FAILED: "failed",
    RunState.ABORTED: "was stopped",
}
BY: Mapping[str, str] = {Author.OPERATOR: "the operator", Author.GUARD: "the live monitor"}


def by(back: RollBack) -> str:
    """Who took it back, when and why."""
    who = BY.get(back.author, back.author)
    return f"by {who}, {utc(back.at)}: {_short(back.reason)}"


def _named(version: str) -> str:
    return "the base model" if version == BASE else version


def _short(reason: str) -> str:
    return textwrap.shorten(reason, REASON_CHARS, placeholder=" ...")


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
    why |= {each.version: by(each) for each in store.adapters.roll_backs()}
    found = list(branches(store))
    names = {each.name for each in found}

    def below(parent: str | None) -> Iterator[Version]:
        """Depth first, so that the tree can be drawn line by line."""
        for each in found:
            if (each.parent if each.parent in names else None) == parent:
                yield _version(
                    store,
                    each.name,
                    depth=each.depth,
                    role=each.role or each.state.replace("_", " "),
                    why=why.get(each.name, ""),
                    verdict=each.verdict,
                    created=each.created,
                )
                yield from below(each.name)

    return [_version(store, None, role=roles.get(None, "base")), *below(None)]


def _version(
    store: Store,
    name: str | None,
    *,
    role: str,
    depth: int = 0,
    why: str = "",
    verdict: str | None = None,
    created: float | None = None,
) -> Version:
    newest = store.measurements.newest(Kind.QUALITY, name)
    numbers: Numbers = newest.numbers if newest else {}
    estimate, right = numbers.get("estimate"), None
    if known := numbers.get("right"):
        right = _right(known)
    elif numbers.get("pass_at_1") is not None:
        right = Right(numbers["pass_at_1"], labels=numbers["labelled"])
    return Version(
        name=name or BASE,
        depth=depth,
        role=role,
        why=why,
        verdict=verdict,
        created=created,
        right=right,
        estimate=_right(estimate) if estimate else None,
        withheld=withheld(numbers) if numbers and not estimate else "",
        agreement=numbers.get("agreement"),
    )


def _right(found: Numbers) -> Right:
    bar = html.bar(found["low"], found["value"], found["high"])
    return Right(found["value"], interval(found), bar, found["labels"])
