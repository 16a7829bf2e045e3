"""The gate: answers of several versions to the same probes in, a verdict on the candidate out.

Labels decide. Without them only a collapse can be told from learning (the same answer to all
questions, or hardly one that can be read); everything else that has changed much is a reason to
let a human look, and none against the labels."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttrl.config import GateConfig, ShipPolicy
from ttrl.evaluation.drift import Drift, Staleness
from ttrl.evaluation.evidence import (
    CONDEMNING,
    CONVINCING,
    Comparison,
    Pair,
    Probe,
    Value,
    compare,
    differences,
    e_value,
    labels_needed,
)

WORST = 10
"""Changed answers that are kept with a verdict."""


class Rule(StrEnum):
    """What is looked at."""

    ACCURACY = "accuracy"
    """Correct answers to labelled probes, against the live version."""
    BASE = "accuracy against the base model"
    """Correct answers to labelled probes: not worse than where all began."""
    TAG = "accuracy by tag"
    REACH = "reach"
    """Labelled probes with a correct answer among all samples (pass@k)."""
    GREEDY = "accuracy at temperature 0"
    """Correct answers to labelled probes; a lower temperature alone does not change them."""
    KEPT_RIGHT = "correct majorities kept"
    """Of the live version's correct majority answers, those that stay correct. For information:
    some change by chance alone, and the accuracy has them in it."""
    READABLE = "readable answers"
    """Answers with something in them that can be compared."""
    AGREEMENT = "agreement with itself"
    """The share of the most common answer."""
    VARIETY = "different majorities"
    """The entropy of the majority answers over the probes: low when all get the same one."""
    LENGTH = "length"
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
    """One check, in numbers and in words."""

    rule: Rule
    outcome: Outcome
    words: str
    compared: Comparison | None = None
    tag: str | None = None


def accuracy(probe: Probe) -> Pair | None:
    """The shares of correct answers of live version and candidate."""
    return (probe.live.accuracy, probe.candidate.accuracy) if probe.labelled else None


def to_base(probe: Probe) -> Pair | None:
    """The same of base model and candidate."""
    return probe.base.accuracy, probe.candidate.accuracy


def reach(probe: Probe) -> Pair | None:
    """Whether live version and candidate have a correct answer among all."""
    return probe.live.reached, probe.candidate.reached


def kept_right(probe: Probe) -> Pair | None:
    """Whether the candidate's majority answer is correct, where the live version's is."""
    return (1.0, float(probe.candidate.majority_right)) if probe.live.majority_right else None


def greedy(probe: Probe) -> Pair | None:
    """Whether the answers of live version and candidate at temperature 0 are correct."""
    before, after = probe.live.greedy_right, probe.candidate.greedy_right
    return None if before is None or after is None else (float(before), float(after))


def beyond_greedy(probe: Probe) -> Pair | None:
    """Whether the live version's answer at temperature 0 is correct, and the candidate's accuracy
    as users ask: a gain over what any lower temperature could give."""
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
    reached = compare(labelled, reach)
    lost = (-each for each in differences(labelled, reach))
    proven = e_value(lost, above=settings.reach) >= CONDEMNING
    # A human weighs it against what was gained.
    outcome = Outcome.UNPROVEN if proven else Outcome.PASSED
    yield Check(Rule.REACH, outcome, f"{Rule.REACH}: {reached}", reached)
    for rule, value in ((Rule.GREEDY, greedy), (Rule.KEPT_RIGHT, kept_right)):
        if compared := compare(labelled, value):
            yield Check(rule, Outcome.PASSED, f"{rule}: {compared}", compared)


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
    compared = compare(probes, value)
    assert compared is not None
    found = differences(probes, value)
    words = f"{rule}{f' {tag}' if tag else ''}: {compared}"
    loss = e_value((-each for each in found), above=margin)
    if loss >= CONVINCING:
        to_live = compare(probes, accuracy)
        assert to_live is not None
        lost = to_live.difference < 0 and loss >= CONDEMNING
        outcome = Outcome.FAILED if lost else Outcome.UNPROVEN
        return Check(rule, outcome, words, compared, tag)
    if prove and margin < 1 and (e := e_value(found, above=-margin)) < CONVINCING:
        needed = labels_needed(len(found), e, CONVINCING)
        about = f"about {needed} labels needed" if needed else "more labels needed"
        words += f"; not proven that less than {margin:.0%} was lost: {len(found)} labels, {about}"
        return Check(rule, Outcome.UNPROVEN, words, compared, tag)
    return Check(rule, Outcome.PASSED, words, compared, tag)


def _without_labels(probes: Sequence[Probe], settings: GateConfig) -> Iterator[Check]:
    readable = compare(probes, lambda probe: (probe.live.readable, probe.candidate.readable))
    agreed = compare(probes, lambda probe: (probe.live.vote.share, probe.candidate.vote.share))
    assert readable is not None
    assert agreed is not None
    outcome = Outcome.PASSED
    if readable.high < 0 and readable.difference < -settings.unreadable:
        collapsed = readable.after < readable.before / 2
        outcome = Outcome.FAILED if collapsed else Outcome.UNPROVEN
    yield Check(Rule.READABLE, outcome, f"{Rule.READABLE}: {readable}", readable)
    yield Check(Rule.AGREEMENT, Outcome.PASSED, f"{Rule.AGREEMENT}: {agreed}", agreed)
    yield _variety(probes)
    tokens = [sum(p.live.tokens for p in probes), sum(p.candidate.tokens for p in probes)]
    if all(tokens):
        before, after = (total / len(probes) for total in tokens)
        far = abs(math.log(after / before)) > math.log(settings.length)
        outcome = Outcome.UNPROVEN if far else Outcome.PASSED
        yield Check(Rule.LENGTH, outcome, f"{Rule.LENGTH}: {before:.0f} to {after:.0f} tokens")


def _variety(probes: Sequence[Probe]) -> Check:
    """Whether many different questions now get one answer.

    The entropy of the majority answers has halved, so that two equally frequent answers count as
    collapsed when nearly all probes get one of them, and hundreds of answers when a dozen are left;
    and the candidate's most frequent one has certainly become more frequent.
    """
    before, after = (
        Counter(side.vote.label for side in sides if side.vote.label is not None)
        for sides in ([p.live for p in probes], [p.candidate for p in probes])
    )
    halved = bool(after) and _entropy(after) < _entropy(before) / 2
    outcome = Outcome.PASSED
    if halved:
        (top, _), *_ = after.most_common(1)

        def says_it(probe: Probe) -> Pair:
            return float(probe.live.vote.label == top), float(probe.candidate.vote.label == top)

        spread = compare(probes, says_it)
        assert spread is not None
        outcome = Outcome.FAILED if spread.low > 0 else Outcome.UNPROVEN
    told = f"{math.exp(_entropy(before)):.1f} to {math.exp(_entropy(after)):.1f}"
    return Check(Rule.VARIETY, outcome, f"{Rule.VARIETY}: {told} on {len(probes)} probes")


def _entropy(counts: Counter[str]) -> float:
    total = counts.total()
    return math.fsum(n / total * math.log(total / n) for n in counts.values())


def _distances(settings: GateConfig, drift: Drift) -> Iterator[Check]:
    limits = (
        (Rule.KL_BASE, drift.from_base, settings.kl_base),
        (Rule.KL_LIVE, drift.from_live, settings.kl_live),
    )
    for rule, distance, limit in limits:
        if distance is not None:
            words = f"{rule}: {distance:.3g} nats per token, limit {limit:g}"
            within = distance <= limit  # nan is not
            yield Check(rule, Outcome.PASSED if within else Outcome.UNPROVEN, words)


class Verdict(StrEnum):
    """What the evidence says of a candidate, against the live version."""

    BETTER = "better"
    """Labels prove that it answers more probes correctly."""
    SHARPER = "sharper"
    """It agrees with itself more often, which no label confirms; or labels show no more than a
    lower temperature would give the live version."""
    UNPROVEN = "unproven"
    """Too little evidence either way, or something that a human should look at."""
    WORSE = "worse"
    """Labels prove a loss, or the model has collapsed."""


@dataclass(frozen=True)
class Certainty:
    """What `labels` (near-duplicates as one) are worth: their e-value against "no better", the one
    that this gate asked for, and about how many labels like these would reach it (None: no number
    would)."""

    labels: int
    e: float
    threshold: float
    needed: int | None

    @property
    def proves(self) -> bool:
        return self.e >= self.threshold

    def __str__(self) -> str:
        if self.proves:
            return f"proven by {self.labels} labels (e-value {self.e:.3g} of {self.threshold:.3g})"
        if self.needed is None:
            labels = f"{self.labels} labels; more labels like these would not prove it"
            return f"not proven better: {labels}"
        return f"not proven better yet: {self.labels} labels, about {self.needed} needed"


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
    """The verdict, why, and the numbers it rests on; `worst` are the labelled probes that lost
    most."""

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
        """How many of the probes had a label."""
        compared = (check.compared for check in self.checks if check.rule is Rule.ACCURACY)
        return sum(each.probes for each in compared if each is not None)


def judge(
    probes: Sequence[Probe],
    settings: GateConfig,
    threshold: float,
    drift: Drift | None = None,
    staleness: Staleness | None = None,
) -> Judgement:
    """Judge a candidate. Where labels speak, labels decide; without them the model's own consensus
    may say `sharper`, never `better` (what it was trained towards and what judges it have the same
    author), and only a collapse says `worse`."""
    labelled = [probe for probe in probes if probe.labelled]
    checks = (
        *(_by_labels(labelled, settings) if labelled else ()),
        *(_without_labels(probes, settings) if probes else ()),
        *_distances(settings, drift or Drift()),
    )
    found = differences(labelled, accuracy)
    certainty = certainty_of(found, threshold) if found else None
    verdict, reason = _decide(probes, settings, checks, certainty, staleness)
    changes = (
        Change(
            probe.key,
            probe.live.vote.label,
            probe.candidate.vote.label,
            probe.live.accuracy,
            probe.candidate.accuracy,
        )
        for probe in labelled
        if probe.candidate.accuracy < probe.live.accuracy
    )
    worst = sorted(changes, key=lambda change: change.right_after - change.right_before)[:WORST]
    return Judgement(verdict, reason, certainty, checks, tuple(worst), len(probes), staleness)


def certainty_of(differences: Sequence[float], threshold: float) -> Certainty:
    """Return how sure one is of a candidate by what each label's probe is worth, from -1 to 1.

    Once the operator judged answers it is a test of its own, with a threshold of its own, as the
    hypothesis is another: not the share of correct answers but majorities (the candidate's is
    correct and the live one's is not: 1; the other way round: -1). Probes on which both agree would
    add nothing, so they need no label.
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
) -> tuple[Verdict, str]:
    def words(outcome: Outcome, rules: Collection[Rule]) -> str:
        return "; ".join(c.words for c in checks if c.outcome is outcome and c.rule in rules)

    if lost := words(Outcome.FAILED, BY_LABELS):
        return Verdict.WORSE, lost
    if len(probes) < settings.min_probes:
        few = f"{len(probes)} probes; gate.min_probes requires {settings.min_probes}"
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
    # A proof that it is not worse than the base is asked of what is to be called better; that it
    # is likely to be worse holds it in any case.
    base = compared.get(Rule.BASE)
    unasked = set() if base and base.high < 0 else {Rule.BASE}
    if doubts := words(Outcome.UNPROVEN, set(Rule) - unasked):
        return Verdict.UNPROVEN, doubts
    doubt = f"; {certainty}" if certainty else ""
    if agreed and agreed.low > 0:
        return Verdict.SHARPER, f"{Rule.AGREEMENT}: {agreed}{doubt}"
    return Verdict.UNPROVEN, f"{Rule.AGREEMENT}: {agreed}, which may be chance{doubt}"
