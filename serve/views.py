"""What the command line and the page both show, read from the store, as JSON has it and in words.

The state of everything; runs and verdicts; versions and where they come from; how good a version
is, as far as labels tell; who said what in a vote; and pairs of answers that are judged blind.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from jobs.selection import stack
from serve.gateway.live import BASE
from ttrl.answers.layers import UNREAD, Layer
from ttrl.config import Config
from ttrl.config.learning import READABLE
from ttrl.evaluation.estimates import LEAST, Estimate, Quality, Reliability, Withheld
from ttrl.evaluation.probes import Judged, Side
from ttrl.events import Event, Scored
from ttrl.feedback import State
from ttrl.questions.question import message_text
from ttrl.store import Store
from ttrl.store.measurements import Measurement
from ttrl.store.probes import StoredPair
from ttrl.store.runs import Run, StoredVerdict
from ttrl.words import counted

UNEASY = 0.5
"""So near to an alarm, on a scale of logarithms, the live monitor is worth a word."""


def report(store: Store, config: Config) -> dict[str, Any]:
    """What the store knows, as JSON has it; times in Unix seconds."""
    from jobs.probes import outlook
    from serve.daemon.schedule import PAUSED

    newest, back = store.runs.newest(), next(iter(store.adapters.roll_backs()), None)
    serving = store.adapters.serving()
    measured = quality(store).items()
    signals = store.measurements.newest(Reliability)
    scores = {version or BASE: asdict(each) for version, each in store.feedback.shares().items()}
    return {
        "model": config.served_name,
        "state_dir": str(config.state_dir),
        "paused": store.fact(PAUSED) is not None,
        "questions": store.questions.counts(),
        "set_aside": store.questions.reasons(),
        "times_asked": store.questions.times_asked(),
        "wanted": store.adapters.wanted().adapter or BASE,
        "live": serving.adapter or BASE,
        "live_since": store.adapters.live_since(),
        "live_reason": serving.reason,
        "previous": store.adapters.previous() or BASE,
        "rolled_back": asdict(back) if back else None,
        "labels": outlook(store, config.gate),
        "last_run": run_report(newest[0]) | samples(store, newest[0].id) if newest else None,
        "quality": {
            role: {**asdict(each.found), "at": each.at} if each else None for role, each in measured
        },
        "signals": list(reliable_lines(signals.found)) if signals else [],
        "evaluated": str(store.questions.usage(config.gate.min_probes)),
        "feedback": {"states": store.feedback.counts(), "scores": scores},
    }


def feedback_lines(found: Mapping[str, Any], live: str) -> Iterator[str]:
    """How clients scored the live version and the base model, and what became of corrections."""
    for version in dict.fromkeys((live, BASE)):
        if each := found["scores"].get(version):
            rests = f"{counted(each['answers'], 'answer')} of {counted(each['clients'], 'client')}"
            score = f"{each['value']:.0%} ({each['low']:.0%} to {each['high']:.0%})"
            yield f"{version}: score {score} on {rests}"
    if states := {state: n for state, n in found["states"].items() if state != State.SCORED}:
        yield ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in states.items())


def quality(store: Store) -> dict[str, Measurement[Quality] | None]:
    versions = {"live": store.adapters.serving().adapter, "base": None}
    return {role: store.measurements.newest(Quality, name) for role, name in versions.items()}


def reliable_lines(found: Reliability) -> Iterator[str]:
    votes = {f"vote, answers of kind {kind}": each for kind, each in found.kinds.items()}
    votes |= {f"vote, tag {tag}": each for tag, each in found.tags.items()}
    for name, each in {**found.checks, **votes}.items():
        fooled = any(found.kinds[kind] is each for kind in found.fooled)
        left_out = "; runs leave it out" * (name in found.misleading)
        untrained = "; runs do not train on it (vote.only_reliable)" * fooled
        probes = counted(each.labels, "labelled probe")
        yield f"{name}: right about {share(each)} of {probes}{left_out}{untrained}"


def verdicts(store: Store, run_id: int) -> list[StoredVerdict]:
    """What the gate said in a run; the probes that lost most have their `text`, if it is known."""
    found = []
    for verdict in store.runs.verdicts(run_id):
        evidence = verdict.evidence
        asked = store.probes.texts([change.probe for change in evidence.worst])
        worst = tuple(
            replace(change, text=asked.get(change.probe, "(deleted)")) for change in evidence.worst
        )
        found.append(replace(verdict, evidence=replace(evidence, worst=worst)))
    return found


def judge_cost(events: Iterable[Event]) -> str:
    """What the judge did in a run, and what it cost; empty if it was not asked."""
    spent = [event for event in events if isinstance(event, Scored)]
    answers: Counter[str] = Counter()
    for event in spent:
        answers.update(event.answers)
    if not answers:
        return ""
    outcomes = ", ".join(
        f"{count} {what.replace('_', ' ')}" for what, count in answers.most_common()
    )
    requests = counted(sum(event.requests for event in spent), "request")
    read = sum(event.tokens_read for event in spent)
    written = sum(event.tokens_written for event in spent)
    tokens = f", {read:,} tokens read and {written:,} written" if read or written else ""
    return f"answers: {outcomes}; {requests}{tokens}"


def run_report(run: Run) -> dict[str, Any]:
    return {key: value for key, value in vars(run).items() if key != "request"}


def samples(store: Store, run_id: int) -> dict[str, Any]:
    """How a run's samples were read, counted, and the ends of some that were not."""
    return {"layers": store.votes.layers(run_id), "unread": store.votes.unread(run_id)}


