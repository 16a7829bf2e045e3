"""Which questions are worth an update, and in which order they are asked."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ttrl.config import SelectionConfig
from ttrl.store.questions import StoredQuestion

LOOKED_AT = 8
"""Candidates for each place in an update; of more than these nothing is read."""


class LeftOut(StrEnum):
    """Why a question waits for a later update."""

    CLIENT = "client_share"
    """Its client has as many in this one as a client may have."""
    CLUSTER = "near_duplicate"
    """There are enough in this one that say nearly the same."""


@dataclass(frozen=True)
class Selection:
    """The questions of an update, and the candidates that a cap keeps out of it."""

    chosen: tuple[StoredQuestion, ...]
    left_out: tuple[tuple[StoredQuestion, LeftOut], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many were left out, by reason."""
        return {str(why): count for why, count in Counter(why for _, why in self.left_out).items()}


def choose(
    candidates: Sequence[StoredQuestion], limits: SelectionConfig, *, sole_client: bool
) -> Selection:
    """The first candidates that the caps allow. A sole client may have the whole update: where
    nobody else asks, there is nobody to protect."""
    share = 1.0 if sole_client else limits.per_client
    each = max(1, int(share * limits.max_questions))
    chosen: list[StoredQuestion] = []
    left_out: list[tuple[StoredQuestion, LeftOut]] = []
    of_client: Counter[str | None] = Counter()
    for candidate in candidates:
        if len(chosen) == limits.max_questions:
            break
        topic = candidate.question.topic
        if of_client[candidate.client] >= each:
            left_out.append((candidate, LeftOut.CLIENT))
        elif sum(topic.alike(c.question.topic) for c in chosen) >= limits.per_cluster:
            left_out.append((candidate, LeftOut.CLUSTER))
        else:
            chosen.append(candidate)
            of_client[candidate.client] += 1
    return Selection(tuple(chosen), tuple(left_out))


class Rounds:
    """Serves the selected questions in shuffled rounds, each once a round. A question that is
    dropped (unanimous, above the ceiling, refused) does not come again."""

    def __init__(self, questions: Sequence[StoredQuestion], *, seed: int) -> None:
        self._left = {question.id: question for question in questions}
        self._random = random.Random(seed)
        self._queue: list[int] = []

    def __len__(self) -> int:
        return len(self._left)

    def take(self, count: int) -> list[StoredQuestion]:
        """The next questions, all different; fewer when fewer are left. Where a round ends within
        one call, a question that was already taken waits for the next."""
        taken: list[int] = []
        while len(taken) < min(count, len(self._left)):
            key = next((key for key in self._queue if key not in taken), None)
            if key is None:
                self._queue += self._random.sample(sorted(self._left), len(self._left))
                continue
            self._queue.remove(key)
            taken.append(key)
        return [self._left[key] for key in taken]

    def drop(self, question_id: int) -> None:
        """Never serve it again."""
        self._left.pop(question_id, None)
        self._queue = [key for key in self._queue if key != question_id]
