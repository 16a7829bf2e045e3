"""What answers say of a version, and of how it differs from another; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from statistics import fmean
from typing import Any

K = 8
"""Of pass@k."""
TWO_SIDED, ONE_SIDED = 1.960, 1.645
"""Standard errors of a 95% interval, and of a 95% bound."""


@dataclass(frozen=True)
class Answered:
    """One version's answers to some questions, an entry a question: how many of `samples` drawn
    answers are `right`, whether their majority is, whether the most likely answer is, and whether
    the question is outside what the model was taught. `unreadable` is a share of all samples,
    `tokens` their mean length."""

    samples: int
    right: tuple[int, ...]
    majority: tuple[bool, ...]
    greedy: tuple[bool, ...]
    hard: tuple[bool, ...]
    unreadable: float
    tokens: float

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Answered:
        """What was written with `asdict`."""
        return cls(**{key: _frozen(value) for key, value in row.items()})

    def easy(self) -> Answered:
        """Of the questions that the model was taught alone."""
        easy = [not hard for hard in self.hard]
        return replace(
            self,
            right=tuple(compress(self.right, easy)),
            majority=tuple(compress(self.majority, easy)),
            greedy=tuple(compress(self.greedy, easy)),
            hard=tuple(compress(self.hard, easy)),
        )

    def rates(self) -> dict[str, float]:
        """All shares: greedy, pass@1, the majority's, pass@k."""
        return {
            "greedy": fmean(self.greedy),
            "pass_at_1": fmean(self.right) / self.samples,
            "majority": fmean(self.majority),
            f"pass_at_{K}": fmean(pass_at_k(right, self.samples, K) for right in self.right),
        }


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The chance that one of k of the samples is right, without bias (Chen et al., "Evaluating
    large language models trained on code", arXiv 2107.03374)."""
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


@dataclass(frozen=True)
class Paired:
    """Questions of which two versions were asked: how many there are, and how many only the one or
    only the other got right."""

    questions: int
    gained: int
    lost: int

    def __add__(self, other: Paired) -> Paired:
        return Paired(
            self.questions + other.questions, self.gained + other.gained, self.lost + other.lost
        )

    @property
    def difference(self) -> float:
        """Of the shares of right answers."""
        return (self.gained - self.lost) / self.questions if self.questions else 0.0

    def interval(self, errors: float) -> tuple[float, float]:
        """The difference give or take so many standard errors, with two questions added that were
        gained and lost, so that it holds when next to none were (Bonett and Price, "Adjusted Wald
        confidence interval for a difference of binomial proportions based on paired data", 2012).
        """
        count = self.questions + 2
        gained, lost = (self.gained + 1) / count, (self.lost + 1) / count
        middle = gained - lost
        margin = errors * math.sqrt((gained + lost - middle**2) / count)
        return max(-1.0, middle - margin), min(1.0, middle + margin)


def compare(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """What became of each question: `gained` is learned, `lost` corrupted."""
    pairs = list(zip(before, after, strict=True))
    return Paired(len(pairs), pairs.count((False, True)), pairs.count((True, False)))


def excess(first: Sequence[bool], again: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Of the questions that the base first got right: does the version get more of them wrong than
    the base, asked again? `gained` are wrong with the version alone, `lost` with the base alone."""
    of_base, of_version = ([not right for right in compress(row, first)] for row in (again, after))
    return compare(of_base, of_version)
