"""The judge: a model that scores one answer at a time on a rubric, and never compares two.

What says whether two answers mean the same is another thing, the meaning judge (`ttrl.meaning`). A
score is a number from 0 to 1, or None where the judge says nothing: it could not be asked, answered
nonsense, or was addressed by the answer. Nothing here ever ends a run.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from ttrl.questions.question import Question

FOLDER = "judge"
"""Of the state directory, where recorded scores and the distilled judge are."""
MANIFEST = "judge.json"
"""In a distilled judge's directory: what it was distilled from, and its grades."""


@dataclass
class Spent:
    """What became of answers that were to be scored, and what that cost."""

    answers: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    seconds: float = 0.0


class Cost:
    """Counts it, from any thread."""

    def __init__(self) -> None:
        self.requests = 0
        self._silent: Counter[str] = Counter()
        self._since = Spent()
        self._counting = threading.Lock()

    def count(self, outcome: str, answers: int = 1) -> None:
        with self._counting:
            self._since.answers[outcome] += answers
            if outcome not in (SCORED, KNOWN):
                self._silent[outcome] += answers

    def request(self, seconds: float, read: int = 0, written: int = 0) -> None:
        with self._counting:
            self.requests += 1
            self._since.requests += 1
            self._since.tokens_read += read
            self._since.tokens_written += written
            self._since.seconds += seconds

    def take(self) -> Spent:
        """Return what was spent since this was last called."""
        with self._counting:
            taken, self._since = self._since, Spent()
        taken.answers = +taken.answers  # without those that are 0
        return taken

    def remark(self) -> str:
        """Say how many answers have no score, and why, if there are any."""
        with self._counting:
            silent = dict(self._silent)
        each = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in silent.items())
        return f"answers without the judge's score: {each}" if silent else ""


SCORED, KNOWN = "scored", "known"
"""Outcomes with a score: of this request, or of an earlier one."""


class Scorer(Protocol):
    """Shared by the threads that take votes."""

    key: str
    """Names the judge with its rubric: what is known of another one says nothing of it."""
    cost: Cost

    def scores(self, question: Question, answers: Sequence[str]) -> list[float | None]:
        """Score answers without their thoughts, each for itself. Raises PacerClosed."""

    def close(self) -> None:
        """Score nothing any more; whoever waits gets None."""


def vote_weights(scores: Sequence[float | None], share: float) -> list[float]:
    """Return what each sample's vote counts, on average 1, when a share of it is in proportion to
    its score. Without a score it counts as one that has the mean of the others."""
    known = [score for score in scores if score is not None]
    usual = fmean(known) if known else 0.0
    if not usual:
        return [1.0] * len(scores)
    return [1 - share + share * (usual if score is None else score) / usual for score in scores]
