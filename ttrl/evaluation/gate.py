"""The gate: answers of several versions to the same probes in, a verdict on the candidate out.

Labels decide. Without them only a collapse (one answer to all questions, or hardly a readable one)
can be told from learning; any other large change is a reason for a human to look.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from ttrl.config import GateConfig, ShipPolicy
from ttrl.evaluation.drift import Drift, Staleness
from ttrl.evaluation.evidence import (
    CONDEMNING,
    CONVINCING,
    Answered,
    Comparison,
    Pair,
    Probe,
    Value,
    compare,
    differences,
    e_value,
    labels_needed,
)
from ttrl.votes import entropy
from ttrl.words import counted

WORST = 10
"""Changed answers that are kept with a verdict."""


NOT_SHOWN = "labels have not shown that the judge is reliable"
"""Why a judge certifies nothing."""


class Rule(StrEnum):
    """What is looked at."""

    ACCURACY = "accuracy"
    """Correct answers to labelled probes, against the live version."""
    BASE = "accuracy against the base model"
    TAG = "accuracy by tag"
    REACH = "reach"
    """Labelled probes with a correct answer among all samples (pass@k)."""
    GREEDY = "accuracy at temperature 0"
    """Of labelled probes; a lower temperature alone does not change it."""
    KEPT_RIGHT = "correct majorities kept"
    """The live version's correct majority answers that stay correct; for information."""
    READABLE = "readable answers"
    AGREEMENT = "agreement with itself"
    """The share of the most common answer."""
    VARIETY = "different majorities"
    """The entropy of the majority answers over the probes."""
    LENGTH = "length"
    JUDGE = "judge's scores"
    """The judge's mean score of the answers."""
    KL_BASE = "distance from the base model"
    """KL divergence on pinned answers, in nats per token."""
    KL_LIVE = "distance from the live version"


BY_LABELS = frozenset({Rule.ACCURACY, Rule.BASE, Rule.TAG, Rule.REACH})
"""Rules that go by labels. No other one contradicts what these say."""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    """Labels prove a loss, or the model has collapsed."""
    UNPROVEN = "unproven"
    """A human should look, or more labels are needed."""


@dataclass(frozen=True)
class Check:
    rule: Rule
    outcome: Outcome
    words: str
    compared: Comparison | None = None
    tag: str | None = None


def _both(value: Callable[[Answered], float]) -> Value:
    return lambda probe: (value(probe.live), value(probe.candidate))


accuracy = _both(lambda answered: answered.accuracy)
reach = _both(lambda answered: answered.reached)


def to_base(probe: Probe) -> Pair:
    return probe.base.accuracy, probe.candidate.accuracy


def kept_right(probe: Probe) -> Pair | None:
    return (1.0, float(probe.candidate.majority_right)) if probe.live.majority_right else None


def greedy(probe: Probe) -> Pair | None:
    before, after = probe.live.greedy_right, probe.candidate.greedy_right
    return None if before is None or after is None else (float(before), float(after))


def beyond_greedy(probe: Probe) -> Pair | None:
    """What is gained over any lower temperature of the live version."""
    before = probe.live.greedy_right
    return None if before is None else (float(before), probe.candidate.accuracy)


def _by_labels(labelled: Sequence[Probe], settings: GateConfig) -> Iterator[Check]:
    yield _loss(Rule.ACCURACY, labelled, accuracy)
    if any(probe.base is not probe.live for probe in labelled):
        yield _loss(Rule.BASE, labelled, to_base, settings.base_margin, prove=True)
    for tag in sorted({tag for probe in labelled for tag in probe.tags}):
        of_tag = [probe for probe in labelled if tag in probe.tags]
        prove = tag in settings.proven_tags
        yield _loss(Rule.TAG, of_tag, to_base, settings.tag_margin, tag, prove=prove)
    lost = e_value((-each for each in differences(labelled, reach)), above=settings.reach)
    # A human weighs it against what was gained.
    outcome = Outcome.UNPROVEN if lost >= CONDEMNING else Outcome.PASSED
    yield _check(Rule.REACH, outcome, compare(labelled, reach))
    for rule, value in ((Rule.GREEDY, greedy), (Rule.KEPT_RIGHT, kept_right)):
        if compared := compare(labelled, value):
            yield _check(rule, Outcome.PASSED, compared)


