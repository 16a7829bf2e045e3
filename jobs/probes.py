"""The evaluation set: which probes a version is asked, which answers the operator judges, and what
those judgements make of held versions."""

from __future__ import annotations

import hmac
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
"""Share of a cohort that stays, so that runs can be compared."""
POOL = 4
"""The rest is drawn among the newest, so many times its size."""
WEEK_SECONDS = 7 * 86400.0
MOST_TO_CHOOSE = 64
"""Labelled probes that choose a run's best step, at most: with 16 answers each they show a
difference of a few points, and each other one makes the verdict surer."""


def cohort(
    held_out: Iterable[StoredQuestion], size: int, *, period: float, now: float, key: bytes
) -> list[StoredQuestion]:
    """Return the `size` questions that a gate asks at `now` (Unix seconds), one of each cluster:
    first the core, which are the oldest of those that a gate has asked, then others, drawn by `key`
    whenever a period (seconds) begins among the newest asked before it; later ones only where there
    are too few."""
    first: dict[str, StoredQuestion] = {}
    for row in sorted(held_out, key=lambda row: (row.first_seen, row.id)):
        first.setdefault(row.question.cluster, row)
    # Where the oldest are forgotten, those take their places from which training kept away.
    core = sorted(first.values(), key=lambda row: row.exposures == 0)[: round(CORE * size)]
    stay = {row.id for row in core}
    rest = [row for row in first.values() if row.id not in stay]
    turn = int(now // period)
    before = [row for row in rest if row.first_seen < turn * period]
    pool = before[-POOL * (size - len(core)) :]

    def place(row: StoredQuestion) -> bytes:
        return hmac.digest(key, f"{turn} {row.question.hash}".encode(), "sha256")

    return [*core, *sorted(pool, key=place), *rest[len(before) :]][:size]


@dataclass(frozen=True)
class Item:
    """A question for all versions, by the id of its row: labelled, or held out. `traffic` says that
    it stands for the traffic at present, labelled or not."""

    id: int
    question: Question
    label: LabelledProbe | None = None
    traffic: bool = False

    @property
    def decided(self) -> LabelledProbe | None:
        """Its label, if that decides on every answer."""
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
    """Return how many of the labelled probes choose a run's best step; none if those are few."""
    count = min(round(settings.choosing * labelled), MOST_TO_CHOOSE)
    return count if count >= settings.min_probes else 0


def outlook(store: Store, settings: GateConfig) -> dict[str, Any]:
    """Return how many labelled probes there are (near-duplicates as one), and about how many prove
    candidates that answer 5, 10 or 20% more of the questions correctly, and lose none, in nine of
    ten gates."""
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
    """Return the held-out questions that a gate asks at present, but for those like a labelled
    probe."""
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
    """Return the held-out questions that stand for the traffic at present, judged ones too: without
    those on which versions disagree only easy ones would be left."""
    clusters = {probe.cluster for probe in labelled if probe.origin is ProbeOrigin.OPERATOR}
    now, period = time.time(), settings.cohort.total_seconds()
    return cohort(
        (row for row in _in_reach(store, settings, now) if row.question.cluster not in clusters),
        settings.probes,
        period=period,
        now=now,
        key=store.holdout.key(),
    )


def _in_reach(store: Store, settings: GateConfig, now: float) -> list[StoredQuestion]:
    """Return the held-out questions that gates have asked, ask now, or may ask yet: there may be a
    million others, which came between those of two cohorts, and never are."""
    size, period = settings.probes, settings.cohort.total_seconds()
    pool, turn = (POOL + 1) * size, now // period * period
    rows = chain(
        store.holdout.evaluated(),
        store.holdout.oldest(size),
        store.holdout.probes(pool, before=turn),
        store.holdout.probes(pool),
    )
    return list({row.id: row for row in rows}.values())


def apart(store: Store, settings: GateConfig, traffic: Sequence[Question]) -> Apart:
    """Return what training keeps away from: every probe, labelled or held out, and what is nearly
    the same as a labelled one or one that a gate may ask. `traffic` are the questions that it would
    train on."""
    labelled = (probe.question for probe in store.probes.labelled())
    held_out = (row.question for row in _in_reach(store, settings, time.time()))
    clusters = store.holdout.clusters([question.cluster for question in traffic])
    return Apart(chain(labelled, held_out), traffic, clusters)


def to_label(
    store: Store, settings: GateConfig, run_id: int, compared: Sequence[Compared]
) -> list[Pair]:
    """Return what to ask the operator about: as many random questions as this week lacks, where the
    versions disagree, and answers that judgements so far do not decide on. Random ones that have a
    pair already are marked in the store."""
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
    ids = {row.question.hash: row.id for row in standing}
    answered = [
        (ids.get(each.item.question.hash, each.item.id), each.probe.live, each.probe.candidate)
        for each in compared
        if each.item.question.hash not in history
        and (each.item.label is None or _by_feedback(each.item, at_random, ids))
    ]
    again = settings.random_labels - store.comparisons.drawn_since(since, again=True)
    undecided = [one for each in compared for one in _undecided(each, history)]
    return [
        *to_judge(answered, at_random, seed=run_id),
        *to_judge_again(undecided, again, seed=run_id),
    ]


def _by_feedback(item: Item, at_random: Collection[int], ids: Mapping[str, int]) -> bool:
    """Whether a question that was drawn at random has only its users' label: without those which
    users correct, the random ones would be too easy."""
    label = item.label
    users = label is not None and label.origin is ProbeOrigin.FEEDBACK
    return users and ids.get(item.question.hash) in at_random


def _undecided(compared: Compared, history: Mapping[str, History]) -> Iterator[Pair]:
    """Yield the live version's answers to a random question that are not among the ones known to be
    wrong, which is all that is known."""
    label, live = compared.item.label, compared.probe.live
    seen = history.get(compared.item.question.hash)
    if label is None or not label.rejected or live.rejected is None or seen is None:
        return
    if seen.origin is not ProbeOrigin.RANDOM or seen.waiting or seen.skipped:
        return
    for text, answer, rejected in zip(live.texts, live.answers, live.rejected, strict=True):
        if answer is not None and not rejected:
            side = Side(text, answer)
            yield Pair(seen.question_id, ProbeOrigin.RANDOM, side, side, seen.rounds)


@dataclass(frozen=True)
class Confirmation:
    """A held version, how sure its labels are by now, and why it is not wanted all the same; empty
    when it is wanted from now on."""

    adapter: str
    run_id: int
    certainty: Certainty
    but: str


def confirm(store: Store, settings: GateConfig) -> list[Confirmation]:
    """Want every held version that is `better` by what was judged since its gate."""
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
    """Say what speaks against it. What only shows without labels (length, distance) does not, once
    labels prove it better."""
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
