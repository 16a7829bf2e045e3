"""Which questions are worth an update, in which order they are asked, and how much each may teach,
estimated from earlier votes.

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
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from statistics import fmean, pvariance
from typing import Any

from ttrl.config import SelectionConfig
from ttrl.questions.near_duplicates import Common, Told
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


LOOKED_AT = 8
"""Candidates that are read for each place in an update."""
VAIN = 2
"""Failed attempts at a question that do not count as passes; more would keep a run from its end."""


class LeftOut(StrEnum):
    """Why a question is not in this update: a cap is reached."""

    CLIENT = "client_share"
    CLUSTER = "near_duplicate"


@dataclass(frozen=True)
class Selection:
    chosen: tuple[StoredQuestion, ...]
    left_out: tuple[tuple[StoredQuestion, LeftOut], ...] = ()
    estimates: Mapping[int, ShareEstimate] = field(default_factory=dict)
    """Of the chosen, by id, where they were chosen by them."""

    @property
    def counts(self) -> dict[str, int]:
        return {str(why): count for why, count in Counter(why for _, why in self.left_out).items()}

    @property
    def grounds(self) -> dict[str, int]:
        """Whose votes the estimates go by that the chosen were chosen by, and of how many."""
        return dict(Counter(str(estimate.basis) for estimate in self.estimates.values()))


def choose(
    candidates: Sequence[StoredQuestion], limits: SelectionConfig, *, sole_client: bool
) -> Selection:
    """Choose the first candidates that the caps allow. A sole client may have the whole update."""
    per_client = max(1, int((1 if sole_client else limits.per_client) * limits.max_questions))
    common = Common(candidate.question.asks for candidate in candidates)
    asked: list[tuple[str, Told]] = []
    chosen: list[StoredQuestion] = []
    left_out: list[tuple[StoredQuestion, LeftOut]] = []
    of_client: Counter[str | None] = Counter()
    for candidate in candidates:
        if len(chosen) == limits.max_questions:
            break
        cluster, told = candidate.question.cluster, common.read(candidate.question.asks)
        near = sum(cluster == other or told.alike(said) for other, said in asked)
        if of_client[candidate.client] >= per_client:
            left_out.append((candidate, LeftOut.CLIENT))
        elif near >= limits.per_cluster:
            left_out.append((candidate, LeftOut.CLUSTER))
        else:
            chosen.append(candidate)
            asked.append((cluster, told))
            of_client[candidate.client] += 1
    return Selection(tuple(chosen), tuple(left_out))


class Rounds:
    """Serves the selected questions in rounds, shuffled or in their order, each once a round, in so
    many `passes` (None: without end). A dropped question (unanimous, above the ceiling, refused)
    does not come again; one that is given back does, in a later round."""

    def __init__(
        self,
        questions: Sequence[StoredQuestion],
        *,
        seed: int,
        passes: int | None = None,
        shuffled: bool = True,
    ) -> None:
        self._places = {} if shuffled else {each.id: n for n, each in enumerate(questions)}
        self._left = {question.id: question for question in questions}
        self._passes = passes
        self._times: Counter[int] = Counter()
        self._vain: Counter[int] = Counter()
        self._random = random.Random(seed)
        self._queue: list[int] = []

    def __len__(self) -> int:
        return len(self._left)

    @property
    def used_up(self) -> bool:
        """Whether all questions that were not dropped were asked in all passes."""
        return not self._left and self._passes in self._times.values()

    @property
    def unasked(self) -> int:
        return sum(key not in self._times for key in self._left)

    def take(self, count: int) -> list[StoredQuestion]:
        """Return the next questions, all different; fewer if fewer are left."""
        taken: list[int] = []
        while len(taken) < min(count, len(self._left)):
            key = next((key for key in self._queue if key not in taken), None)
            if key is None:  # the round is over; those that are taken wait for the next call
                order = self._random.sample(sorted(self._left), len(self._left))
                self._queue += sorted(order, key=lambda key: self._places.get(key, 0))
                continue
            self._queue.remove(key)
            taken.append(key)
        questions = [self._left[key] for key in taken]
        self._times.update(taken)
        for key in taken:
            if self._times[key] == self._passes:
                self.drop(key)
        return questions

    def give_back(self, question: StoredQuestion) -> None:
        """Do not count the last time that it was taken; holds `VAIN` times."""
        if self._vain[question.id] < VAIN:
            self._vain[question.id] += 1
            self._times[question.id] -= 1
            self._left[question.id] = question

    def drop(self, question_id: int) -> None:
        self._left.pop(question_id, None)
        self._queue = [key for key in self._queue if key != question_id]
