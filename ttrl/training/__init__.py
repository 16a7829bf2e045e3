"""The policy update: what it takes and how it may end. Only processes of a run import `grpo`, which
imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ttrl import ReportedError

OUT_OF_MEMORY = "out of memory; lower update.micro_batch or update.keep"


@dataclass(frozen=True)
class Row:
    """A sampled answer, the engine's log-probability of each of its tokens, its reward, and the
    number of optimizer steps after which the weights drew it; None if they are those of now. Its
    advantage over its question's mean reward is multiplied by `scale` and lowered by `penalty`."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float]
    reward: float
    drawn_after: int | None = None
    scale: float = 1.0
    penalty: float = 0.0


NextBatch = Callable[[int, Mapping[str, float]], Sequence[Row]]
"""Called with the number of steps done and what the trainer logged of the last one; returns the
`questions_per_step * keep` rows of the next step, a question's rows together. Called once more
after the last step, when the rows are not used."""


class TrainingEnded(Exception):
    """No further step is to follow; the message, which may be empty, says why."""


class UpdateDiverged(ReportedError):
    """Loss, gradient or log-probabilities are not finite; lower `update.learning_rate`."""


class SettingRefused(ReportedError, ValueError):
    """TRL does not take a setting of `update.grpo`."""
