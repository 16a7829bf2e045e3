"""How much a question may teach, estimated from earlier votes.

Without labels nobody knows how often a question is answered correctly. Known is the share of the
majority answer in a vote, unreadable answers counted against it: how often the pseudo-reward is 1.
A reward that is 1 with probability p and else 0 has the variance p (1 - p), greatest at one half
and nothing at 0 and 1: that is the signal of a question here. Choosing by it is difficulty-targeted
selection (arXiv 2506.05316) with agreement in the place of success: a majority that is wrong has a
signal like one that is right."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from statistics import fmean, pvariance
from typing import Any

from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.store.runs import PastVote
from ttrl.votes import VoteOutcome


class Basis(StrEnum):
    """Whose votes an estimate goes by."""

    OWN = "own_vote"
    NEAR = "near_duplicates"
    ALL = "all_votes"


@dataclass(frozen=True)
class ShareEstimate:
    """What the share of a question's majority may be: Beta(agree, differ)."""

    agree: float
    differ: float
    basis: Basis

    @property
    def share(self) -> float:
        return self.agree / (self.agree + self.differ)

    @property
    def signal(self) -> float:
        """The expectation of p (1 - p)."""
        total = self.agree + self.differ
        return self.agree * self.differ / (total * (total + 1))

    def report(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "expected_share": round(self.share, 3),
            "signal": round(self.signal, 3),
            "by": self.basis,
        }

    def draw(self, rng: random.Random) -> float:
        """Return the signal of a share drawn from the distribution: ordered by draws, what is
        uncertain is tried in proportion to its chance of being best (Thompson sampling, arXiv
        1707.02038)."""
        share = rng.betavariate(self.agree, self.differ)
        return share * (1 - share)


class History:
    """The newest votes of a store, newest first; each counts as `samples` answers."""

    def __init__(self, votes: Sequence[PastVote], samples: int) -> None:
        self._samples = samples
        self._last: dict[int, dict[int, PastVote]] = {}
        """The last vote of each run on a question, the newest run first."""
        for vote in votes:
            self._last.setdefault(vote.question_id, {}).setdefault(vote.run_id, vote)
        self._own = {key: next(iter(of_runs.values())) for key, of_runs in self._last.items()}
        self._near: dict[str, list[float]] = {}
        for vote in self._own.values():
            self._near.setdefault(vote.cluster, []).append(vote.share)
        self._prior = fitted([vote.share for vote in self._own.values()])
        self.runs = sorted({vote.run_id for vote in votes})

    def estimate(self, question: StoredQuestion) -> ShareEstimate:
        """Estimate by its own last vote; else by its near-duplicates', of which each counts as one
        answer only; else by all votes."""
        own, near = self._own.get(question.id), self._near.get(question.question.cluster, [])
        seen, weight, basis = 0.0, 0, Basis.ALL
        if own is not None:
            seen, weight, basis = own.share, self._samples, Basis.OWN
        elif near:
            seen, weight, basis = fmean(near), len(near), Basis.NEAR
        agree, differ = self._prior
        return ShareEstimate(agree + seen * weight, differ + (1 - seen) * weight, basis)

    def due(self, live_run: int) -> list[int]:
        """Return the questions that may be asked again, those with the most signal first. On which
        all agreed rests for 2 runs, and twice as long each time that it was so again. What had no
        label waits for a version of a later run than its vote's; `live_run` made what is live."""
        due = [key for key in self._own if self._rested(key, live_run)]
        return sorted(due, key=lambda key: abs(self._own[key].share - 0.5))

    def _rested(self, key: int, live_run: int) -> bool:
        last = self._own[key]
        if not _solved(last):
            return last.outcome == VoteOutcome.LABEL or live_run >= last.run_id
        since = sum(run > last.run_id for run in self.runs)
        times = sum(1 for _ in takewhile(_solved, self._last[key].values()))
        return since >= 1 << times


def _solved(vote: PastVote) -> bool:
    return vote.share == 1 or vote.outcome == VoteOutcome.ABOVE_CEILING


def fitted(shares: Sequence[float]) -> tuple[float, float]:
    """Return the Beta distribution with the shares' mean and variance, but worth no more answers
    than there are shares; where none has them, the uniform one."""
    mean = fmean(shares) if shares else 0.0
    variance = pvariance(shares) if shares else 0.0
    strength = min(mean * (1 - mean) / variance - 1, len(shares)) if variance else 0.0
    return (mean * strength, (1 - mean) * strength) if strength > 0 else (1.0, 1.0)


def by_signal(
    candidates: Iterable[StoredQuestion], signals: Mapping[int, float]
) -> list[StoredQuestion]:
    """Order by turns of the clients, each with its strongest signal first. Of what comes first, at
    least half is new while there is something new (as in arXiv 2506.05316, sigma = 0.5): many
    known questions near one half would keep all else from being tried."""
    turns = Counter[str | None]()
    ranked: list[tuple[int, StoredQuestion]] = []
    for question in sorted(candidates, key=lambda question: -signals[question.id]):
        turns[question.client] += 1
        ranked.append((turns[question.client], question))
    ordered: list[StoredQuestion] = []
    waiting: deque[StoredQuestion] = deque()
    room = 0  # for those that were asked before
    for _, question in sorted(ranked, key=lambda turn: turn[0]):
        if question.state is QuestionState.NEW:
            ordered.append(question)
            room += 1
        else:
            waiting.append(question)
        while room and waiting:
            ordered.append(waiting.popleft())
            room -= 1
    return [*ordered, *waiting]