def _check(
    rule: Rule,
    outcome: Outcome,
    compared: Comparison | None,
    tag: str | None = None,
    doubt: str = "",
) -> Check:
    words = f"{rule}{f' {tag}' if tag else ''}: {compared}{doubt}"
    return Check(rule, outcome, words, compared, tag)


def _loss(
    rule: Rule,
    probes: Sequence[Probe],
    value: Value,
    margin: float = 0.0,
    tag: str | None = None,
    *,
    prove: bool = False,
) -> Check:
    """Fail where labels prove a loss of more than the margin; doubt where they nearly do, and where
    the live version lost more: to rise from there is no loss. With `prove` they must show that the
    loss is smaller than the margin: no loss among few probes says little."""
    outcome, doubt, found = Outcome.PASSED, "", differences(probes, value)
    loss = e_value((-each for each in found), above=margin)
    if loss >= CONVINCING:
        to_live = compare(probes, accuracy)
        assert to_live is not None
        lost = to_live.difference < 0 and loss >= CONDEMNING
        outcome = Outcome.FAILED if lost else Outcome.UNPROVEN
    elif prove and margin < 1 and (e := e_value(found, above=-margin)) < CONVINCING:
        needed = labels_needed(len(found), e, CONVINCING)
        about = f"about {counted(needed, 'label')} needed" if needed else "more labels needed"
        have = counted(len(found), "label")
        doubt = f"; not proven that less than {margin:.0%} was lost: {have}, {about}"
        outcome = Outcome.UNPROVEN
    return _check(rule, outcome, compare(probes, value), tag, doubt)


def _without_labels(probes: Sequence[Probe], settings: GateConfig) -> Iterator[Check]:
    readable = compare(probes, _both(lambda answered: answered.readable))
    assert readable is not None
    outcome = Outcome.PASSED
    if readable.high < 0 and readable.difference < -settings.unreadable:
        collapsed = readable.after < readable.before / 2
        outcome = Outcome.FAILED if collapsed else Outcome.UNPROVEN
    yield _check(Rule.READABLE, outcome, readable)
    agreed = compare(probes, _both(lambda answered: answered.vote.share))
    yield _check(Rule.AGREEMENT, Outcome.PASSED, agreed)
    yield _variety(probes)
    before = fmean(probe.live.tokens for probe in probes)
    after = fmean(probe.candidate.tokens for probe in probes)
    if before and after:
        far = abs(math.log(after / before)) > math.log(settings.length)
        outcome = Outcome.UNPROVEN if far else Outcome.PASSED
        yield Check(Rule.LENGTH, outcome, f"{Rule.LENGTH}: {before:.0f} to {after:.0f} tokens")


def _variety(probes: Sequence[Probe]) -> Check:
    """Whether many different questions now get one answer: the entropy of the majority answers has
    halved, and the candidate's most frequent one has certainly become more frequent."""
    before, after = (
        Counter(side.vote.label for side in sides if side.vote.label is not None)
        for sides in ([p.live for p in probes], [p.candidate for p in probes])
    )
    was, now = entropy(before.values()), entropy(after.values())
    outcome = Outcome.PASSED
    if after and now < was / 2:
        (top, _), *_ = after.most_common(1)
        spread = compare(probes, _both(lambda answered: float(answered.vote.label == top)))
        assert spread is not None
        outcome = Outcome.FAILED if spread.low > 0 else Outcome.UNPROVEN
    told = f"{math.exp(was):.1f} to {math.exp(now):.1f}"
    return Check(
        Rule.VARIETY, outcome, f"{Rule.VARIETY}: {told} on {counted(len(probes), 'probe')}"
    )


def scored(probe: Probe) -> Pair | None:
    before, after = probe.live.score, probe.candidate.score
    return None if before is None or after is None else (before, after)


