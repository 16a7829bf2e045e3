"""How it is, in one sentence: is it serving, is it learning, is it better, and what was odd."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from serve.accuracy import Numbers, beside_base, compared, on_probes
from serve.live import BASE
from serve.schedule import PAUSED
from serve.status import quality
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState, Author
from ttrl.store.rollbacks import RollBack
from ttrl.store.runs import Run, RunState
from ttrl.times import utc

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
    and `base` how good the live version and the base model are (ttrl.quality)."""

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
    """What can be said now."""
    back = store.rollbacks.newest()
    known = quality(store)
    return Facts(
        engine_up=engine_up,
        answering=answering,
        wanted=store.adapters.wanted().adapter or BASE,
        paused=store.fact(PAUSED) is not None,
        run=store.runs.active(),
        last=_last(store),
        waiting=len(store.comparisons.waiting()),
        uneasy=uneasy,
        damage=damage,
        taken_back=back if back and time.time() - back.at < RECENT_SECONDS else None,
        newest=next(iter(store.adapters.all()), None),
        live=known["live"],
        base=known["base"],
    )


def _last(store: Store) -> Run | None:
    """The newest run that has ended, unless what it held was decided on since."""
    run = next((each for each in store.runs.newest(2) if each.state.ended), None)
    if run is None or run.state is not RunState.HELD or run.adapter is None:
        return run
    made = store.adapters.find(run.adapter)
    return run if made and made.state is AdapterState.HELD else None


def sentence(facts: Facts) -> tuple[Mood, str]:
    """How it is: what keeps users from their answers alone, else all that is worth a word, the most
    pressing first."""
    if not facts.engine_up:
        return Mood.BAD, "The engine is not up: users get no answers until it is."
    if facts.damage:
        return Mood.BAD, f"Users get the base model, and nothing is learned: {facts.damage}."
    if facts.answering != facts.wanted:
        return Mood.BAD, f"Users get {_named(facts.answering)} and not {_named(facts.wanted)}."
    odd, usual = list(_odd(facts)), list(_usual(facts))
    clauses = [*odd, *usual] or ["nothing odd has happened"]
    mood = Mood.BUSY if odd or facts.run else Mood.GOOD
    return mood, f"Serving {_named(facts.answering)}; {'; '.join(clauses)}."


def progress(facts: Facts) -> str:
    """Whether the live version is better than the base model, and when something was learned."""
    if facts.newest is None:
        learned = "Nothing has been learned yet."
    else:
        learned = f"The newest version, {facts.newest.name}, was made {utc(facts.newest.created)}."
    if facts.answering != BASE:
        return f"{compared(facts.live, facts.base)} {learned}"
    right = on_probes(facts.base) if facts.base else None
    if right is None:
        return learned
    return f"The base model answers {right} of the labelled probes rightly. {learned}"


def _odd(facts: Facts) -> Iterator[str]:
    if facts.uneasy:
        yield f"the live guard is uneasy ({facts.uneasy})"
    if facts.answering != BASE and beside_base(facts.live, facts.base) == -1:
        yield "by labelled probes it is worse than the base model"
    if back := facts.taken_back:
        yield f"{back.version} was rolled back {by(back)}"
    if facts.last is not None and facts.last.state in ENDED:
        why = f": {_short(facts.last.reason)}" if facts.last.reason else ""
        yield f"run {facts.last.id}, the last one, {ENDED[facts.last.state]}{why}"


def _usual(facts: Facts) -> Iterator[str]:
    if facts.run is not None:
        yield f"run {facts.run.id} is {DOING[facts.run.state]}"
    if facts.waiting:
        pairs = "1 pair waits" if facts.waiting == 1 else f"{facts.waiting} pairs wait"
        yield f"{pairs} for your judgement"
    if facts.paused:
        yield "learning is paused"


DOING = {
    RunState.QUEUED: "about to begin",
    RunState.SELECTING: "choosing its questions",
    RunState.UPDATING: "learning",
    RunState.JUDGING: "at the gate",
    RunState.PUBLISHING: "being published",
}
ENDED = {
    RunState.REJECTED: "was rejected",
    RunState.NOTHING: "learned nothing",
    RunState.HELD: "waits for you",
    RunState.FAILED: "failed",
    RunState.ABORTED: "was stopped",
}
BY: Mapping[str, str] = {Author.OPERATOR: "the operator", Author.GUARD: "the live guard"}


def by(back: RollBack) -> str:
    """Who took it back, when and why."""
    who = BY.get(back.author, back.author)
    return f"by {who}, {utc(back.at)}: {_short(back.reason)}"


def _named(version: str) -> str:
    return "the base model" if version == BASE else version


def _short(reason: str) -> str:
    return textwrap.shorten(reason, REASON_CHARS, placeholder=" ...")
