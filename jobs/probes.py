"""The evaluation set: which probes a version is asked, what that costs, what the operator is asked
to judge, and what the judgements since make of held versions."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from jobs.candidate import checkpoint_steps
from ttrl.config import Config, GateConfig
from ttrl.evaluation.evidence import Probe, labels_for, threshold_at
from ttrl.evaluation.gate import BY_LABELS, Certainty, Outcome, Rule, Verdict, certainty_of
from ttrl.evaluation.probes import (
    Apart,
    LabelledProbe,
    Pair,
    ProbeOrigin,
    Side,
    Undecided,
    draw,
    to_judge,
    to_judge_again,
)
from ttrl.questions.question import Question
from ttrl.questions.regime import Regime, Usage, evaluated
from ttrl.store import Store
from ttrl.store.adapters import AdapterState, Author
from ttrl.store.probes import History
from ttrl.store.questions import StoredQuestion
from ttrl.store.runs import StoredVerdict

CORE = 0.25
"""Share of a cohort that stays, so that one night can be compared with any other."""
POOL = 4
"""The other part is drawn among the newest, so many times its size."""
WEEK_SECONDS = 7 * 86400.0
MOST_TO_CHOOSE = 64
"""Labelled probes that choose a run's best step, at most: with 16 answers each they tell steps
apart that differ by a few points, and every other one makes the verdict surer."""


def cohort(
    held_out: Iterable[StoredQuestion], size: int, *, period: float, now: float, key: bytes
) -> list[StoredQuestion]:
    """The `size` questions that a gate asks at `now` (Unix seconds), one a cluster, the core first.

    The core is the longest-standing ones. The others are drawn anew, by `key`, whenever a period
    (seconds) begins, among what was asked before it; so of few questions many are drawn again, of
    POOL times as many one in POOL. A question that comes in later has its turn in the next period,
    unless there are too few.
    """
    first: dict[str, StoredQuestion] = {}
    for row in sorted(held_out, key=lambda row: (row.first_seen, row.id)):
        first.setdefault(row.question.cluster, row)
    each, most = list(first.values()), round(CORE * size)
    core, rest = each[:most], each[most:]
    turn = int(now // period)
    before = [row for row in rest if row.first_seen < turn * period]
    pool = before[-POOL * (size - len(core)) :]

    def place(row: StoredQuestion) -> bytes:
        return hmac.digest(key, f"{turn} {row.question.hash}".encode(), "sha256")

    return [*core, *sorted(pool, key=place), *rest[len(before) :]][:size]


@dataclass(frozen=True)
class Item:
    """A question for all versions, by the id of its row: labelled, or held out of the traffic.
    `traffic` says that it is one of those that stand for the traffic at present, whatever is known
    of it."""

    id: int
    question: Question
    label: LabelledProbe | None = None
    traffic: bool = False

    @property
    def decided(self) -> LabelledProbe | None:
        """Its label, if that says of every answer whether it is right."""
        return self.label if self.label is not None and self.label.decides else None


@dataclass(frozen=True)
class Compared:
    """A probe and what the gate sees of it."""

    item: Item
    probe: Probe


def regime_of(question: Question, usage: Usage, config: Config) -> Regime:
    return evaluated(question.hash, question.sampling, usage, max_tokens=config.vote.longest)


def samples_drawn(
    config: Config,
    steps: int,
    labelled: Sequence[LabelledProbe],
    held_out: Sequence[Question],
    usage: Usage,
    *,
    from_base: bool,
) -> int:
    """About how many samples evaluating in a run of so many steps draws of these probes: of one
    that is asked greedily one alone, and of any other whose label decides one more at temperature
    0."""
    decided = sum(probe.decides for probe in labelled)
    choosing = to_choose(decided, config.gate) / max(1, decided)
    snapshots = len(checkpoint_steps(steps, config.update.snapshots))
    arms = 2 if from_base else 3  # live version and candidate, and the base if it does not serve
    every = [*((q, False) for q in held_out), *((p.question, p.decides) for p in labelled)]
    total = 0.0
    for question, decides in every:
        greedy = regime_of(question, usage, config).greedy
        samples = 1 if greedy else config.gate.samples
        if decides:
            total += snapshots * choosing * samples
            total += arms * (1 - choosing) * (samples + (not greedy))
        else:
            total += arms * samples
    return round(total)


def to_choose(labelled: int, settings: GateConfig) -> int:
    """How many of the labelled probes choose a run's best step; none where that would be few."""
    count = min(round(settings.choosing * labelled), MOST_TO_CHOOSE)
    return count if count >= settings.min_probes else 0


def outlook(store: Store, settings: GateConfig) -> dict[str, Any]:
    """How far a verdict by labels is away: the labelled probes there are (near-duplicates as one),
    and about how many prove candidates that answer 5, 10 or 20% more of the questions correctly,
    and lose none, in nine of ten gates."""
    labels = len({probe.cluster for probe in store.probes.labelled() if probe.decides})
    threshold = threshold_at(time.time(), store.runs.labelled_gates(), settings)
    needed = {}
    for points in (20, 10, 5):
        total = judging = labels_for(points / 100, threshold)
        while total - to_choose(total, settings) < judging:
            total += 1
        needed[f"+{points}"] = total
    return {"labels": labels, "needed": needed}


def traffic(
    store: Store, settings: GateConfig, labelled: Sequence[LabelledProbe]
) -> list[StoredQuestion]:
    """The held-out questions that a gate asks at present and of which nothing is known; one like a
    labelled probe adds nothing to it."""
    clusters = {probe.cluster for probe in labelled}
    standing = _standing(store, settings, labelled)
    return [row for row in standing if row.question.cluster not in clusters]


