"""What the pages show: the templates and their plots; the page about one run, which `ttrl runs
report` writes as well; and the first view: how it is in one sentence (is it serving, is it
learning, is it better, what was odd), and every version with how good it is."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from serve import views
from serve.daemon.schedule import PAUSED
from serve.gateway.live import BASE
from ttrl import events
from ttrl.config.section import utc
from ttrl.evaluation.estimates import Estimate, Quality
from ttrl.events import Step
from ttrl.store import Store
from ttrl.store.adapters import AdapterRow, AdapterState, Author, RollBack
from ttrl.store.runs import Run, RunState
from ttrl.words import counted

WIDTH, HEIGHT, MARGIN = 320, 120, 8
CURVES = {
    "share": "share of the majority",
    "vote_entropy": "entropy of the votes, nats",
    "informative": "questions with a training signal",
    "token_entropy": "entropy of the tokens, nats",
    "length": "answer length, tokens",
    "unreadable": "answers cut off or unreadable",
    "cut": "answers cut off",
    "alike": "question pairs with the same majority answer",
    "kl": "KL divergence from the start, nats per token",
    "grad_norm": "gradient norm",
}
"""Numbers of a Step that are drawn, where they are known."""
RECENT_SECONDS = 7 * 86400.0
"""So long a roll-back is worth a word."""
REASON_CHARS = 160


@cache
def templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("serve"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "time": lambda at: "-" if at is None else utc(at),
        "percent": lambda share: "-" if share is None else f"{share:.0%}",
        "interval": views.interval,
        "path": path,
        "counted": counted,
        "feedback_lines": views.feedback_lines,
        "how_read": views.how_read,
        "turns": views.turns,
        "unread_warning": views.unread_warning,
        "place": place,
    }
    environment.globals["plots"] = {"WIDTH": WIDTH, "HEIGHT": HEIGHT}
    return environment


def path(points: Sequence[tuple[float, float]]) -> str:
    """The curve through at least one point, filling a box of WIDTH by HEIGHT, as SVG has it."""
    xs, ys = zip(*points, strict=True)
    across, up = (min(xs), max(xs)), (min(ys), max(ys), HEIGHT)
    places = (f"{place(x, *across):.1f},{HEIGHT - place(y, *up):.1f}" for x, y in points)
    return "M" + " L".join(places)


def place(value: float, low: float = 0.0, high: float = 1.0, size: float = WIDTH) -> float:
    """Where a value is between two others, on a scale with margins; in the middle of no range."""
    share = (value - low) / (high - low) if high > low else 0.5
    return MARGIN + share * (size - 2 * MARGIN)


def run_values(store: Store, run_id: int) -> dict[str, Any]:
    """What one run did, what the gate saw, and what changed for the worse, for report.html. Raises
    NotFound when there is no such run."""
    run = store.runs.get(run_id)
    observed = events.observed(store, run_id)
    steps = [event for event in observed if isinstance(event, Step)]
    curves = {
        name: [(step.step, y) for step in steps if (y := getattr(step, key)) is not None]
        for key, name in CURVES.items()
    }
    return {
        "run": run,
        "curves": {name: points for name, points in curves.items() if points},
        "verdicts": views.verdicts(store, run_id),
        "samples": views.samples(store, run_id),
        "judge": views.judge_cost(observed),
    }


def run_page(store: Store, run_id: int) -> str:
    """The page about a run, complete in itself. Raises NotFound when there is no such run."""
    template = templates().get_template("report.html")
    return template.render(nonce="", now=time.time(), **run_values(store, run_id))


@dataclass(frozen=True)
class Facts:
    """What the sentence rests on; `taken_back` is the newest roll-back while it is recent, `live`
    and `base` the accuracy of the live version and the base model on the labelled probes."""

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
    live: Estimate | None = None
    base: Estimate | None = None


def facts(
    store: Store, *, engine_up: bool, answering: str, uneasy: str | None, damage: str | None
) -> Facts:
    """What can be said now. The last run is the newest that has ended, unless what it held was
    decided on since."""
    back, measured = next(iter(store.adapters.roll_backs()), None), views.quality(store)
    live, base = (newest.found.right if newest else None for newest in measured.values())
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
        live=live,
        base=base,
    )


def sentence(facts: Facts) -> tuple[Literal["good", "busy", "bad"], str]:
    """How it is, and that in words: what keeps users from their answers alone, else all that is
    worth a word, the most pressing first."""
    if not facts.engine_up:
        return "bad", "The engine is down: users get no answers."
    if facts.damage:
        return "bad", f"{facts.answering} is live, and training is off: {facts.damage}."
    if facts.answering != facts.wanted:
        return "bad", f"Users get {_named(facts.answering)} instead of {_named(facts.wanted)}."
    odd, usual, run = [], [], facts.run
    if facts.uneasy:
        odd.append(f"the live monitor is near an alarm ({facts.uneasy})")
    known = facts.live and facts.base and views.beside_base(facts.live, facts.base)
    if facts.answering != BASE and known == -1:
        odd.append("on the labelled probes it is worse than the base model")
    if back := facts.taken_back:
        odd.append(f"{back.version} was rolled back {by(back)}")
    if facts.last is not None and facts.last.state in ENDED:
        why = f": {_short(facts.last.reason)}" if facts.last.reason else ""
        odd.append(f"the last run, {facts.last.id}, {ENDED[facts.last.state]}{why}")
    if run is not None:
        usual.append(f"run {run.id} is {DOING[run.state]}")
    if facts.waiting:
        usual.append(f"{counted(facts.waiting, 'pair')} to label")
    if facts.paused:
        usual.append("training is paused")
    clauses = [*odd, *usual] or ["no problems"]
    words = f"Serving {_named(facts.answering)}; {'; '.join(clauses)}."
    return "busy" if odd or run else "good", words


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
BY: Mapping[str, str] = {Author.OPERATOR: "the operator", Author.LIVE_MONITOR: "the live monitor"}


def progress(facts: Facts) -> str:
    """Whether the live version is better than the base model, and when something was learned."""
    learned = "There are no versions yet."
    if newest := facts.newest:
        learned = f"The newest version, {newest.name}, was created {utc(newest.created)}."
    if facts.answering != BASE:
        return f"{views.compared(facts.live, facts.base)} {learned}"
    if facts.base is None:
        return learned
    return (
        f"The base model's accuracy on the labelled probes is {views.share(facts.base)}. {learned}"
    )


def by(back: RollBack) -> str:
    who = BY.get(back.author, back.author)
    return f"by {who}, {utc(back.at)}: {_short(back.reason)}"


def _named(version: str) -> str:
    return "the base model" if version == BASE else version


def _short(reason: str) -> str:
    return textwrap.shorten(reason, REASON_CHARS, placeholder=" ...")


def versions(store: Store) -> list[dict[str, Any]]:
    """The base model and all that came of it, as views.branches has it. `right` is its accuracy on
    the labelled probes, and `estimate` for the traffic; `withheld` is why there is none."""
    adapters = store.adapters
    why = {row.name: row.reason or "" for row in adapters.all()}
    why |= {back.version: by(back) for back in adapters.roll_backs()}

    def row(name: str | None, **shown: Any) -> dict[str, Any]:
        newest = store.measurements.newest(Quality, name)
        found = newest.found if newest else None
        return {
            "name": name or BASE,
            "right": found and found.right,
            "estimate": found and found.estimate,
            "withheld": views.withheld(found) if found and not found.estimate else "",
            "agreement": found and found.agreement,
            "why": why.get(name or BASE, ""),
            **shown,
        }

    base = {"depth": 0, "role": adapters.roles().get(None, "base"), "verdict": None}
    rows = [row(None, **base, created=None)]
    for branch in views.branches(store):
        role = branch.role or branch.state.replace("_", " ")
        rows.append(row(**vars(branch) | {"role": role}))
    return rows
