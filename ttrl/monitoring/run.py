"""The run monitor: the signs of a run's steps in, a ruling out.

Majority-vote learning can end in a model that agrees with itself on nothing true (SRT, arXiv
2505.21444; TTRL-Guard, arXiv 2605.19444), and nobody has labels to see it by. Each rule therefore
watches one number for a collapse. What sound learning does as well has no rule: a share that rises
to 1, answers that grow several times longer or shorter, a token entropy that falls, wrong
majorities that are corrected, questions that have nothing more to teach.

Numbers that each question has of its own are judged by betting (Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", arXiv 2010.09686): on every question a
gambler bets that the number is beyond what is tolerated, which is the run's own beginning with its
sampling error, and a margin where sound learning moves the number too. While it is not, he hardly
ever gets rich (Ville's inequality). Each step brings him a little fresh money, so that a long quiet
time does not hide a change after it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import accumulate
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from ttrl.config import GuardConfig
from ttrl.monitoring.live import STAKES
from ttrl.monitoring.signs import Signs, Visit

BEGINNING = 8
"""Questions that show where a run started: those of the first step, which its start answered, and
of further steps if it has fewer."""
LABELS = 16
"""The same for the distribution of labels, of which a question shows only one."""
ONE_SIDED = NormalDist().inv_cdf(0.9)
"""Standard errors by which the beginning may have misled. With more, a collapse of half of the
questions is not seen; with less, few unequal labels look like one."""
SHORTEST = 1.0
"""Tokens below which no answer counts as shorter."""
DOUBT = 2.0
"""Times the divergence that the majority labels ask for, up to which it is no sign."""
HALF_WAY = 0.5
"""Part of the way to what is tolerated up to which a number is quiet."""

Steps = Sequence[Signs]


class Action(StrEnum):
    GO_ON = "go_on"
    HOLD = "hold"
    """No further step. Versions from before the trouble may still be judged by the gate."""
    ABORT = "abort"
    """No further step, and nothing of this run ships."""


class Rule(StrEnum):
    """What a run was stopped for; a rule's setting, if it has one, has its name."""

    MISMATCH = "mismatch"
    EFFECTIVE = "effective"
    UNREADABLE = "unreadable"
    SHORT = "short"
    ENTROPY = "entropy"
    ALIKE = "alike"
    FLIPS = "flips"
    FALL = "fall"
    KL = "kl"


@dataclass(frozen=True)
class Ruling:
    """What to do, and why. `trusted` is the last step whose weights the gate may still judge; 0 is
    the version that the run started from."""

    action: Action
    trusted: int
    rule: Rule | None = None
    reason: str = ""

    @property
    def stops(self) -> bool:
        return self.action is not Action.GO_ON

    @property
    def collapse(self) -> bool:
        """Whether the questions that the run learned from may be to blame: not for an engine that
        answers with other weights, nor for distance alone, which comes from too large steps."""
        return self.rule not in (None, Rule.MISMATCH, Rule.EFFECTIVE, Rule.KL)

    def words(self) -> str:
        return f"stopped by the run monitor ({self.rule}): {self.reason}"


class Reading(NamedTuple):
    """A number, what it is in quiet, and its bound. For a wager it is one question's, from 0 to 1,
    and the bound is the tolerated expectation."""

    value: float
    quiet: float
    bound: float

    @property
    def way(self) -> float:
        """How much of the way from quiet to the bound is gone."""
        return (self.value - self.quiet) / (self.bound - self.quiet)

    @property
    def odds(self) -> float:
        """What is won per stake: -1 at least, and 0 at most on average."""
        return self.value / self.bound - 1

    @property
    def excess(self) -> float:
        """By how much it is above half the way to the bound."""
        return self.value - self.quiet - HALF_WAY * (self.bound - self.quiet)


def _reading(values: Iterable[float | None], quiet: float, bound: float) -> Reading | None:
    """Read the mean of the known values."""
    known = [value for value in values if value is not None]
    if not known or bound == quiet:
        return None
    return Reading(fmean(known), quiet, bound)