def how_read(layers: Mapping[str, int]) -> str:
    """What share of some samples was read and by which layers, and why others were not."""
    whole = sum(layers.values())
    ranked = sorted(layers.items(), key=lambda item: -item[1])

    def shares(some: Collection[str]) -> tuple[str, str]:
        counts = {layer: count / whole for layer, count in ranked if layer in some}
        each = (f"{layer.replace('_', ' ')} {part:.0%}" for layer, part in counts.items())
        return f"{sum(counts.values()):.0%}", ", ".join(each)

    read, by = shares(layers.keys() - set(UNREAD))
    _, cut = shares({Layer.CUT_OFF})
    unread, why = shares(set(UNREAD) - {Layer.CUT_OFF})
    lost = f"not read {unread}: {why}" if why else ""
    return "; ".join(filter(None, (f"read {read}" + (f" ({by})" if by else ""), cut, lost)))


def unread_warning(layers: Mapping[str, int]) -> str:
    """What to do where too few samples were read for labels; "" where it is nothing."""
    unread = {layer: count for layer, count in layers.items() if layer in UNREAD}
    if sum(unread.values()) <= (1 - READABLE) * sum(layers.values()):
        return ""
    most = max(unread, key=unread.__getitem__)
    return f"too few answers can be read: {TO_READ_MORE.get(Layer(most), LOOK)}"


LOOK = "look at them with `ttrl questions show ID --samples`"
TO_READ_MORE = {
    Layer.CUT_OFF: "raise vote.max_tokens",
    Layer.THOUGHTS_NOT_ENDED: "raise vote.max_tokens",
    Layer.NOTHING_FOUND: (
        "set vote.kind, or add the words that announce an answer to vote.phrases; "
        "`ttrl answers FILE` shows how samples are read"
    ),
}


@dataclass(frozen=True)
class Branch:
    """A version in the tree; its `depth` is the updates stacked, its own included."""

    name: str
    base_model: str
    lineage: str
    begins: str | None
    parent: str | None
    depth: int
    role: str
    state: str
    verdict: str | None
    created: float


def branches(store: Store) -> Iterator[Branch]:
    """Every version, the oldest lineage first, each before what came of it: a tree's lines."""
    versions, roles = store.adapters.all(), store.adapters.roles()
    ages = {row.name: at for at, row in enumerate(reversed(versions))}
    paths = {name: [ages.get(each, 0) for each in stack(versions, name)[::-1]] for name in ages}
    for row in sorted(versions, key=lambda row: paths[row.name]):
        run = store.runs.get(row.run_id) if row.run_id else None
        judged = store.runs.verdicts(row.run_id) if row.run_id else []
        yield Branch(
            name=row.name,
            base_model=row.base_model,
            lineage=row.lineage,
            begins=run.begins if run else None,
            parent=row.parent,
            depth=len(paths[row.name]),
            role=roles.get(row.name, ""),
            state=row.state,
            verdict=judged[-1].verdict if judged else None,
            created=row.created,
        )


