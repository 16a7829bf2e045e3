"""The policy update: what it takes and how it may end. Only processes of a run import `grpo`, which
imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ttrl import ReportedError

OUT_OF_MEMORY = "out of memory; lower update.micro_batch or update.keep"


@dataclass(frozen=True)
class Row:
    """One sampled answer of an update: token ids, the engine's log-probability of each completion
    token, and its reward."""

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    logprobs: Sequence[float]
    reward: float


NextBatch = Callable[[int, Mapping[str, float]], Sequence[Row]]
"""Called with the number of optimizer steps done and what the trainer logged of the last one;
returns the `questions_per_step * keep` rows of the next step, a question's rows together. It is
called once more after the last step, when its rows are not used."""


class TrainingEnded(Exception):
    """No further step is to follow; its words, which may be empty, say why."""


class UpdateDiverged(ReportedError):
    """The loss, the gradient or what the result says is not finite; the update was stopped. A lower
    `update.learning_rate` helps."""


class SettingRefused(ReportedError, ValueError):
    """The trainer does not take a setting that was passed through in `update.grpo`."""
