"""The judge of a run in progress: the signs of its steps in, a ruling out.

Majority-vote learning can end in a model that agrees with itself on nothing true (SRT, arXiv
2505.21444; TTRL-Guard, arXiv 2605.19444), and nobody has labels to see it by. Each rule therefore
reads one number off the last few steps and asks how far it has gone, from where it was in quiet to
a bound. What sound learning does as well has no rule: a share that rises to 1, answers that grow
several times longer while the model learns to work things out, a token entropy that falls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from ttrl.config import GuardConfig
from ttrl.signs import Signs

BEGINNING = 2
"""Steps that show where a run started."""
ASKED_AGAIN = 12
"""Questions that must have been asked again before the share of flipped labels says anything."""
QUIET = 0.5
"""Part of the way to its bound up to which a number is taken for quiet."""


class Action(StrEnum):
    """What becomes of the run."""

    GO_ON = "go_on"
    """Nothing is seen that sound learning would not show."""
    HOLD = "hold"
    """No further step. Versions from before the trouble may still be judged by the gate."""
    ABORT = "abort"
    """No further step, and nothing of this run ships."""


class Rule(StrEnum):
    """What a run was stopped for. The setting of a rule's bound has the rule's name."""

    MISMATCH = "mismatch"
    """Engine and trainer give the same tokens other probabilities: what was learned from is not
    what was sampled."""
    MASKED = "masked"
    """Much of each step counts for nothing, for the same cause."""
    UNREADABLE = "unreadable"
    """More answers than at the beginning are cut off or say nothing that can be read."""
    SHORT = "short"
    """Answers have shrunk to a small part of what they were."""
    ENTROPY = "entropy"
    """The model chooses its tokens much more at random than at the beginning."""
    ALIKE = "alike"
    """Different questions get the same answer far more often than at the beginning."""
    FLIPS = "flips"
    """Questions that are asked again get another label than before."""
    FALL = "fall"
    """Agreement, which every step is to raise, has fallen from where it was."""
    KL = "kl"
    """The model has gone too far from where the run started."""
    NO_SIGNAL = "no_signal"
    """Hardly a question teaches anything."""


@dataclass(frozen=True)
class Ruling:
    """What to do, and by which rule and numbers. `trusted` is the last step whose weights may
    still be judged by the gate; 0 is the version that the run started from."""

    action: Action
    trusted: int
    rule: Rule | None = None
    reason: str = ""

    @property
    def stops(self) -> bool:
        """Whether there is to be no further step."""
        return self.action is not Action.GO_ON

    def words(self) -> str:
        """For the run's reason."""
        return f"the guard says {self.action} ({self.rule}): {self.reason}"


@dataclass(frozen=True)
class Reading:
    """A number over the last steps, where it is in quiet, and its bound on either side of that."""

    value: float
    quiet: float
    bound: float

    @property
    def way(self) -> float:
        """How much of the way from quiet to the bound is gone; 1 or more: all of it."""
        return (self.value - self.quiet) / (self.bound - self.quiet)


@dataclass(frozen=True)
class Look:
    """The steps so far, in order, and what to hold against them."""

    seen: Sequence[Signs]
    settings: GuardConfig

    @property
    def last(self) -> Sequence[Signs]:
        """The newest steps; those of a whole window if there are so many."""
        return self.seen[-self.settings.window :]

    def read(
        self, name: str, *, quiet: float | None = None, far: float, part: float = 1.0
    ) -> Reading | None:
        """A sign over a whole window, which comes after the beginning where that is `quiet`
        (None); its bound is a `part` of the way from there to `far`."""
        first = BEGINNING if quiet is None else 0
        if len(self.seen) < first + self.settings.window:
            return None
        began = _mean(self.seen[:first], name) if quiet is None else quiet
        return _reading(_mean(self.last, name), began, far, part)

    def ending(self, steps: int) -> Look:
        """As it was after so many steps."""
        return Look(self.seen[:steps], self.settings)


def _mean(steps: Sequence[Signs], name: str) -> float | None:
    values = [value for each in steps if (value := getattr(each, name)) is not None]
    return fmean(values) if values else None


def _reading(value: float | None, quiet: float | None, far: float, part: float) -> Reading | None:
    if value is None or quiet is None or far == quiet:
        return None
    return Reading(value, quiet, quiet + part * (far - quiet))


def _mismatch(look: Look) -> Reading | None:
    """From the first step on."""
    return _reading(_mean(look.last, "mismatch"), 0.0, look.settings.mismatch, 1.0)


def _masked(look: Look) -> Reading | None:
    """From the first step on."""
    return _reading(_mean(look.last, "masked"), 0.0, look.settings.masked, 1.0)


