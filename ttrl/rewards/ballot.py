"""What a reward looks at."""

from __future__ import annotations

from dataclasses import dataclass

from ttrl.samples import Sample
from ttrl.votes import Vote


@dataclass(frozen=True)
class Ballot:
    """One question's text, its samples, and the vote that was taken over them, in their order.
    `max_tokens` is where the engine cuts an answer off.

    Raises ValueError if the vote was not taken over as many samples.
    """

    question: str
    samples: tuple[Sample, ...]
    vote: Vote
    max_tokens: int

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.vote.answers):
            raise ValueError(
                f"a vote over {len(self.vote.answers)} answers is not one over "
                f"{len(self.samples)} samples"
            )

    @property
    def agreeing(self) -> tuple[bool, ...]:
        """Whether each sample's answer is the label; none is without a label."""
        return tuple(
            answer is not None and answer == self.vote.label for answer in self.vote.answers
        )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each sample."""
        return tuple(len(sample.token_ids) for sample in self.samples)
