"""The judge of a candidate: answers to the same probes in, a verdict out."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from ttrl.checks import Check, Outcome, Rule, accuracy, agreement, run_checks
from ttrl.config import GateConfig, ShipPolicy
from ttrl.drift import Drift
from ttrl.evidence import Budget, e_value, probes_needed
from ttrl.paired import Probe, compare, differences, pairs
from ttrl.staleness import Staleness

WORST = 10
"""Changed answers that are kept with a verdict."""


class Verdict(StrEnum):
    """What the evidence says of a candidate, against the live version."""

    BETTER = "better"
    """Labels say that it answers more probes rightly."""
    SHARPER = "sharper"
    """It agrees with itself more often; only its own consensus says so."""
    UNPROVEN = "unproven"
    """Too little evidence either way."""
    WORSE = "worse"
    """It has lost something that it must not lose."""


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

    def __str__(self) -> str:
        if self.threshold is None:
            return "this year's error budget is spent"
        asked = f"e-value {self.e:.3g} of the {self.threshold:.3g} asked for"
        if self.proves:
            return asked
        if self.needed is None:
            return f"{asked}, which more probes like these would not reach"
        return f"{asked}, which about {self.needed} probes like these would reach"


@dataclass(frozen=True)
class Change:
    """What became of one labelled probe: the majority answers, and the shares of right ones."""

    probe: str
    live: str | None
    candidate: str | None
    right_before: float
    right_after: float


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
        """Whether the operator's policy lets it serve."""
        enough = {Verdict.BETTER}
        if policy is ShipPolicy.SHARPER:
            enough.add(Verdict.SHARPER)
        return self.verdict in enough

    def numbers(self) -> dict[str, Any]:
        """Everything but the verdict, for the store."""
        return {key: value for key, value in asdict(self).items() if key != "verdict"}


def judge(
    probes: Sequence[Probe],
    settings: GateConfig,
    budget: Budget,
    drift: Drift | None = None,
    staleness: Staleness | None = None,
) -> Judgement:
    """Labels decide when they are evidence enough for what is left of the year's `budget`; else the
    model's own consensus may say `sharper` or veto, never `better`: what it was trained towards and
    what judges it have the same author."""
    checks = tuple(run_checks(probes, settings, drift or Drift()))
    certainty = _certainty(probes, budget)
    verdict, reason = _decide(probes, settings, checks, certainty, staleness)
    return Judgement(verdict, reason, certainty, checks, _worst(probes), len(probes), staleness)


def confirm(before: float, worth: Sequence[float], budget: Budget) -> Certainty:
    """How sure one is of a candidate once the operator judged answers: with the e-value `before`,
    of its gate, and what each judged probe is worth (the candidate's majority answer is right and
    the live one's is not: 1; the other way round: -1).

    The mean of two e-values for the same hypothesis is one as well, whatever they have to do with
    each other (Vovk and Wang, "E-values: calibration, combination and applications", 2021), and
    probes on which both agree would add nothing, so that those need no label.
    """
    return _sure(len(worth), (before + e_value(worth)) / 2, budget)


def _decide(
    probes: Sequence[Probe],
    settings: GateConfig,
    checks: Sequence[Check],
    certainty: Certainty | None,
    staleness: Staleness | None,
) -> tuple[Verdict, str]:
    if lost := [check.words for check in checks if check.outcome is Outcome.FAILED]:
        return Verdict.WORSE, "; ".join(lost)
    if len(probes) < settings.min_probes:
        few = f"{len(probes)} probes; gate.min_probes asks for {settings.min_probes}"
        return Verdict.UNPROVEN, few
    if staleness is not None and staleness.stale(settings):
        return Verdict.UNPROVEN, f"stale: {staleness}"
    doubts = [check for check in checks if check.outcome is Outcome.UNPROVEN]
    if of_tags := [check.words for check in doubts if check.rule is Rule.TAG]:
        return Verdict.UNPROVEN, "; ".join(of_tags)
    labelled, agreed = compare(probes, accuracy), compare(probes, agreement)
    if certainty and certainty.proves and labelled and labelled.probes >= settings.min_probes:
        if not doubts:
            return Verdict.BETTER, f"labelled probes: {labelled}; {certainty}"
        return Verdict.UNPROVEN, "; ".join(check.words for check in doubts)
    doubt = f"; labels do not prove it: {certainty}" if certainty else ""
    if agreed is not None and agreed.low > 0:
        return Verdict.SHARPER, f"{Rule.AGREEMENT}: {agreed}{doubt}"
    return Verdict.UNPROVEN, f"{Rule.AGREEMENT}: {agreed}, which may be chance{doubt}"


def _certainty(probes: Sequence[Probe], budget: Budget) -> Certainty | None:
    found = differences(pairs(probes, accuracy))
    if not found:
        return None
    return _sure(len(found), e_value(found), budget)


def _sure(count: int, e: float, budget: Budget) -> Certainty:
    threshold, after = budget.threshold, replace(budget, gates=budget.gates + 1)
    return Certainty(
        e=min(e, sys.float_info.max),  # the store's JSON knows no infinity
        threshold=None if math.isinf(threshold) else threshold,
        needed=probes_needed(count, e, threshold),
        budget_left=after.left,
    )


def _worst(probes: Sequence[Probe]) -> tuple[Change, ...]:
    changes = [
        Change(
            probe.key,
            probe.live.vote.label,
            probe.candidate.vote.label,
            probe.live.accuracy,
            probe.candidate.accuracy,
        )
        for probe in probes
        if probe.labelled and probe.candidate.accuracy < probe.live.accuracy
    ]
    return tuple(sorted(changes, key=lambda c: c.right_after - c.right_before)[:WORST])
