"""Asking a version the same questions as another, and reading what it says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

from ttrl.answers import AnswerKind, Reader
from ttrl.answers.refusal import Stance, stance
from ttrl.config import Config
from ttrl.engine import crew
from ttrl.engine.client import EngineClient
from ttrl.engine.pacer import Pacer
from ttrl.paired import Answered
from ttrl.probes import LabelledProbe
from ttrl.questions import Question
from ttrl.rollouts import PRIORITY
from ttrl.samples import Finish, Sample, Sampling


@dataclass(frozen=True)
class Asked:
    """A question for all versions, by the id of its row: labelled, or held out of the traffic."""

    id: int
    question: Question
    label: LabelledProbe | None = None


@dataclass(frozen=True)
class Drawn:
    """A version's answers to a question, and the seconds from asking to having them all."""

    samples: Sequence[Sample]
    seconds: float

    @property
    def texts(self) -> list[str]:
        """One that was cut off says nothing."""
        return ["" if s.finish is Finish.LENGTH else s.text for s in self.samples]


class Asker:
    """Asks as fast as `pacer` lets it, `gate.samples` answers to each question."""

    def __init__(self, client: EngineClient, config: Config, pacer: Pacer, reader: Reader) -> None:
        self._client = client
        self._config = config
        self._pacer = pacer
        self._reader = reader

    def ask(
        self, version: str, asked: Sequence[Asked], done: Callable[[int], None] = lambda _: None
    ) -> list[Drawn]:
        """A version's answers, in order; `done` hears how many there are. Raises EngineError,
        PacerClosed."""
        found = []
        for one in crew.each(partial(self._draw, version), asked, width=self._pacer.width):
            found.append(one)
            done(len(found))
        return found

    def read(self, asked: Asked, *drawn: Drawn) -> list[Answered]:
        """What each version's answers to one question say, all read as the same kind."""
        texts = [each.texts for each in drawn]
        every = [text for each in texts for text in each]
        reading = self._reader.read(asked.question.text, every)
        canonical = iter(reading.answers)
        found = []
        for each, said in zip(drawn, texts, strict=True):
            right = None
            if asked.label is not None:
                judged = (self._right(asked.label, one, reading.kind) for one in each.samples)
                right = tuple(judged)
            found.append(
                Answered(
                    tuple(next(canonical) for _ in said),
                    right,
                    fmean(len(sample.token_ids) for sample in each.samples),
                    each.seconds,
                    fmean(stance(text) is Stance.DECLINES for text in said),
                )
            )
        return found

    def _draw(self, version: str, asked: Asked) -> Drawn:
        vote, n = self._config.vote, self._config.gate.samples
        sampling = Sampling(vote.temperature, vote.max_tokens)
        with self._pacer.slot():
            began = time.monotonic()
            drawn = self._client.sample(
                asked.question, model=version, n=n, sampling=sampling, priority=PRIORITY
            )
        return Drawn(drawn.samples, time.monotonic() - began)

    def _right(self, label: LabelledProbe, sample: Sample, kind: AnswerKind) -> bool:
        """Whether an answer is. Of a short answer the end is read, of a refusal the beginning: only
        the first is lost when an answer was cut off."""
        cut = sample.finish is Finish.LENGTH and label.accepted
        return not cut and label.right(sample.text, self._reader, kind)


def known(labelled: Iterable[LabelledProbe]) -> list[Asked]:
    """Labelled probes as questions."""
    return [Asked(row.id, row.question, row) for row in labelled]
