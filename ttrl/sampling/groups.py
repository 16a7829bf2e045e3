"""Question → samples → vote → rewards → group, and which samples of a group are trained on."""

from __future__ import annotations

import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, pairwise
from random import Random
from statistics import pvariance
from typing import Any

from ttrl import rewards
from ttrl.answers import Reader, Reading
from ttrl.answers.layers import Layer
from ttrl.answers.thoughts import spoken
from ttrl.config import AnswerKind, Config, Downsampling, UpdateConfig, VoteConfig
from ttrl.config.learning import LONGEST_ANSWER
from ttrl.engine import threads
from ttrl.engine.client import EngineClient, EngineRefused, joined
from ttrl.engine.pacing import Pacer, PacerClosed, Tell
from ttrl.engine.samples import Sample, SampleSet, Sampling, longest_answer
from ttrl.judge import Scorer, vote_weights
from ttrl.questions.question import Question
from ttrl.questions.regime import ends
from ttrl.rewards import Ballot
from ttrl.sampling.prompts import Views, instructed
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.verifiers import Verifier
from ttrl.votes import Stop, View, Vote, VoteOutcome, decided, rounds, take_vote

PRIORITY = 100
"""Of our own requests: users' have 0 and go first."""
STEADY = 3
"""Visits without a change after which a question's label is settled (TTRL-Guard's code)."""
UNDECIDED = frozenset({VoteOutcome.TIE, VoteOutcome.BELOW_FLOOR})
CUT_TO_SAY = 0.1
"""Share of the samples that may be cut off without a remark."""


def informative(rewards: Sequence[float]) -> bool:
    """Whether the rewards differ: a group of equal rewards has no advantage to learn from."""
    return len(set(rewards)) > 1


def keep(
    rewards: Sequence[float],
    count: int,
    seed: int,
    how: Downsampling = Downsampling.VARIANCE,
) -> tuple[int, ...]:
    """Return the places of `count` of the samples, in order. Where there are fewer, of as many as
    divide `count`, to be repeated: 8 of 12 for 16. Twice each leaves the mean and the spread of the
    rewards as they are, and with them the advantages. `seed` draws among equals.

    With the largest variance the advantages, centred on the kept samples, no longer know the vote's
    share: 3 agreeing of 64 weigh like 3 of `count`, and `count / 2` or more always like a half.
    """
    parts = (part for part in range(min(count, len(rewards)), 0, -1) if count % part == 0)
    count = next(parts, 0)
    places = list(range(len(rewards)))
    if how is not Downsampling.FIRST:
        Random(seed).shuffle(places)
    if how is Downsampling.VARIANCE and len(places) > count:
        places = _most_varied(places, rewards, count)
    return tuple(sorted(places[:count]))


def _most_varied(places: Sequence[int], rewards: Sequence[float], count: int) -> list[int]:
    """Return so many of the highest and of the lowest as vary most: no other choice varies more
    (PODS, theorem 1). Of equal ones those that `places` has first are lowest."""
    ranked = sorted(places, key=rewards.__getitem__)
    choices = (ranked[:low] + ranked[len(ranked) - count + low :] for low in range(count, -1, -1))
    return max(choices, key=lambda choice: pvariance([rewards[place] for place in choice]))


def pacer_for(client: EngineClient, vote: VoteConfig, tell: Tell | None = None) -> Pacer:
    return Pacer(client.load, maximum=vote.in_flight, pause_waiting=vote.pause_waiting, tell=tell)


def to_learn_from(question: Question, vote: VoteConfig) -> Sampling:
    """Return how a question's samples are drawn: as the trainer computes their log-probabilities,
    and ending where the user's answer does."""
    return Sampling(vote.temperature, vote.longest, ends=ends(question.sampling, vote.longest))


