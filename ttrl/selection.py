"""Which questions are worth an update, and in which order they are asked."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from ttrl.store.questions import StoredQuestion


class Rounds:
    """Serves the selected questions in shuffled rounds, each once a round. A question that is
    dropped (unanimous, unlabelled, refused) does not come again."""

    def __init__(self, questions: Sequence[StoredQuestion], *, seed: int) -> None:
        self._left = {question.id: question for question in questions}
        self._random = random.Random(seed)
        self._queue: list[int] = []

    def __len__(self) -> int:
        return len(self._left)

    def take(self, count: int) -> list[StoredQuestion]:
        """The next questions, all different; fewer when fewer are left."""
        taken: list[int] = []
        for key in self._next_keys():
            if len(taken) == min(count, len(self._left)):
                break
            if key in taken:
                continue  # a new round began within this call: leave it for the next
            taken.append(key)
        self._queue = [key for key in self._queue if key not in taken]
        return [self._left[key] for key in taken]

    def drop(self, question_id: int) -> None:
        """Never serve it again."""
        self._left.pop(question_id, None)
        self._queue = [key for key in self._queue if key != question_id]

    def _next_keys(self) -> Iterator[int]:
        position = 0
        while self._left:
            if position == len(self._queue):
                self._queue += self._random.sample(sorted(self._left), len(self._left))
            yield self._queue[position]
            position += 1