def to_ask(store: Store, settings: GateConfig) -> list[Item]:
    labelled = store.probes.labelled()
    standing = {row.question.hash for row in _standing(store, settings, labelled)}
    others = traffic(store, settings, labelled)
    return [
        *(Item(row.id, row.question, row, row.question.hash in standing) for row in labelled),
        *(Item(row.id, row.question, traffic=True) for row in others),
    ]


def _standing(
    store: Store, settings: GateConfig, labelled: Sequence[LabelledProbe]
) -> list[StoredQuestion]:
    """The held-out questions that stand for the traffic at present. Those that were judged stay
    among them: without the ones on which versions disagree only easy ones would be left."""
    clusters = {probe.cluster for probe in labelled if probe.origin is ProbeOrigin.OPERATOR}
    return cohort(
        (row for row in store.holdout.probes() if row.question.cluster not in clusters),
        settings.probes,
        period=settings.cohort.total_seconds(),
        now=time.time(),
        key=store.holdout.key(),
    )


def apart(store: Store, traffic: Iterable[Question]) -> Apart:
    """What training keeps away from: every probe, labelled or held out, asked at present or not.
    `traffic` are the questions that it would train on."""
    labelled = (probe.question for probe in store.probes.labelled())
    return Apart(chain(labelled, store.holdout.all()), traffic)


def to_label(
    store: Store, settings: GateConfig, run_id: int, compared: Sequence[Compared]
) -> list[Pair]:
    """What to ask the operator about: this week's random questions as far as they are missing,
    where the versions disagree, and answers that judgements so far do not decide on. Random ones
    that have a pair already are marked in the store."""
    since, history = time.time() - WEEK_SECONDS, store.comparisons.history()
    standing = _standing(store, settings, store.probes.labelled())
    fresh = [
        row.id
        for row in standing
        if (seen := history.get(row.question.hash)) is None or seen.origin is not ProbeOrigin.RANDOM
    ]
    missing = settings.random_labels - store.comparisons.drawn_since(since)
    at_random = draw(fresh, missing, seed=run_id)
    store.comparisons.mark_random(at_random & {seen.question_id for seen in history.values()})
    answered = [
        (each.item.id, each.probe.live, each.probe.candidate)
        for each in compared
        if each.item.label is None and each.item.question.hash not in history
    ]
    again = settings.random_labels - store.comparisons.drawn_since(since, again=True)
    undecided = [one for each in compared for one in _undecided(each, history)]
    return [
        *to_judge(answered, at_random, seed=run_id),
        *to_judge_again(undecided, again, seed=run_id),
    ]


def _undecided(compared: Compared, history: Mapping[str, History]) -> Iterator[Undecided]:
    """The live version's answers to a question that was drawn at random of which nobody knows
    whether they are right, though others to it are known to be wrong."""
    label, live = compared.item.label, compared.probe.live
    seen = history.get(compared.item.question.hash)
    if label is None or not label.rejected or live.rejected is None or seen is None:
        return
    if seen.origin is not ProbeOrigin.RANDOM or seen.waiting or seen.skipped:
        return
    for text, answer, rejected in zip(live.texts, live.answers, live.rejected, strict=True):
        if answer is not None and not rejected:
            yield Undecided(seen.question_id, seen.rounds, Side(text, answer))


@dataclass(frozen=True)
class Confirmation:
    """A held version, what is sure of it by now, and why it does not serve for that all the same;
    empty when it is wanted from now on."""

    adapter: str
    run_id: int
    certainty: Certainty
    but: str


def confirm(store: Store, settings: GateConfig) -> list[Confirmation]:
    """Look at every held version whose answers were judged since its gate; want those that are
    `better` by these judgements."""
    found = []
    for row in store.adapters.all():
        if row.state is not AdapterState.HELD or row.run_id is None:
            continue
        verdict, worth = store.runs.verdict(row.run_id), store.comparisons.worth(row.run_id)
        if verdict is None or not worth:
            continue
        first = store.comparisons.first_judged(row.run_id)
        past = [at for at in store.runs.labelled_gates() if at < first]
        certainty = certainty_of(worth, threshold_at(first, past, settings))
        but = _objection(store, verdict, certainty)
        if not but:
            reason = f"{Verdict.BETTER}: answers judged by hand: {certainty}"
            judgement = replace(
                verdict.evidence, verdict=Verdict.BETTER, certainty=certainty, reason=reason
            )
            store.runs.add_verdict(row.run_id, row.name, verdict.against, judgement)
            store.adapters.want(row.name, author=Author.LABELS, reason=reason)
        found.append(Confirmation(row.name, row.run_id, certainty, but))
    return found


def _objection(store: Store, verdict: StoredVerdict, certainty: Certainty) -> str:
    """What labels say against it. What only shows without labels (length, distance) is no
    objection once labels prove it better."""
    if not certainty.proves:
        return str(certainty)
    live, versions = store.adapters.serving().adapter, {row.name for row in store.adapters.all()}
    if live != (verdict.against if verdict.against in versions else None):
        return f"it was compared with {verdict.against}, which is no longer live"
    checks = [check for check in verdict.evidence.checks if check.rule in BY_LABELS]
    if doubts := [check.words for check in checks if check.outcome is not Outcome.PASSED]:
        return "; ".join(doubts)
    if live and not any(check.rule is Rule.BASE for check in checks):
        return "its labelled probes were not compared with the base model; it may be worse"
    return ""