def _by_judge(probes: Sequence[Probe], judge_doubt: str) -> Iterator[Check]:
    """Doubt where the scores have certainly fallen. That they rose counts only without a doubt
    about the judge."""
    if (compared := compare(probes, scored)) is None:
        return
    fallen = e_value(-each for each in differences(probes, scored)) >= CONVINCING
    outcome = Outcome.UNPROVEN if fallen else Outcome.PASSED
    doubt = f"; may only hold: {judge_doubt}" if judge_doubt else ""
    yield _check(Rule.JUDGE, outcome, compared, doubt=doubt)


def _distances(settings: GateConfig, drift: Drift) -> Iterator[Check]:
    for rule, distance, limit in (
        (Rule.KL_BASE, drift.from_base, settings.kl_base),
        (Rule.KL_LIVE, drift.from_live, settings.kl_live),
    ):
        if distance is not None:
            words = f"{rule}: {distance:.3g} nats per token, limit {limit:g}"
            within = distance <= limit  # nan is not
            yield Check(rule, Outcome.PASSED if within else Outcome.UNPROVEN, words)


class Verdict(StrEnum):
    """What the evidence says of a candidate, against the live version."""

    BETTER = "better"
    """Labels prove that it answers more probes correctly."""
    SHARPER = "sharper"
    """It agrees with itself more often, or a judge that labels show to be reliable scores it
    higher, which no label confirms; or labels show no more than a lower temperature would give the
    live version."""
    UNPROVEN = "unproven"
    """Too little evidence either way, or something that a human should look at."""
    WORSE = "worse"
    """Labels prove a loss, or the model has collapsed."""


@dataclass(frozen=True)
class Certainty:
    """What `labels` (near-duplicates as one) prove: their e-value against "no better", the gate's
    threshold, and about how many labels like these would reach it (None: no number would)."""

    labels: int
    e: float
    threshold: float
    needed: int | None

    @property
    def proves(self) -> bool:
        return self.e >= self.threshold

    def __str__(self) -> str:
        labels = counted(self.labels, "label")
        if self.proves:
            return f"proven by {labels} (e-value {self.e:.3g} of {self.threshold:.3g})"
        if self.needed is None:
            return f"not proven better: {labels}; more labels like these would not prove it"
        return f"not proven better yet: {labels}, about {self.needed} needed"


@dataclass(frozen=True)
class Change:
    """What became of one labelled probe: the majority answers, and the shares of correct ones. Its
    `text` is not stored with it."""

    probe: str
    live: str | None
    candidate: str | None
    right_before: float
    right_after: float
    text: str | None = None


@dataclass(frozen=True)
class Judgement:
    """The verdict and what it rests on; `worst` are the labelled probes that lost most."""

    verdict: Verdict
    reason: str
    certainty: Certainty | None
    checks: tuple[Check, ...]
    worst: tuple[Change, ...]
    probes: int
    staleness: Staleness | None = None

    def ships(self, policy: ShipPolicy) -> bool:
        sharper = self.verdict is Verdict.SHARPER and policy is ShipPolicy.SHARPER
        return self.verdict is Verdict.BETTER or sharper

    @property
    def labelled(self) -> int:
        compared = (check.compared for check in self.checks if check.rule is Rule.ACCURACY)
        return sum(each.probes for each in compared if each is not None)


def judge(
    probes: Sequence[Probe],
    settings: GateConfig,
    threshold: float,
    drift: Drift | None = None,
    staleness: Staleness | None = None,
    *,
    judge_doubt: str = NOT_SHOWN,
) -> Judgement:
    """Judge a candidate. Where labels speak, labels decide; without them the model's consensus,
    which it was trained towards, may say `sharper`, never `better`, and only a collapse `worse`.
    Scores of a judge may hold it back; they may say `sharper` if there is no `judge_doubt`."""
    labelled = [probe for probe in probes if probe.labelled]
    checks = (
        *(_by_labels(labelled, settings) if labelled else ()),
        *(_without_labels(probes, settings) if probes else ()),
        *_by_judge(probes, judge_doubt),
        *_distances(settings, drift or Drift()),
    )
    found = differences(labelled, accuracy)
    certainty = certainty_of(found, threshold) if found else None
    verdict, reason = _decide(probes, settings, checks, certainty, staleness, judge_doubt)
    lost = (probe for probe in labelled if probe.candidate.accuracy < probe.live.accuracy)
    worst = tuple(
        Change(
            probe.key,
            probe.live.vote.label,
            probe.candidate.vote.label,
            probe.live.accuracy,
            probe.candidate.accuracy,
        )
        for probe in sorted(lost, key=lambda probe: probe.candidate.accuracy - probe.live.accuracy)
    )[:WORST]
    return Judgement(verdict, reason, certainty, checks, worst, len(probes), staleness)