def _entropy(seen: Steps, settings: GuardConfig) -> Reading | None:
    began = seen[0].token_entropy
    if began is None:
        return None
    return _reading([seen[-1].token_entropy], began, began + settings.entropy)


def _kl(seen: Steps, settings: GuardConfig) -> Reading | None:
    """To give only the majority's answer to a question a model must move by -ln(share) nats an
    answer, which is much a token where answers are short."""
    began, newest = seen[0], seen[-1]
    labelled = [visit.share for visit in began.visits if visit.label is not None]
    needed = -fmean(math.log(max(share, 1 / 256)) for share in labelled or [began.share])
    needed /= max(newest.length, SHORTEST)
    return _reading([newest.kl], 0.0, max(settings.kl, DOUBT * needed))


@dataclass(frozen=True)
class Check:
    """A rule about a number that a step has as a whole: it holds when most steps of a window are
    beyond the bound, or aborts at once."""

    rule: Rule
    read: Callable[[Steps, GuardConfig], Reading | None]
    """Read the newest step; None if that says nothing yet."""
    says: str
    action: Action = Action.HOLD

    def judge(self, seen: Steps, settings: GuardConfig) -> Ruling | None:
        reading, ways = self.read(seen, settings), self._ways(seen, settings)
        beyond = sum(way >= 1 for way in ways[-settings.window :])
        at_once = self.action is Action.ABORT
        if reading is None or ways[-1] < 1 or beyond <= (0 if at_once else settings.window / 2):
            return None
        onset = self.onset(seen, settings)
        trusted = 0 if at_once else _trusted(seen, onset)
        return Ruling(self.action, trusted, self.rule, _words(seen, onset, self.says, reading))

    def onset(self, seen: Steps, settings: GuardConfig) -> int:
        """The step, counted from 0, from which on the number was not quiet."""
        return _onset([way - HALF_WAY for way in self._ways(seen, settings)])

    def _ways(self, seen: Steps, settings: GuardConfig) -> list[float]:
        read = (self.read(seen[:end], settings) for end in range(1, len(seen) + 1))
        return [reading.way if reading else 0.0 for reading in read]


@dataclass(frozen=True)
class Bets:
    """A rule's bets in each step."""

    steps: Sequence[Sequence[Reading]]

    @property
    def evidence(self) -> float:
        """The gambler's money, the mean over stakes. He puts in 1 at most, a part of it before each
        step, so he ever has `x` with probability 1/x at most while all is within bounds."""
        money = [0.0] * len(STAKES)
        for step, bets in enumerate(self.steps, 1):
            money = [each + 1 / (step * (step + 1)) for each in money]
            for bet in bets:
                money = [m * (1 + s * bet.odds) for m, s in zip(money, STAKES, strict=True)]
        return fmean(money)

    @property
    def onset(self) -> int:
        return _onset([sum(bet.excess for bet in bets) for bets in self.steps])


Bet = Callable[[Visit], Reading | None]


@dataclass(frozen=True)
class Wager:
    """A rule about a number that each question has of its own. It begins to bet after the steps
    that brought the run's first `questions` which are `told` of."""

    rule: Rule
    start: Callable[[Sequence[Visit], GuardConfig], Bet]
    says: str
    questions: int = BEGINNING
    told: Callable[[Visit], bool] = lambda _: True

    def judge(self, seen: Steps, settings: GuardConfig) -> Ruling | None:
        bets = self._bets(seen, settings)
        if bets.evidence < WAGERS / settings.false_stops:
            return None
        onset = min(bets.onset, len(seen) - 1)
        told = [bet for step in bets.steps[onset:] or bets.steps for bet in step]
        words = _words(seen, onset, self.says, Reading(*map(fmean, zip(*told, strict=True))))
        if self.rule is Rule.FLIPS:
            onset = min(onset, _given(seen, bets.onset))
        return Ruling(Action.HOLD, _trusted(seen, onset), self.rule, words)

    def onset(self, seen: Steps, settings: GuardConfig) -> int:
        return self._bets(seen, settings).onset

    def _bets(self, seen: Steps, settings: GuardConfig) -> Bets:
        """Bet on the questions after the beginning, but not on what is tolerated anyway."""
        first: list[Visit] = []
        steps: list[list[Reading]] = []
        while len(first) < self.questions and len(steps) < len(seen):
            visits = seen[len(steps)].visits
            first += [visit for visit in visits if visit.new and self.told(visit)]
            steps.append([])
        if len(steps) < len(seen):
            bet = self.start(first, settings)
            for signs in seen[len(steps) :]:
                bets = filter(None, map(bet, signs.visits))
                steps.append([reading for reading in bets if reading.bound < 1])
        return Bets(steps)


