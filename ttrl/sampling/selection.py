"""Which questions are worth an update, and in which order they are asked."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ttrl.config import SelectionConfig
from ttrl.questions.near_duplicates import Common, Told
from ttrl.sampling.difficulty import ShareEstimate
from ttrl.store.questions import StoredQuestion

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
