"""What share of some questions a vote could teach, and at what cost. Trains nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from jobs.reading import reader
from ttrl.config import Config
from ttrl.engine.client import EngineClient, EngineRefused
from ttrl.questions import Question
from ttrl.rollouts import Group, Roller, pacer_for
from ttrl.store.questions import QuestionState, StoredQuestion

WORTH_IT = 0.1
"""A smaller share of questions that could teach is hardly worth a run."""


@dataclass(frozen=True)
class Assessment:
    """What was found on a sample of the questions; shares are of those asked."""

    questions: int
    asked: int
    refused: int
    teachable: float
    """A majority, and answers that differ from it: an update can learn from these."""
    unanimous: float
    """All agree: nothing to learn."""
    no_label: float
    """A tie, no readable answer, or too small a majority."""
    no_label_reasons: dict[str, int]
    mean_share: float
    """Of the majority answer, where there is one."""
    tokens_per_sample: float
    samples_per_run: int
    """That a run over all that could teach would draw, at the configured steps at most."""
    seconds_per_run: float
    """Of sampling alone, at the speed measured here."""
    worth_it: bool


def run(
    client: EngineClient,
    config: Config,
    questions: Sequence[Question],
    *,
    version: str | None,
    limit: int,
    progress: Callable[[int, int], None],
) -> Assessment:
    """Vote on at most `limit` of the questions, drawn at random, with the answers of a version
    (None: the base model). Raises EngineError, also when the engine refuses every one of them."""
    chosen = random.Random(config.update.seed).sample(questions, min(limit, len(questions)))
    rows = [
        StoredQuestion(number, question, 1, False, QuestionState.NEW, None)
        for number, question in enumerate(chosen)
    ]
    model, width = version or client.base_model().name, config.vote.in_flight
    refused: list[EngineRefused] = []
    groups: list[Group] = []
    began = time.monotonic()
    with pacer_for(client, config.vote) as pacer:
        roller = Roller(client, config.vote, config.update, pacer, reader(config))
        for start in range(0, len(rows), width):
            groups += roller.roll(
                rows[start : start + width],
                version=model,
                draw=0,
                refused=lambda _, error: refused.append(error),
            )
            progress(min(start + width, len(rows)), len(rows))
    if refused and not groups:
        raise refused[0]
    return _assess(config, len(questions), groups, len(refused), time.monotonic() - began)


def _assess(
    config: Config, questions: int, groups: Sequence[Group], refused: int, seconds: float
) -> Assessment:
    asked = len(groups) + refused
    fates = Counter(group.fate[0] for group in groups)
    reasons = Counter(
        str(group.vote.outcome) for group in groups if group.fate[0] is QuestionState.NO_LABEL
    )
    shares = [group.vote.share for group in groups if group.vote.label is not None]
    samples = sum(len(group.drawn.samples) for group in groups)
    teachable = fates[QuestionState.LEARNED_FROM] / max(asked, 1)
    a_run = min(
        config.update.steps * config.update.questions_per_step * config.vote.samples,
        round(config.update.steps * teachable * questions) * config.vote.samples,
    )
    return Assessment(
        questions=questions,
        asked=asked,
        refused=refused,
        teachable=teachable,
        unanimous=fates[QuestionState.NO_SIGNAL] / max(asked, 1),
        no_label=fates[QuestionState.NO_LABEL] / max(asked, 1),
        no_label_reasons=dict(reasons),
        mean_share=fmean(shares) if shares else 0.0,
        tokens_per_sample=sum(group.tokens for group in groups) / max(samples, 1),
        samples_per_run=a_run,
        seconds_per_run=round(a_run * seconds / max(samples, 1), 1),
        worth_it=teachable >= WORTH_IT,
    )