def _error(values: Sequence[float]) -> float:
    return ONE_SIDED * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 1.0


def _unreadable(first: Sequence[Visit], settings: GuardConfig) -> Bet:
    shares = [visit.unreadable for visit in first]
    quiet = fmean(shares)
    most = min(1.0, quiet + _error(shares))

    def bet(visit: Visit) -> Reading:
        at_first, enough = quiet, most
        if visit.first_unreadable is not None:
            at_first = enough = visit.first_unreadable
        return Reading(visit.unreadable, at_first, enough + settings.unreadable * (1 - enough))

    return bet


def _short(first: Sequence[Visit], settings: GuardConfig) -> Bet:
    """On a logarithmic scale, whose middle is what is tolerated."""

    def log(length: float | None) -> float | None:
        return None if length is None else math.log(max(length, SHORTEST))

    began = fmean(length for visit in first if (length := log(visit.length)) is not None)
    whole = 2 * math.log(settings.short)

    def bet(visit: Visit) -> Reading | None:
        before = began if visit.new else log(visit.first_length)
        now = log(visit.length)
        if before is None or now is None:
            return None
        return Reading(min(1.0, max(0.0, (before - now) / whole)), 0.0, 0.5)

    return bet


def _alike(first: Sequence[Visit], settings: GuardConfig) -> Bet:
    """Whether a question's label, if it is a new one, is the most frequent of those just before it.
    It may be as often as the beginning's was in the beginning, at the upper end of Wilson's
    interval: where nearly all had one label from the start on there is nothing to see. Where both
    of its votes were decided, `alike` is the limit as well."""
    labels = [visit.label for visit in first]
    share = Counter(labels).most_common(1)[0][1] / len(labels)
    z2 = ONE_SIDED**2 / len(labels)
    spread = ONE_SIDED * math.sqrt(share * (1 - share) / len(labels) + z2 / (4 * len(labels)))
    most = min(1.0, (share + z2 / 2 + spread) / (1 + z2))

    def bet(visit: Visit) -> Reading | None:
        if visit.label is None or (not visit.new and visit.last_label is None):
            return None
        frequent = Counter(labels[-LABELS:]).most_common(1)[0][0]
        labels.append(visit.label)
        if visit.last_label == frequent:
            return None
        hit = float(visit.label == frequent)
        if visit.changed is None:
            return Reading(hit, share, most)
        return Reading(hit, 0.0, min(most, settings.alike))

    return bet


def _flips(_: Sequence[Visit], settings: GuardConfig) -> Bet:
    """Corrected majorities flip as well, but when most do the model denies what it was trained
    on."""

    def bet(visit: Visit) -> Reading | None:
        changed = visit.changed
        return None if changed is None else Reading(float(changed), 0.0, settings.flips)

    return bet


def _given(seen: Steps, onset: int) -> int:
    """Return the step, counted from 0, that gave the oldest of the labels that flipped from `onset`
    on: they may have gone wrong ever since."""
    visits = [visit for signs in seen[onset:] for visit in signs.visits if visit.changed]
    oldest = min((visit.last_step for visit in visits if visit.last_step), default=None)
    return next((place for place, signs in enumerate(seen) if signs.step == oldest), onset)


