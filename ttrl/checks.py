"""What a candidate must not lose, whatever it gains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain

from ttrl.config import GateConfig
from ttrl.drift import Drift
from ttrl.evidence import CONVINCING, e_value, probes_needed
from ttrl.paired import Comparison, Pair, Probe, Value, compare, differences, pairs


class Rule(StrEnum):
    """What is looked at."""

    ACCURACY = "accuracy"
    """Right answers to labelled probes, against the live version."""
    KEPT_RIGHT = "right majorities kept"
    """Of majorities that are right, those that stay so; against asking the live version twice."""
    KEPT = "majorities kept"
    """The same of all probes, right or not."""
    READABLE = "readable answers"
    """Answers with something in them that can be compared."""
    REACH = "reach"
    """Labelled probes with a right answer among all that are drawn (pass@k)."""
    AGREEMENT = "agreement with itself"
    """The share of the most common answer."""
    VARIETY = "different majorities"
    """How many majorities there are over different probes: few when it says the same to all."""
    LENGTH = "length"
    """Tokens of an answer."""
    KL_BASE = "distance from the base model"
    """KL divergence on pinned answers, in nats per token."""
    KL_LIVE = "distance from the live version"
    """The same."""
    BASE = "accuracy against the base model"
    """Right answers to labelled probes: not worse than where all began."""
    TAG = "accuracy by tag"
    """The same for the probes of one tag."""


class Outcome(StrEnum):
    """What a check says."""

    PASSED = "passed"
    """Nothing against the candidate."""
    FAILED = "failed"
    """It has lost something; it is worse."""
    UNPROVEN = "unproven"
    """It may have lost something: too few labels to tell."""


@dataclass(frozen=True)
class Check:
    """One check, in numbers and in words."""

    rule: Rule
    outcome: Outcome
    words: str
    compared: Comparison | None = None
    tag: str | None = None


def run_checks(probes: Sequence[Probe], settings: GateConfig, drift: Drift) -> list[Check]:
    """All checks that these probes allow."""
    return list(
        chain(
            _falls(probes, settings),
            _ratios(probes, settings),
            _distances(settings, drift),
            _proofs(probes, settings),
        )
    )


def accuracy(probe: Probe) -> Pair | None:
    """The shares of right answers of live version and candidate."""
    return (probe.live.accuracy, probe.candidate.accuracy) if probe.labelled else None


def agreement(probe: Probe) -> Pair | None:
    """How far live version and candidate agree with themselves."""
    return probe.live.vote.share, probe.candidate.vote.share


def _readable(probe: Probe) -> Pair | None:
    return probe.live.readable, probe.candidate.readable


def _accuracy_to_base(probe: Probe) -> Pair | None:
    return (probe.base.accuracy, probe.candidate.accuracy) if probe.labelled else None


def _reach(probe: Probe) -> Pair | None:
    return (probe.live.reached, probe.candidate.reached) if probe.labelled else None


def _kept(probe: Probe) -> Pair | None:
    label = probe.live.vote.label
    if label is None:
        return None
    return float(probe.again.vote.label == label), float(probe.candidate.vote.label == label)


def _kept_right(probe: Probe) -> Pair | None:
    if not probe.labelled or not probe.live.majority_right:
        return None
    return float(probe.again.majority_right), float(probe.candidate.majority_right)


FALLS: tuple[tuple[Rule, Value, Callable[[GateConfig], float]], ...] = (
    (Rule.ACCURACY, accuracy, lambda settings: 0.0),
    (Rule.KEPT_RIGHT, _kept_right, lambda settings: settings.flips),
    (Rule.KEPT, _kept, lambda settings: settings.flips),
    (Rule.READABLE, _readable, lambda settings: settings.unreadable),
    (Rule.AGREEMENT, agreement, lambda settings: 0.0),
)
"""What must not fall by more than a margin."""


def _falls(probes: Sequence[Probe], settings: GateConfig) -> Iterator[Check]:
    for rule, value, margin in FALLS:
        compared = compare(probes, value)
        if compared is not None:
            fell = _fell(compared, margin(settings))
            yield Check(rule, _failed(fell), f"{rule}: {compared}", compared)


def _fell(compared: Comparison, margin: float) -> bool:
    return compared.high < 0 and compared.difference < -margin


def _ratios(probes: Sequence[Probe], settings: GateConfig) -> Iterator[Check]:
    if not probes:
        return
    tokens = [sum(p.live.tokens for p in probes), sum(p.candidate.tokens for p in probes)]
    if all(tokens):
        before, after = (total / len(probes) for total in tokens)
        far = abs(math.log(after / before)) > math.log(settings.length)
        yield Check(Rule.LENGTH, _failed(far), f"{Rule.LENGTH}: {before:.0f} to {after:.0f} tokens")
    before, after = (_variety(side) for side in zip(*map(_labels, probes), strict=True))
    narrow = 0 < after < before / 2  # without any majority there is nothing to be narrow
    words = f"{Rule.VARIETY}: {before:.1f} to {after:.1f} of {len(probes)}"
    yield Check(Rule.VARIETY, _failed(narrow), words)


def _labels(probe: Probe) -> tuple[str | None, str | None]:
    return probe.live.vote.label, probe.candidate.vote.label


def _variety(labels: Sequence[str | None]) -> float:
    """The number of equally frequent labels with the same chance that two probes have the same
    (Simpson, 1949)."""
    known = [label for label in labels if label is not None]
    counts = [known.count(label) for label in set(known)]
    return len(known) ** 2 / sum(count**2 for count in counts) if known else 0.0


def _distances(settings: GateConfig, drift: Drift) -> Iterator[Check]:
    bounds = (
        (Rule.KL_BASE, drift.from_base, settings.kl_base),
        (Rule.KL_LIVE, drift.from_live, settings.kl_live),
    )
    for rule, distance, bound in bounds:
        if distance is not None:
            words = f"{rule}: {distance:.3g} nats per token, {bound:g} allowed"
            yield Check(rule, _failed(not distance <= bound), words)  # nan is no pass


def _proofs(probes: Sequence[Probe], settings: GateConfig) -> Iterator[Check]:
    labelled = [probe for probe in probes if probe.labelled]
    if not labelled:
        return
    yield _not_worse(Rule.REACH, labelled, _reach, settings.reach)
    yield _not_worse(Rule.BASE, labelled, _accuracy_to_base, settings.base_margin)
    for tag in sorted({tag for probe in labelled for tag in probe.tags}):
        of_tag = [probe for probe in labelled if tag in probe.tags]
        yield _not_worse(Rule.TAG, of_tag, _accuracy_to_base, settings.tag_margin, tag)


def _not_worse(
    rule: Rule, probes: Sequence[Probe], value: Value, margin: float, tag: str | None = None
) -> Check:
    """Nothing may ship that could have lost more than the margin: that no loss is seen among few
    probes says little."""
    compared = compare(probes, value)
    assert compared is not None
    found = differences(pairs(probes, value))
    e = e_value(found, above=-margin)
    name = f"{rule} {tag}" if tag else rule
    if _fell(compared, margin):
        return Check(rule, Outcome.FAILED, f"{name}: {compared}", compared, tag)
    if e >= CONVINCING:
        return Check(rule, Outcome.PASSED, f"{name}: {compared}", compared, tag)
    needed = probes_needed(len(found), e, CONVINCING)
    about = f"about {needed} labelled probes like these would tell" if needed else "more labels"
    words = f"{name}: {compared}, which may be worse by {margin:.0%} or more; {about}"
    return Check(rule, Outcome.UNPROVEN, words, compared, tag)


def _failed(it: bool) -> Outcome:
    return Outcome.FAILED if it else Outcome.PASSED
