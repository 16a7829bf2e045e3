"""Question → samples → vote → rewards → group."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ttrl import groups, rewards
from ttrl.answers import Reader, Reading
from ttrl.config import UpdateConfig, VoteConfig
from ttrl.engine import crew
from ttrl.engine.client import EngineClient, EngineRefused
from ttrl.engine.pacer import Pacer, Tell, tell_nobody
from ttrl.rewards import Ballot
from ttrl.samples import Finish, SampleSet, Sampling
from ttrl.stopping import Stop, enough, rounds
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import Vote, VoteOutcome, take_vote

NONE: Mapping[str, Sequence[str]] = MappingProxyType({})
PRIORITY = 100
"""Of our own requests: users' have 0 and go first."""


def pacer_for(client: EngineClient, vote: VoteConfig, tell: Tell = tell_nobody) -> Pacer:
    """What paces all requests of one run; `tell` gets its events (see ttrl.engine.pacer)."""
    return Pacer(client.load, maximum=vote.in_flight, pause_waiting=vote.pause_waiting, tell=tell)


@dataclass(frozen=True)
class Group:
    """The samples of one question with their vote and rewards; `kept` are the positions that go
    into the update."""

    question: StoredQuestion
    drawn: SampleSet
    vote: Vote
    rewards: tuple[float, ...]
    kept: tuple[int, ...]

    @property
    def informative(self) -> bool:
        """Whether its kept samples differ in worth, so that there is something to learn."""
        return groups.informative([self.rewards[position] for position in self.kept])

    @property
    def settled(self) -> bool:
        """Whether its samples agree so far that there is nothing to learn, and asking again would
        not change that soon. What has no label for want of agreement may have one a step later."""
        agree = self.vote.outcome in (VoteOutcome.LABEL, VoteOutcome.ABOVE_CEILING)
        return agree and not self.informative

    @property
    def tokens(self) -> int:
        """Sampled tokens."""
        return sum(len(sample.token_ids) for sample in self.drawn.samples)

    @property
    def fate(self) -> tuple[QuestionState, str | None]:
        """What to say of the question afterwards."""
        if self.informative:
            return QuestionState.LEARNED_FROM, None
        if self.vote.outcome is not VoteOutcome.LABEL:
            return QuestionState.NO_LABEL, self.vote.outcome
        return QuestionState.NO_SIGNAL, f"{self.vote.share:.0%} agree"


class Roller:
    """Asks the engine for the samples of many questions at once, as fast as `pacer` lets it.
    `references` are right answers by the hashes of their questions."""

    def __init__(
        self,
        client: EngineClient,
        vote: VoteConfig,
        update: UpdateConfig,
        pacer: Pacer,
        reader: Reader,
        references: Mapping[str, Sequence[str]] = NONE,
    ) -> None:
        self._client = client
        self._vote = vote
        self._update = update
        self._pacer = pacer
        self.reader = reader
        self._references = references

    def roll(
        self,
        questions: Sequence[StoredQuestion],
        *,
        version: str,
        draw: int,
        refused: Callable[[StoredQuestion, EngineRefused], None],
    ) -> list[Group]:
        """A group for each question the engine answers; one that it refuses (too long, say) is
        handed to `refused`. `draw` makes the seeds of one draw differ from another's.

        Raises EngineError when the engine fails: a vote is taken over all samples or not at all;
        PacerClosed.
        """

        def one(question: StoredQuestion) -> Group | EngineRefused:
            seed = hash((self._update.seed, draw, question.id)) % 2**31
            try:
                return self._group(question, version, seed)
            except EngineRefused as error:
                if error.status >= 500 or error.status in (404, 429):
                    raise
                return error

        rolled = list(crew.each(one, questions, width=self._pacer.width))
        for question, outcome in zip(questions, rolled, strict=True):
            if isinstance(outcome, EngineRefused):
                refused(question, outcome)
        return [outcome for outcome in rolled if isinstance(outcome, Group)]

    def _group(self, question: StoredQuestion, version: str, seed: int) -> Group:
        drawn, vote = self._draw(question, version)
        ballot = Ballot(
            question=question.question.text,
            samples=drawn.samples,
            vote=vote,
            max_tokens=self._vote.max_tokens,
            reader=self.reader,
            references=tuple(self._references.get(question.question.hash, ())),
        )
        worth = rewards.total(ballot, self._vote.rewards)
        kept = groups.keep(worth, self._update.keep, seed, self._update.downsampling)
        return Group(question, drawn, vote, worth, kept)

    def _draw(self, question: StoredQuestion, version: str) -> tuple[SampleSet, Vote]:
        """Round after round, until there are enough or as many as may be."""
        settings = self._vote
        first, *more = rounds(settings.samples, settings.rounds)
        drawn = self._ask(question, version, first)
        vote = self.vote(question, drawn)
        for count in more:
            counts = [votes for _, votes in vote.counts]
            if enough(counts, vote.share, sure=settings.sure, ceiling=settings.ceiling):
                break
            drawn += self._ask(question, version, count)
            vote = self.vote(question, drawn)
        return drawn, vote

    def _ask(self, question: StoredQuestion, version: str, count: int) -> SampleSet:
        # No seed for the engine: its batches make the draws differ all the same, vLLM draws seeded
        # rows one by one, and its CPU build (0.32) dies of a seeded prompt that is read in parts.
        sampling = Sampling(self._vote.temperature, self._vote.max_tokens)
        with self._pacer.slot():
            return self._client.sample(
                question.question, model=version, n=count, sampling=sampling, priority=PRIORITY
            )

    def vote(self, question: StoredQuestion, drawn: SampleSet) -> Vote:
        """What the samples say."""
        settings = self._vote
        reading = read_answers(self.reader, question.question.text, drawn)
        return take_vote(
            reading.answers,
            kind=reading.kind,
            floor=settings.floor,
            ceiling=settings.ceiling,
            stop=Stop.ALL if len(drawn.samples) == settings.samples else Stop.DECIDED,
        )


def read_answers(reader: Reader, question_text: str, drawn: SampleSet) -> Reading:
    """The canonical answer of each sample. One that was cut off has none, even if something in
    it looks like one."""
    texts = ["" if s.finish is Finish.LENGTH else s.text for s in drawn.samples]
    return reader.read(question_text, texts)


def rows(group: Group, *, run_id: int, step: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """A group as the store keeps it: the vote's row and its samples' rows."""
    vote = {
        "run_id": run_id,
        "question_id": group.question.id,
        "version": group.drawn.version,
        "step": step,
        "at": time.time(),
        "kind": group.vote.kind,
        "outcome": group.vote.outcome,
        "label": group.vote.label,
        "share": group.vote.share,
        "entropy": group.vote.entropy,
        "counts": [list(pair) for pair in group.vote.counts],
        "stop": group.vote.stop,
    }
    return vote, list(_sample_rows(group))


def _sample_rows(group: Group) -> Iterable[dict[str, Any]]:
    for position, sample in enumerate(group.drawn.samples):
        yield {
            "position": position,
            "text": sample.text,
            "answer": group.vote.answers[position],
            "finish": sample.finish,
            "reward": group.rewards[position],
            "kept": position in group.kept,
            "token_ids": array("i", sample.token_ids).tobytes(),
            "logprobs": array("f", sample.logprobs).tobytes(),
        }