def _fall(first: Sequence[Visit], settings: GuardConfig) -> Bet:
    """Relative to the same question's share before, or to the lower end of the beginning's mean.
    Gains count as well, up to as much as may be lost: the questions that are asked again, those
    whose samples did not all agree, had no better luck before."""
    shares = [visit.share for visit in first]
    least = max(0.0, fmean(shares) - _error(shares))
    fall = settings.fall

    def bet(visit: Visit) -> Reading | None:
        before = least if visit.new else visit.last_share
        if before is None:
            return None
        most = max(before, visit.share)
        lost = (before - visit.share) / most if most else 0.0
        # From 0 for a gain of as much as may be lost to 1 for the loss of all.
        value, quiet, tolerated = ((x + fall) / (1 + fall) for x in (max(lost, -fall), 0.0, fall))
        return Reading(value, quiet, tolerated)

    return bet


def _onset(excess: Sequence[float]) -> int:
    """Return where the suffix with the greatest sum begins (Page's estimate of a change point);
    after the end if no such sum is above 0."""
    sums = [*accumulate(reversed(excess), initial=0.0)]
    sums.reverse()
    most = max(sums)
    return sums.index(most) if most > 0 else len(excess)


def _trusted(seen: Steps, onset: int) -> int:
    """Return the last step whose weights drew no sample from `onset` (counted from 0) on: a step's
    samples come from the weights of the step before, or from older ones."""
    place = onset - 2 - seen[min(onset, len(seen) - 1)].staleness
    return seen[place].step if place >= 0 else 0


def _words(seen: Steps, onset: int, says: str, reading: Reading) -> str:
    first, last = seen[onset].step, seen[-1].step
    return f"steps {first} to {last}: {says.format(**reading._asdict())}"


CHECKS: Sequence[Check | Wager] = (
    Check(  # what was learned from is not what was sampled
        Rule.MISMATCH,
        lambda seen, s: _reading((signs.mismatch for signs in seen[-s.window :]), 0.0, s.mismatch),
        "engine and trainer differ by {value:.2f} nats per token (limit {bound:.2f})",
        Action.ABORT,
    ),
    Check(
        Rule.EFFECTIVE,
        lambda seen, s: _reading(
            (signs.effective for signs in seen[-s.window :]), 1.0, s.effective
        ),
        "the effective sample size fell to {value:.0%} of what was trained on because the samples "
        "are those of other weights (limit {bound:.0%})",
        Action.ABORT,
    ),
    Wager(
        Rule.UNREADABLE,
        _unreadable,
        "{value:.0%} of the answers were cut off or unreadable, up from {quiet:.0%} at the start "
        "(limit {bound:.0%})",
    ),
    Wager(
        Rule.SHORT,
        _short,
        "answers are much shorter than at the start of the run",
        told=lambda visit: visit.length is not None,
    ),
    Check(
        Rule.ENTROPY,
        _entropy,
        "the entropy of the next token is {value:.2f} nats, up from {quiet:.2f} at the start "
        "(limit {bound:.2f})",
    ),
    Wager(
        Rule.ALIKE,
        _alike,
        "answers are collapsing: {value:.0%} of the questions that had another majority answer "
        "before, or none, now share one (limit {bound:.0%})",
        LABELS,
        lambda visit: visit.label is not None,
    ),
    Wager(
        Rule.FLIPS,
        _flips,
        "{value:.0%} of the clear majority answers changed since their questions were last sampled "
        "(limit {bound:.0%})",
        questions=0,
    ),
    Wager(Rule.FALL, _fall, "agreement is far lower than before"),
    Check(
        Rule.KL,
        _kl,
        "the KL divergence from the start of the run is {value:.2f} nats per token (limit "
        "{bound:.2f})",
    ),
)
"""The gravest first."""
WAGERS = sum(isinstance(check, Wager) for check in CHECKS)
"""Rules that share the budget of runs stopped without cause."""


def judge(seen: Steps, settings: GuardConfig) -> Ruling:
    """Judge a run by all of its steps. Only weights from before any rule's number left its quiet
    are trusted."""
    for check in CHECKS:
        ruling = check.judge(seen, settings)
        if ruling is not None and ruling.action is Action.HOLD:
            quiet = min(_trusted(seen, each.onset(seen, settings)) for each in CHECKS)
            return replace(ruling, trusted=min(ruling.trusted, quiet))
        if ruling is not None:
            return ruling
    return Ruling(Action.GO_ON, trusted=seen[-1].step)
