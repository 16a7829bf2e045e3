"""A judge for tests."""

from __future__ import annotations

from ttrl.judge import Cost


class Scores:
    """Gives texts their scores; of others it says nothing."""

    key = "scores"

    def __init__(self, known):
        self.cost, self._known = Cost(), known

    def scores(self, question, answers):
        return [self._known.get(answer) for answer in answers]

    def close(self):
        pass
