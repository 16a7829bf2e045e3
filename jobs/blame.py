"""Whose fault it is that a question has no vote: the engine's, the run's, or its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ttrl.engine.client import EngineError, EngineRefused
from ttrl.rewards import RewardFailed

NOT_FOUND = 404
FAILED_DRAWS = 3
"""Draws in a row without an answered question, each retried for a minute, after which the engine is
taken to be gone."""
FAILURES = 2
"""Draws in which an engine that answers others does not answer a question, after which that one is
kept back."""


@dataclass(frozen=True)
class Blame:
    """Ids of questions that were asked in vain."""

    again: Sequence[int] = ()
    """To be asked once more."""
    kept_back: Sequence[tuple[int, Exception]] = ()
    """At fault themselves."""
    fault: Exception | None = None
    """What ends the run."""


class Draws:
    """What the draws of a run have shown of its engine and its questions."""

    def __init__(self) -> None:
        self.count = 0
        self._vain = 0
        """Draws in a row in which the engine answered nothing."""
        self._failures: Counter[int] = Counter()
        """How often a question was not answered by an engine that answers others."""

    def blame(
        self,
        failures: Sequence[tuple[int, Exception]],
        *,
        voted: int,
        labelled: bool,
        answers: Callable[[], bool],
    ) -> Blame:
        """Of one draw: its failures with the questions' ids, the number of its other questions,
        whether one of these got a label, and whether the engine answers something else now, which
        is asked only if it matters."""
        lost = [fault for _, fault in failures if isinstance(fault, EngineError)]
        self._vain = self._vain + 1 if lost and not voted else 0
        silent = self._vain >= FAILED_DRAWS
        # A reward is asked only about what has a label.
        rewards_alone = all(isinstance(fault, RewardFailed) for _, fault in failures)
        if len(failures) > 1 and not lost and (not voted or (rewards_alone and not labelled)):
            # One is kept back, so that no set of questions ends every run.
            return Blame(kept_back=failures[:1], fault=failures[0][1])
        well = bool(voted) or (bool(lost) and answers())
        gone = silent and not well
        again, kept_back = list[int](), list[tuple[int, Exception]]()
        for key, fault in failures:
            # An engine that was started anew lacks the version: that is no fault of what is asked.
            lacking = isinstance(fault, EngineRefused) and fault.status == NOT_FOUND
            self._failures[key] += well and not lacking
            worn = silent or self._failures[key] >= FAILURES
            if isinstance(fault, EngineError) and (gone or not worn):
                again.append(key)
            else:
                kept_back.append((key, fault))
        return Blame(again, kept_back, lost[-1] if gone else None)


def kind_of(fault: Exception) -> str:
    """In a word or two: an exception's own words may quote the question."""
    return f"status {fault.status}" if isinstance(fault, EngineRefused) else type(fault).__name__