@dataclass(frozen=True)
class Group:
    """The samples of one question with their vote and rewards; `kept` are the positions of those
    that go into the update. `instruction` was added to the prompt that they were drawn from."""

    question: StoredQuestion
    drawn: SampleSet
    vote: Vote
    rewards: tuple[float, ...]
    kept: tuple[int, ...]
    instruction: str | None = None
    scale: float = 1.0
    """What its advantages are multiplied by, and then lowered by the `penalty`."""
    penalty: float = 0.0
    others_tokens: int = 0
    """Tokens of what else was sampled for it: by a teacher, or of other wordings."""

    @property
    def informative(self) -> bool:
        differ = informative([self.rewards[position] for position in self.kept])
        return differ or (self.penalty > 0 and bool(self.kept))

    @property
    def contradicted(self) -> bool:
        """Whether another signal contradicts the most common of its answers."""
        votes = dict(self.vote.counts)
        refuted = self.vote.outcome is VoteOutcome.REFUTED
        label = self.vote.label
        return refuted or (label is not None and votes.get(label, 0) < max(votes.values()))

    @property
    def settled(self) -> bool:
        """Whether its samples agree too much to learn from; what agrees too little, or with no
        teacher's label, may teach a step later."""
        label, outcome = self.vote.label, self.vote.outcome
        given = label is not None and label in self.vote.answers
        return (given or outcome is VoteOutcome.ABOVE_CEILING) and not self.informative

    @property
    def tokens(self) -> int:
        return self.drawn.tokens + self.others_tokens

    @property
    def fate(self) -> tuple[QuestionState, str | None]:
        if self.informative:
            return QuestionState.LEARNED_FROM, None
        if self.vote.outcome is not VoteOutcome.LABEL:
            return QuestionState.NO_LABEL, self.vote.outcome
        return QuestionState.NO_SIGNAL, f"{self.vote.share:.0%} agree"


Refused = Callable[[StoredQuestion, EngineRefused], None]
Failed = Callable[[StoredQuestion, Exception], None]