def share(found: Estimate, digits: int = 0) -> str:
    return f"{found.value:.{digits}%} ({interval(found, digits)})"


def interval(found: Estimate, digits: int = 0) -> str:
    return f"{found.low:.{digits}%} to {found.high:.{digits}%}"


def withheld(quality: Quality) -> str:
    """Why nothing is said of the traffic."""
    if quality.withheld is Withheld.APART:
        return (
            "agreement differs between the labelled questions and the traffic, so the labels do "
            "not represent it"
        )
    return (
        f"{LEAST} labels that represent the traffic are needed, and there are {quality.speaking}; "
        "add some with `ttrl label`"
    )


def undecided(quality: Quality) -> str:
    """What part of the answers to the labelled questions nobody judged, and what would help; ""
    where there is none."""
    part = quality.undecided
    advice = "give the correct answers in `ttrl label` to narrow it"
    return "" if part < 0.005 else f"{part:.0%} of the answers are unlabelled: {advice}"


def beside_base(live: Estimate, base: Estimate) -> int:
    """Whether the live version answers more (1) or fewer (-1) of the labelled probes correctly than
    the base model, or too alike to tell (0)."""
    return int(live.low > base.high) - int(live.high < base.low)


BESIDE = {1: "it is better", 0: "the difference is not significant", -1: "it is worse"}


def compared(live: Estimate | None, base: Estimate | None) -> str:
    """The same in words; None where it is not known."""
    if not live or not base:
        return (
            "It is not known whether it is better than the base model: labelled probes are needed."
        )
    shares = f"{share(live)}, the base model's {share(base)}"
    return f"Its accuracy on the labelled probes is {shares}: {BESIDE[beside_base(live, base)]}."


@dataclass(frozen=True)
class Row:
    """So many samples, and which part of all; `answer` is what they said, or, if not `said`, what
    they were."""

    answer: str
    count: int
    part: float
    said: bool = True


def tally(vote: Mapping[str, Any], most: int) -> list[Row]:
    """The leading answers, at most so many, the others and the unreadable ones: all samples drawn.
    None where no answer could be read, since such a vote does not know how many there were."""
    counts = vote["counts"]
    if not counts:
        return []
    readable = sum(count for _, count in counts)
    every = max(readable, round(counts[0][1] / (vote["share"] or 1.0)))
    rows = [Row(answer, count, count / every) for answer, count in counts[:most]]
    if others := counts[most:]:
        count = sum(count for _, count in others)
        what = counted(len(others), "more answer")
        rows.append(Row(what, count, count / every, said=False))
    if unreadable := every - readable:
        rows.append(Row("unreadable", unreadable, unreadable / every, said=False))
    return rows


WORDS = {"a": "a", "b": "b", "both": "=", "neither": "n", "skip": "?"}
"""What can be said of a pair, and the key for it."""


def sides(stored: StoredPair) -> tuple[tuple[Judged, Side], tuple[Judged, Side]]:
    """A and B, in an order that is a pair's own and tells nothing."""
    both = [(Judged.LIVE, stored.pair.live), (Judged.CANDIDATE, stored.pair.candidate)]
    a, b = random.Random(stored.id).sample(both, 2)
    return a, b


def pair_report(stored: StoredPair) -> dict[str, Any]:
    """A pair as whoever judges it sees it: nothing tells which side is which."""
    (_, a), (_, b) = sides(stored)
    return {
        "id": stored.id,
        "run": stored.run_id,
        "origin": stored.pair.origin,
        "body": stored.question.body,
        "a": {"text": a.text, "answer": a.label},
        "b": {"text": b.text, "answer": b.label},
    }


def turns(body: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who said what in a question; calls of tools as they were sent."""
    return [
        (each["role"], message_text(each) or (json.dumps(calls) if calls else ""))
        for each in body["messages"]
        for calls in [each.get("tool_calls")]
    ]


def judged(stored: StoredPair, word: str) -> Judged:
    """Which version a word of WORDS is for."""
    (if_a, _), (if_b, _) = sides(stored)
    same = {"both": Judged.BOTH, "neither": Judged.NEITHER, "skip": Judged.CANNOT_TELL}
    return {"a": if_a, "b": if_b, **same}[word]
