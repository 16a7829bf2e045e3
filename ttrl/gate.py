"""The judge of a candidate: answers to the same probes in, a verdict out."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from statistics import fmean, stdev
from typing import Any

from ttrl.config import GateConfig, ShipPolicy
from ttrl.evidence import Budget, e_value, probes_needed
from ttrl.votes import take_vote

Z = 1.645
"""One-sided 95%."""


class Verdict(StrEnum):
    """What the evidence says of a candidate, against the live version."""

    BETTER = "better"
    """Labels say that it answers more probes rightly."""
    SHARPER = "sharper"
    """It agrees with itself more often; only its own consensus says so."""
    UNPROVEN = "unproven"
    """Too little evidence either way."""
    WORSE = "worse"
    """Labels say so, or its majority answers changed more than chance changes them."""


@dataclass(frozen=True)
class Probe:
    """The canonical answers of both versions to one probe; with `right` for a labelled one:
    whether each answer is accepted."""

    live: tuple[str | None, ...]
    candidate: tuple[str | None, ...]
    live_right: tuple[bool, ...] | None = None
    candidate_right: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Comparison:
    """A paired mean over probes, with a one-sided 95% interval of the difference."""

    probes: int
    live: float
    candidate: float
    low: float
    high: float


@dataclass(frozen=True)
class Certainty:
    """What the labels are worth: their e-value against "no better", the one that this gate asked
    for (None: the year's budget is spent), about how many probes like these would reach it (None:
    no number would), and the share of the year's budget that is left after this gate."""

    e: float
    threshold: float | None
    needed: int | None
    budget_left: float

    @property
    def proves(self) -> bool:
        """Whether the evidence is what the gate asked for."""
        return self.threshold is not None and self.e >= self.threshold


@dataclass(frozen=True)
class Judgement:
    """The verdict, why, and the numbers it rests on."""

    verdict: Verdict
    reason: str
    labelled: Comparison | None
    certainty: Certainty | None
    agreement: Comparison | None
    kept_labels: Comparison | None
    """Of probes whose majority in one half of the live answers is kept: by the other half of them
    (`live`: what resampling alone changes), and by as many of the candidate's."""

    def ships(self, policy: ShipPolicy) -> bool:
        """Whether the operator's policy lets it serve."""
        enough = {Verdict.BETTER}
        if policy is ShipPolicy.SHARPER:
            enough.add(Verdict.SHARPER)
        return self.verdict in enough

    def numbers(self) -> dict[str, Any]:
        """Everything but the verdict, for the store."""
        return {key: value for key, value in asdict(self).items() if key != "verdict"}


def judge(probes: Sequence[Probe], settings: GateConfig, budget: Budget) -> Judgement:
    """Labels decide when they are evidence enough for what is left of the year's `budget`; else the
    model's own consensus may say `sharper` or veto, never `better`: what it was trained towards and
    what judges it have the same author."""
    pairs = _labelled_pairs(probes)
    labelled, certainty = _compare(pairs), _certainty(pairs, budget)
    agreement = _compare([(_share(probe.live), _share(probe.candidate)) for probe in probes])
    kept = _compare(_kept_labels(probes))

    def say(verdict: Verdict, reason: str) -> Judgement:
        return Judgement(verdict, reason, labelled, certainty, agreement, kept)

    if labelled and labelled.high < 0:
        return say(Verdict.WORSE, f"labelled probes: {_words(labelled)}")
    if agreement is None or len(probes) < settings.min_probes:
        few = f"{len(probes)} probes; gate.min_probes asks for {settings.min_probes}"
        return say(Verdict.UNPROVEN, few)
    if kept and kept.high < 0 and kept.candidate < kept.live - settings.flips:
        return say(Verdict.WORSE, f"majority answers kept: {_words(kept)}")
    if labelled and certainty and certainty.proves and labelled.probes >= settings.min_probes:
        return say(Verdict.BETTER, f"labelled probes: {_words(labelled)}; {_sure(certainty)}")
    doubt = f"; labels do not prove it: {_sure(certainty)}" if certainty else ""
    if agreement.low > 0:
        return say(Verdict.SHARPER, f"agreement with itself: {_words(agreement)}{doubt}")
    if agreement.high < 0:
        return say(Verdict.WORSE, f"agreement with itself: {_words(agreement)}")
    return say(Verdict.UNPROVEN, f"agreement with itself: {_words(agreement)}{doubt}")


def _labelled_pairs(probes: Sequence[Probe]) -> list[tuple[float, float]]:
    return [
        (fmean(probe.live_right), fmean(probe.candidate_right))
        for probe in probes
        if probe.live_right and probe.candidate_right
    ]


def _share(answers: Sequence[str | None]) -> float:
    return take_vote(answers).share


def _kept_labels(probes: Sequence[Probe]) -> list[tuple[float, float]]:
    """Compare one half of the live answers with the other, and with as many of the candidate's;
    probes without a majority in that half say nothing."""
    pairs = []
    for probe in probes:
        half = len(probe.live) // 2
        reference = take_vote(probe.live[:half]).label
        if reference is not None:
            others = (probe.live[half : 2 * half], probe.candidate[:half])
            live, candidate = (float(take_vote(side).label == reference) for side in others)
            pairs.append((live, candidate))
    return pairs


def _compare(pairs: Sequence[tuple[float, float]]) -> Comparison | None:
    if len(pairs) < 2:
        return None
    differences = [candidate - live for live, candidate in pairs]
    margin = Z * stdev(differences) / math.sqrt(len(pairs))
    mean = fmean(differences)
    live, candidate = (fmean(side) for side in zip(*pairs, strict=True))
    return Comparison(len(pairs), live, candidate, mean - margin, mean + margin)


def _certainty(pairs: Sequence[tuple[float, float]], budget: Budget) -> Certainty | None:
    if not pairs:
        return None
    e = e_value([candidate - live for live, candidate in pairs])
    threshold, after = budget.threshold, replace(budget, gates=budget.gates + 1)
    return Certainty(
        e=min(e, sys.float_info.max),  # the store's JSON knows no infinity
        threshold=None if math.isinf(threshold) else threshold,
        needed=probes_needed(len(pairs), e, threshold),
        budget_left=after.left,
    )


def _sure(certainty: Certainty) -> str:
    if certainty.threshold is None:
        return "this year's error budget is spent"
    asked = f"e-value {certainty.e:.3g} of the {certainty.threshold:.3g} asked for"
    if certainty.proves:
        return asked
    if certainty.needed is None:
        return f"{asked}, and no number of probes like these would reach it"
    return f"{asked}, which about {certainty.needed} probes like these would reach"


def _words(compared: Comparison) -> str:
    return (
        f"{compared.live:.1%} to {compared.candidate:.1%} on {compared.probes} probes "
        f"(difference between {compared.low:+.1%} and {compared.high:+.1%})"
    )