def _entropy(look: Look) -> Reading | None:
    began = _mean(look.seen[:BEGINNING], "token_entropy")
    if began is None:
        return None
    return look.read("token_entropy", far=began + look.settings.entropy)


def _flips(look: Look) -> Reading | None:
    again = sum(each.asked_again for each in look.last)
    if again < ASKED_AGAIN:
        return None
    return Reading(sum(each.flipped for each in look.last) / again, 0.0, look.settings.flips)


def _fall(look: Look) -> Reading | None:
    """From the best window so far."""
    size = look.settings.window
    windows = (look.seen[end - size : end] for end in range(size, len(look.seen) + 1))
    best = max((fmean(each.share for each in window) for window in windows), default=None)
    return look.read("share", quiet=best, far=0.0, part=look.settings.fall) if best else None


@dataclass(frozen=True)
class Check:
    """How a rule reads its number, and says it."""

    rule: Rule
    read: Callable[[Look], Reading | None]
    """None as long as there is too little to read."""
    says: str
    action: Action = Action.HOLD


CHECKS = (
    Check(
        Rule.MISMATCH,
        _mismatch,
        "engine and trainer differ by {value:.2f} nats a token (bound {bound:.2f})",
        Action.ABORT,
    ),
    Check(
        Rule.MASKED,
        _masked,
        "{value:.0%} of what was trained on was masked because engine and trainer disagree "
        "(bound {bound:.0%})",
        Action.ABORT,
    ),
    Check(
        Rule.UNREADABLE,
        lambda look: look.read("unreadable", far=1.0, part=look.settings.unreadable),
        "{value:.0%} of the answers were cut off or unreadable, {quiet:.0%} in the beginning "
        "(bound {bound:.0%})",
    ),
    Check(
        Rule.SHORT,
        lambda look: look.read("length", far=0.0, part=look.settings.short),
        "answers had {value:.0f} tokens, {quiet:.0f} in the beginning (bound {bound:.0f})",
    ),
    Check(
        Rule.ENTROPY,
        _entropy,
        "the entropy of the next token was {value:.2f} nats, {quiet:.2f} in the beginning "
        "(bound {bound:.2f})",
    ),
    Check(
        Rule.ALIKE,
        lambda look: look.read("alike", far=1.0, part=look.settings.alike),
        "{value:.0%} of the pairs of different questions had the same majority answer, "
        "{quiet:.0%} in the beginning (bound {bound:.0%})",
    ),
    Check(
        Rule.FLIPS,
        _flips,
        "{value:.0%} of the questions asked again had another majority answer than before "
        "(bound {bound:.0%})",
    ),
    Check(
        Rule.FALL,
        _fall,
        "agreement was {value:.0%} and had been {quiet:.0%} (bound {bound:.0%})",
    ),
    Check(
        Rule.KL,
        lambda look: look.read("kl", quiet=0.0, far=look.settings.kl),
        "the model is {value:.2f} nats a token away from where the run started (bound {bound:.2f})",
    ),
    Check(
        Rule.NO_SIGNAL,
        lambda look: look.read("no_signal", quiet=0.0, far=look.settings.no_signal),
        "{value:.0%} of the questions had nothing to teach (bound {bound:.0%})",
    ),
)
"""The gravest first."""


def judge(seen: Sequence[Signs], settings: GuardConfig) -> Ruling:
    """The ruling after the newest step of those `seen`, which are all of the run, in order."""
    look = Look(seen, settings)
    for check in CHECKS:
        reading = check.read(look)
        if reading is not None and reading.way >= 1:
            trusted = 0 if check.action is Action.ABORT else _trusted(check, look)
            return Ruling(check.action, trusted, check.rule, _words(check, reading, look))
    return Ruling(Action.GO_ON, trusted=seen[-1].step)


def _words(check: Check, reading: Reading, look: Look) -> str:
    first, last = look.last[0].step, look.last[-1].step
    return f"steps {first} to {last}: {check.says.format(**vars(reading))}"


def _trusted(check: Check, look: Look) -> int:
    """The step before all those that the number was read off when it left its quiet; one more is
    taken off because a step's samples come from the weights of the step before. None is trusted if
    it was never seen quiet, nor, if labels flipped, since the oldest label that did."""
    left = len(look.seen)
    while (reading := check.read(look.ending(left))) and reading.way > QUIET:
        left -= 1
    if reading is None:
        return 0
    trusted = [left - look.settings.window]
    if check.rule is Rule.FLIPS:
        trusted += [each.flipped_since - 1 for each in look.last if each.flipped_since]
    return max(0, min(trusted))