@dataclass
class Roller:
    """Asks the engine for the samples of many questions at once, as fast as `pacer` lets it, until
    it is `over`. `references` are right answers by the hashes of their questions."""

    client: EngineClient
    settings: VoteConfig
    update: UpdateConfig
    pacer: Pacer
    reader: Reader
    references: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verifier: Verifier = field(default_factory=Verifier)
    teacher: str | None = None
    """The version whose samples vote; None: the one that is sampled."""
    views: Views = field(default_factory=Views)
    """What makes the other wordings of a question."""
    fooled: Collection[AnswerKind] = ()
    """The kinds of answers of which no majority is a label."""
    over: threading.Event = field(default_factory=threading.Event)
    judge: Scorer | None = None
    """Scores each answer, for the reward `judge` and, with a `judge_weight`, for the vote."""
    judge_weight: float = 0.0
    _taught: dict[int, Sequence[SampleSet]] = field(default_factory=dict)
    """The teacher's samples of each wording, by the ids of their questions."""
    _labels: dict[int, tuple[str, tuple[bool, ...]]] = field(default_factory=dict)
    """The last label of each question, and whether it had changed at each of the last visits."""

    def roll(
        self,
        questions: Sequence[StoredQuestion],
        *,
        version: str,
        draw: int,
        refused: Refused,
        failed: Failed,
    ) -> list[Group]:
        """Return what `each` yields, in the order of the questions."""
        asked = deque(questions)
        each = self.each(asked, version=version, draw=draw, refused=refused, failed=failed)
        groups = {group.question.id: group for group in each}
        return [groups[question.id] for question in questions if question.id in groups]

    def each(
        self,
        questions: deque[StoredQuestion],
        *,
        version: str,
        draw: int,
        refused: Refused,
        failed: Failed,
    ) -> Iterator[Group]:
        """Yield a group for each question that the engine answers, as they come; questions may be
        appended meanwhile. Those that it refuses (too long, say) are handed to `refused`, those
        that failed in spite of retries, or whose answers cannot be read or scored, to `failed`: a
        vote is taken over all samples or not at all. `draw` tells the draws' seeds apart. Raises
        PacerClosed."""

        def one(question: StoredQuestion) -> Group | Exception:
            seed = hash((self.update.seed, draw, question.id)) % 2**31
            try:
                return self._group(question, version, seed)
            except PacerClosed:
                raise
            except Exception as error:  # noqa: BLE001 - one question never ends a run
                return error

        for question, outcome in threads.map_as_done(one, questions, width=self.pacer.width):
            if isinstance(outcome, Group):
                yield outcome
            elif isinstance(outcome, EngineRefused) and outcome.final:
                refused(question, outcome)
            else:
                failed(question, outcome)

    def _group(self, question: StoredQuestion, version: str, seed: int) -> Group:
        settings = self.settings
        asked = instructed(question.question, settings.instruction, self.reader.table)
        drawn, vote, others = self._draw(question, asked or question.question, version)
        changes = self._changes(question, vote)
        ended = drawn.ended
        ballot = Ballot(
            question=question.question.text,
            samples=tuple(drawn.samples[place] for place in ended),
            vote=replace(
                vote,
                answers=tuple(vote.answers[place] for place in ended),
                layers=tuple(vote.layers[place] for place in ended),
            ),
            max_tokens=settings.longest,
            reader=self.reader,
            references=tuple(self.references.get(question.question.hash, ())),
            unsettled=any(changes),
            scores=self._scores(question, [drawn.samples[place] for place in ended]),
        )
        rewarded = rewards.total(ballot, settings.rewards)
        kept = keep(rewarded, self.update.keep, seed, self.update.downsampling)
        worth = dict(zip(ended, rewarded, strict=True))
        every = tuple(worth.get(place, 0.0) for place in range(len(drawn.samples)))
        kept = tuple(ended[place] for place in kept)
        return Group(
            question,
            drawn,
            vote,
            every,
            kept,
            settings.instruction if asked else None,
            scale=1 - settings.flip_discount * changes[-1] if changes else 1.0,
            penalty=settings.penalty if vote.outcome in UNDECIDED else 0.0,
            others_tokens=sum(each.tokens for each in others),
        )

    def _changes(self, question: StoredQuestion, vote: Vote) -> tuple[bool, ...]:
        """Return whether the question's label changed, at each of the last visits that had one."""
        last, changes = self._labels.get(question.id, (None, ()))
        if vote.label is None:
            return changes
        if last is not None:
            same = vote.label == last or (
                vote.kind is AnswerKind.FREE
                and self.reader.matches(vote.label, [last], question.question.text, vote.kind)
            )
            changes = (*changes, not same)[-STEADY:]
        self._labels[question.id] = vote.label, changes
        return changes

    def _draw(
        self, question: StoredQuestion, asked: Question, version: str
    ) -> tuple[SampleSet, Vote, Sequence[SampleSet]]:
        """Sample the prompt `asked` and read its answers as those to the question itself; also
        return what else was sampled. The label is the teacher's, which answers once in a run, if
        there is one."""
        settings, voter = self.settings, self.teacher or version
        others: list[SampleSet] = []

        def rephrased(prompt: Question, count: int) -> list[str]:
            others.append(self._sample(prompt, voter, count))
            return [sample.text for sample in others[-1].samples if not sample.cut]

        wordings = [
            instructed(each, settings.instruction, self.reader.table) or each
            for each in self.views.of(question.question, rephrased)
        ]
        count = settings.samples // (1 + len(wordings))
        if self.teacher is not None:
            voters = self._taught.get(question.id)
            if voters is None:
                first = self._sample(asked, voter, count)
                views = [self._sample(each, voter, count) for each in wordings]
                voters = self._taught[question.id] = [each.texts for each in (first, *views)]
                others += views
                if version == voter:
                    return first, self.vote(question, first, views=views), others
                others.append(first)
            few = self._sample(asked, version, self.update.keep)
            return few, self.vote(question, few, voters[0], voters[1:]), others
        views = [self._sample(each, version, count) for each in wordings]
        drawn: SampleSet | None = None
        for part in rounds(count, settings.rounds):
            more = self._sample(asked, version, part)
            drawn = joined(drawn, more) if drawn else more
            vote = self.vote(question, drawn, views=views)
            # Without a label, as of few samples above the ceiling by chance, there may be one yet.
            counts = [votes for _, votes in vote.counts]
            if vote.label is not None and decided(counts, settings.sure):
                break
        assert drawn is not None
        return drawn, vote, [*others, *views]

    def _sample(self, asked: Question, version: str, count: int) -> SampleSet:
        sampling = to_learn_from(asked, self.settings)
        # No seed for the engine: its batches make the draws differ all the same, vLLM draws seeded
        # rows one by one, and its CPU build (0.32) dies of a seeded prompt that is read in parts.
        with self.pacer.slot():
            if self.over.is_set():
                raise PacerClosed
            return self.client.sample(
                asked, model=version, n=count, sampling=sampling, priority=PRIORITY
            )

    def vote(
        self,
        question: StoredQuestion,
        drawn: SampleSet,
        voters: SampleSet | None = None,
        views: Sequence[SampleSet] = (),
    ) -> Vote:
        """Vote over the samples, and those of other wordings; the label is that of other `voters`,
        if given, unless a check finds one of the samples right."""
        sets = [drawn, *([voters] if voters else ()), *views]
        every = replace(drawn, samples=tuple(chain.from_iterable(each.samples for each in sets)))
        reading = self.verifier.verified(
            read_answers(self.reader, question.question.text, every),
            question.question,
            [sample.text for sample in every.samples],
            self.references.get(question.question.hash, ()),
        )
        weights = [1.0] * len(every.samples)
        if self.judge_weight:
            weights = vote_weights(self._scores(question, every.samples), self.judge_weight)
        ends = list(accumulate(len(each.samples) for each in sets))
        parts = [
            View(reading.answers[start:end], reading.layers[start:end], weights[start:end])
            for start, end in pairwise([0, *ends])
        ]

        def over(part: View, others: Sequence[View], *, whole: bool) -> Vote:
            vote = take_vote(
                part.answers,
                layers=part.layers,
                weights=part.weights,
                views=others,
                readable=self.settings.readable,
                kind=reading.kind,
                floor=self.settings.floor,
                ceiling=self.settings.ceiling,
                verified_weight=self.verifier.weight,
                stop=Stop.ALL if whole else Stop.DECIDED,
            )
            certain = self.verifier.weight is None and Layer.VERIFIED in part.layers
            if vote.label is None or certain or vote.kind not in self.fooled:
                return vote
            return replace(vote, label=None, outcome=VoteOutcome.UNRELIABLE)

        if voters is None:
            whole = bool(views) or len(drawn.samples) >= self.settings.samples
            return over(parts[0], parts[1:], whole=whole)
        own, theirs = over(parts[0], (), whole=True), over(parts[1], parts[2:], whole=True)
        if self.verifier.weight is None and Layer.VERIFIED in own.layers:
            return own
        return replace(own, label=theirs.label, outcome=theirs.outcome)

    def _scores(
        self, question: StoredQuestion, samples: Sequence[Sample]
    ) -> tuple[float | None, ...]:
        """Return the judge's scores of what the samples say after thinking; none without one."""
        if self.judge is None:
            return ()
        said = ["" if each.cut else spoken(each.text) or "" for each in samples]
        return tuple(self.judge.scores(question.question, said))


