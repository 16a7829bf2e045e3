"""Which questions are worth an update, and in which order they are asked."""

from __future__ import annotations

import random
from collections.abc import Sequence

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
