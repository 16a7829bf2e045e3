"""What share of some questions a vote could teach, and at what cost. Trains nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from jobs.sampling import reader_for
from ttrl import rewards
from ttrl.config import Config
from ttrl.engine.client import EngineClient, EngineError
from ttrl.questions.question import Question
from ttrl.sampling.groups import Group, Roller, cut_off, pacer_for, with_length
from ttrl.store.questions import QuestionState, StoredQuestion

WORTH_IT = 0.1
"""A smaller share of questions that could teach is hardly worth a run."""


@dataclass(frozen=True)
class Assessment:
    """What was found on a sample of the questions; shares are of those asked."""

    questions: int
    asked: int
    refused: int
    failed: int
    """That the engine did not answer, though it was asked again."""
    teachable: float
    """A majority, and answers that differ from it: an update can learn from these."""
    unanimous: float
    """All agree: nothing to learn."""
    no_label: float
    """A tie, too few readable answers, or too small a majority."""
    no_label_reasons: dict[str, int]
    mean_share: float
    """Of the majority answer, where there is one."""
    cut_off: float
    """Share of the samples that were cut off."""
    cut_off_words: str
    """What to do about that; empty if they are few."""
    tokens_per_sample: float
    samples_per_run: int
    """That a run would draw, over as many of them as `selection.max_questions` allows."""
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
    (None: the base model). Raises EngineError when the engine answers none of them."""
    rewards.load(config.vote.rewards)
    chosen = random.Random(config.update.seed).sample(questions, min(limit, len(questions)))
    rows = [
        StoredQuestion(number, question, 1, False, QuestionState.NEW, None)
        for number, question in enumerate(chosen)
    ]
    config = with_length(config, client)
    model, width = version or client.base_model().name, config.vote.in_flight
    refused: list[EngineError] = []
    failed: list[EngineError] = []
    groups: list[Group] = []
    began = time.monotonic()
    with pacer_for(client, config.vote) as pacer:
        roller = Roller(client, config.vote, config.update, pacer, reader_for(config))
        for start in range(0, len(rows), width):
            groups += roller.roll(
                rows[start : start + width],
                version=model,
                draw=0,
                refused=lambda _, error: refused.append(error),
                failed=lambda _, error: failed.append(error),
            )
            if failed and not groups:
                break
            progress(min(start + width, len(rows)), len(rows))
    if not groups and (errors := failed or refused):
        raise errors[0]
    seconds = time.monotonic() - began
    return _assess(config, len(questions), groups, len(refused), len(failed), seconds)


def _assess(
    config: Config,
    questions: int,
    groups: Sequence[Group],
    refused: int,
    failed: int,
    seconds: float,
) -> Assessment:
    asked = len(groups) + refused
    fates = Counter(group.fate[0] for group in groups)
    reasons = Counter(
        str(group.vote.outcome) for group in groups if group.fate[0] is QuestionState.NO_LABEL
    )
    shares = [group.vote.share for group in groups if group.vote.label is not None]
    samples = sum(len(group.drawn.samples) for group in groups)
    cut = sum(group.vote.cut for group in groups)
    teachable = fates[QuestionState.LEARNED_FROM] / max(asked, 1)
    update, of_a_run = config.update, min(questions, config.selection.max_questions)
    taught = round(teachable * of_a_run)
    asked_in_all = update.steps_over(of_a_run) * min(update.questions_per_step, taught)
    if update.steps is None:  # what cannot teach is asked as well, at least once
        asked_in_all = update.passes * taught + of_a_run - taught
    a_run = asked_in_all * config.vote.samples
    return Assessment(
        questions=questions,
        asked=asked,
        refused=refused,
        failed=failed,
        teachable=teachable,
        unanimous=fates[QuestionState.NO_SIGNAL] / max(asked, 1),
        no_label=fates[QuestionState.NO_LABEL] / max(asked, 1),
        no_label_reasons=dict(reasons),
        mean_share=fmean(shares) if shares else 0.0,
        cut_off=cut / max(samples, 1),
        cut_off_words=cut_off(samples, cut, config.vote.longest),
        tokens_per_sample=sum(group.tokens for group in groups) / max(samples, 1),
        samples_per_run=a_run,
        seconds_per_run=round(a_run * seconds / max(samples, 1), 1),
        worth_it=teachable >= WORTH_IT,
    )
