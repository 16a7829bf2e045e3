"""What a reward looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ttrl import meaning
from ttrl.answers import AnswerKind, Reader
from ttrl.answers.cleaning import spoken
from ttrl.engine.samples import Sample
from ttrl.meaning import Matrix
from ttrl.votes import Vote


@dataclass(frozen=True)
class Ballot:
    """One question's text, those of its samples that ended, and their vote, in their order.
    `max_tokens` is where the engine cuts an answer off; `references` are right answers, if somebody
    gave any.

    Raises ValueError if the vote was not taken over as many samples.
    """

    question: str
    samples: tuple[Sample, ...]
    vote: Vote
    max_tokens: int
    reader: Reader = field(default_factory=Reader)
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.vote.answers):
            raise ValueError(
                f"a vote over {len(self.vote.answers)} answers does not match "
                f"{len(self.samples)} samples"
            )

    @property
    def agreeing(self) -> tuple[bool, ...]:
        """Whether each sample's answer is the label; none is without a label."""
        return tuple(
            answer is not None and answer == self.vote.label for answer in self.vote.answers
        )

    @property
    def teaches(self) -> bool:
        """Whether anything says what is right: without a label or a reference even the form of an
        answer is no reason to prefer it."""
        return self.vote.label is not None or bool(self.references)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of what each sample says after thinking. Where the thoughts stand in the text,
        they have as large a share of its tokens as of its characters."""
        return tuple(
            round((len(sample.token_ids) - sample.thought) * len(said) / max(len(sample.text), 1))
            for sample, said in zip(self.samples, self.texts, strict=True)
        )

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each sample says after thinking."""
        return tuple(spoken(sample.text) or "" for sample in self.samples)

    @cached_property
    def alike(self) -> Matrix:
        """How alike each two texts are, from 0 to 1, whatever they answer."""
        return self.reader.likeness.compare(self.texts)

    @cached_property
    def agree(self) -> Matrix:
        """How far each two samples say the same: of free texts how alike they are, but 0 where what
        must not differ does; of short answers 1 or 0. What cannot be read agrees with nothing."""
        given = self.vote.answers
        if self.vote.kind is not AnswerKind.FREE:
            return [[float(a is not None and a == b) for b in given] for a in given]
        found = meaning.agreement(self.texts, self.question, self.reader.likeness)
        return [
            [0.0 if a is None or b is None else f for b, f in zip(given, row, strict=True)]
            for a, row in zip(given, found, strict=True)
        ]

    @cached_property
    def honesty(self) -> tuple[float, ...]:
        """What is left of a likeness to each text; 1 for short answers, which cannot pretend."""
        if self.vote.kind is not AnswerKind.FREE:
            return (1.0,) * len(self.samples)
        return tuple(meaning.honesty(self.texts, self.question, self.lengths))