def read_answers(reader: Reader, question_text: str, drawn: SampleSet) -> Reading:
    """Read the canonical answer of each sample; those that were cut off have none."""
    texts = ["" if each.cut else each.text for each in drawn.samples]
    reading = reader.read(question_text, texts)
    read = zip(drawn.samples, reading.layers, strict=True)
    return replace(reading, layers=tuple(Layer.CUT_OFF if s.cut else by for s, by in read))


def rows(group: Group, *, run_id: int, step: int) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """Return the rows of a vote and of its samples, with tokens and log-probabilities, which are
    large, only of what may be trained on."""
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
        "instruction": group.instruction,
    }
    samples = []
    for position, sample in enumerate(group.drawn.samples):
        kept = position in group.kept
        trained = kept and group.informative
        samples.append(
            {
                "position": position,
                "layer": group.vote.layers[position],
                "text": sample.text,
                "answer": group.vote.answers[position],
                "finish": sample.finish,
                "reward": group.rewards[position],
                "kept": kept,
                "token_ids": array("i", sample.token_ids if trained else ()).tobytes(),
                "logprobs": array("f", sample.logprobs if trained else ()).tobytes(),
            }
        )
    return vote, samples


def cut_off(layers: Counter[Layer], max_tokens: int) -> str:
    """Say what to do if many of the samples, counted by how they were read, were cut off."""
    cut, samples = layers[Layer.CUT_OFF], layers.total()
    if cut <= CUT_TO_SAY * samples:
        return ""
    share = f"{cut / samples:.0%} of the samples"
    return f"{share} were cut off at vote.max_tokens={max_tokens}; raise it"


def with_length(config: Config, client: EngineClient, room: int | None = None) -> Config:
    """Set vote.max_tokens, if it is unset, by the engine's context and `room`, in tokens. Raises
    EngineUnreachable."""
    if config.vote.max_tokens is not None:
        return config
    try:
        context = client.base_model().max_model_len
    except EngineRefused:  # it does not tell what it serves
        context = None
    longest = min(longest_answer(context), room or LONGEST_ANSWER)
    vote = config.vote.model_copy(update={"max_tokens": longest})
    return config.model_copy(update={"vote": vote})