def certainty_of(differences: Sequence[float], threshold: float) -> Certainty:
    """Return what the differences of labelled probes, from -1 to 1, prove of a candidate.

    The operator's later judgements are a test of their own, with its own threshold: a pair counts 1
    if only the candidate's majority answer is correct, -1 if only the live version's is. Pairs that
    agree add nothing, so they need no label.
    """
    labels, e = len(differences), e_value(differences)
    needed = labels_needed(labels, e, threshold)
    return Certainty(labels, min(e, sys.float_info.max), threshold, needed)  # JSON has no infinity


def _decide(
    probes: Sequence[Probe],
    settings: GateConfig,
    checks: Sequence[Check],
    certainty: Certainty | None,
    staleness: Staleness | None,
    judge_doubt: str,
) -> tuple[Verdict, str]:
    def words(outcome: Outcome, rules: Collection[Rule]) -> str:
        return "; ".join(c.words for c in checks if c.outcome is outcome and c.rule in rules)

    if lost := words(Outcome.FAILED, BY_LABELS):
        return Verdict.WORSE, lost
    if len(probes) < settings.min_probes:
        few = f"{counted(len(probes), 'probe')}; gate.min_probes requires {settings.min_probes}"
        return Verdict.UNPROVEN, few
    if staleness is not None and staleness.stale(settings):
        return Verdict.UNPROVEN, f"stale: {staleness}"
    compared = {check.rule: check.compared for check in checks if check.tag is None}
    labelled, agreed = compared.get(Rule.ACCURACY), compared[Rule.AGREEMENT]
    if certainty and certainty.proves and labelled and labelled.probes >= settings.min_probes:
        if doubts := words(Outcome.UNPROVEN, BY_LABELS):
            return Verdict.UNPROVEN, doubts
        at_zero = [differences(probes, each) for each in (greedy, beyond_greedy)]
        if at_zero[0] and max(map(e_value, at_zero)) <= 1:
            return Verdict.SHARPER, (
                f"labelled probes: {labelled}, as users sample; at temperature 0: "
                f"{compared[Rule.GREEDY]}, so a lower temperature alone would explain it"
            )
        return Verdict.BETTER, f"labelled probes: {labelled}; {certainty}"
    if collapsed := words(Outcome.FAILED, set(Rule)):
        if certainty and certainty.e > 1:
            return Verdict.UNPROVEN, f"{collapsed}; but the labels lean towards better: {certainty}"
        return Verdict.WORSE, collapsed
    # Only `better` needs a proof that it is not worse than the base; that it certainly is counts
    # in any case.
    base = compared.get(Rule.BASE)
    unasked = set() if base and base.high < 0 else {Rule.BASE}
    if doubts := words(Outcome.UNPROVEN, set(Rule) - unasked):
        return Verdict.UNPROVEN, doubts
    doubt = f"; {certainty}" if certainty else ""
    if agreed and agreed.low > 0:
        return Verdict.SHARPER, f"{Rule.AGREEMENT}: {agreed}{doubt}"
    scores = compared.get(Rule.JUDGE)
    if not judge_doubt and scores and scores.low > 0:
        return Verdict.SHARPER, f"{Rule.JUDGE}: {scores}{doubt}"
    return Verdict.UNPROVEN, f"{Rule.AGREEMENT}: {agreed}, which may be chance{doubt}"
