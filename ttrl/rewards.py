"""Rewards: what each sample of a question is worth.

A reward is any function that takes a `Ballot` and returns one number per sample, in their order,
with a range of about 1. Custom ones are named `module:function`, or offered by a package under the
entry point `ttrl.rewards`. One that can tell what is right without a majority, such as a verifier
that runs tests, says so by an attribute, `needs_label = False`, and alone decides there.
"""

from __future__ import annotations

import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from statistics import fmean, pstdev

from ttrl import ReportedError, meaning, plugins
from ttrl.answers import AnswerKind, Reader
from ttrl.answers.layers import Layer
from ttrl.answers.thoughts import spoken
from ttrl.config.learning import OFFERED_REWARDS
from ttrl.engine.samples import Sample
from ttrl.meaning import Matrix
from ttrl.votes import Vote

NGRAM = 3
"""Length in tokens of the runs that count as repeated."""
FREE = 0.8
"""Part of `max_tokens` up to which no length is overlong."""
SAID_BEFORE = 0.9
"""Similarity from which on a sentence says what another did."""
LEAST_SPREAD = 0.1
"""Least standard deviation that a reward is divided by: where all but one sample are worth exactly
the same, a trifle would outweigh the vote."""
MINORITY = 0.3
"""What answers besides the label are worth together, while it changes."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|[。！？\n]")


class RewardFailed(ReportedError):
    """A reward raised something, or did not return one finite number per sample."""


@dataclass(frozen=True)
class Ballot:
    """A question's text, those of its samples that ended, and their vote, in the same order.
    `max_tokens` is the limit of an answer; `references` are right answers, if any are known."""

    question: str
    samples: tuple[Sample, ...]
    vote: Vote
    max_tokens: int
    reader: Reader = field(default_factory=Reader)
    references: tuple[str, ...] = ()
    unsettled: bool = False
    """Whether the question's label changed at one of its last visits."""
    scores: tuple[float | None, ...] = ()
    """The judge's, from 0 to 1; None where it says nothing, empty without a judge."""

    @property
    def agreeing(self) -> list[bool]:
        """Which samples give the label; none that a check found wrong."""
        label = self.vote.label
        return [
            label is not None and answer == label and layer is not Layer.REFUTED
            for answer, layer in zip(self.vote.answers, self._layers, strict=True)
        ]

    @property
    def carriers(self) -> list[int]:
        return [place for place, agrees in enumerate(self.agreeing) if agrees]

    @property
    def teaches(self) -> bool:
        """Whether anything says what is right; if not, even an answer's form is no reason to
        prefer it."""
        return self.vote.label is not None or bool(self.references)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of what each sample says after thinking; thoughts in the text are counted by
        their share of its characters."""
        return tuple(
            round((len(sample.token_ids) - sample.thought) * len(said) / max(len(sample.text), 1))
            for sample, said in zip(self.samples, self.texts, strict=True)
        )

    @cached_property
    def texts(self) -> tuple[str, ...]:
        return tuple(spoken(sample.text) or "" for sample in self.samples)

    @cached_property
    def alike(self) -> Matrix:
        return self.reader.likeness.compare(self.texts)

    @cached_property
    def agree(self) -> Matrix:
        """How far each two samples say the same, from 0 to 1: by similarity for free texts, without
        differences that matter; by a judge, and for other answers, 1 or 0. Unreadable ones agree
        with nothing."""
        given = self.vote.answers
        if self.vote.kind is not AnswerKind.FREE or self.reader.judge:
            return [[float(a is not None and a == b) for b in given] for a in given]
        found = meaning.agreement(self.texts, self.question, self.reader.likeness)
        return [
            [0.0 if a is None or b is None else f for b, f in zip(given, row, strict=True)]
            for a, row in zip(given, found, strict=True)
        ]

    @cached_property
    def honesty(self) -> tuple[float, ...]:
        """What a similarity to each text counts for: nothing where a check found it wrong; 1 for
        other short answers, which cannot pretend."""
        factors: Sequence[float] = (1.0,) * len(self.samples)
        if self.vote.kind is AnswerKind.FREE:
            factors = meaning.honesty(self.texts, self.question, self.lengths)
        return tuple(
            0.0 if layer is Layer.REFUTED else factor
            for factor, layer in zip(factors, self._layers, strict=True)
        )

    @property
    def _layers(self) -> Sequence[Layer | None]:
        return self.vote.layers or (None,) * len(self.samples)


def majority(ballot: Ballot) -> list[float]:
    """1 where the answer is the label, else 0 (Zuo et al., TTRL, arXiv 2504.16084)."""
    return [float(agrees) for agrees in ballot.agreeing]


def soft_majority(ballot: Ballot) -> list[float]:
    """The share of the samples that give the same answer, times the answer's honesty; 0 for
    unreadable ones and without a label."""
    if ballot.vote.label is None:
        return [0.0] * len(ballot.samples)
    votes = dict(ballot.vote.counts)
    return [
        honest * votes.get(answer, 0) / len(ballot.samples) if answer else 0.0
        for answer, honest in zip(ballot.vote.answers, ballot.honesty, strict=True)
    ]


def readable(ballot: Ballot) -> list[float]:
    """1 where a final answer can be read, else 0."""
    return [float(answer is not None) for answer in ballot.vote.answers]


def length(ballot: Ballot) -> list[float]:
    """From 1 (short) to 1/2 (`max_tokens`) for the label, from -1/2 to 0 for other answers, along a
    cosine; thoughts do not count (Yeo et al., "Demystifying long chain-of-thought", arXiv
    2502.03373)."""
    worth = []
    for tokens, agrees in zip(ballot.lengths, ballot.agreeing, strict=True):
        shortest, longest = (1.0, 0.5) if agrees else (-0.5, 0.0)
        part = min(tokens / ballot.max_tokens, 1.0)
        worth.append(longest + (shortest - longest) * (1 + math.cos(math.pi * part)) / 2)
    return worth


def overlong(ballot: Ballot) -> list[float]:
    """0 up to `FREE` of the token limit, thoughts included, from there down to -1 (DAPO's soft
    overlong punishment, arXiv 2503.14476, equation 13)."""
    parts = (len(sample.token_ids) / ballot.max_tokens for sample in ballot.samples)
    return [-min(max(0.0, part - FREE) / (1 - FREE), 1.0) for part in parts]


def repetition(ballot: Ballot) -> list[float]:
    """From 0 down to -1: the share of an answer's runs of three tokens, without its thoughts, that
    it has said before (Yeo et al.). Token ids serve languages that write no spaces as well."""
    worth = []
    for sample, tokens in zip(ballot.samples, ballot.lengths, strict=True):
        ids = sample.token_ids[len(sample.token_ids) - tokens :]
        runs = [tuple(ids[start : start + NGRAM]) for start in range(len(ids) - NGRAM + 1)]
        worth.append(len(set(runs)) / len(runs) - 1 if runs else 0.0)
    return worth


def echo(ballot: Ballot) -> list[float]:
    """From 0 down to -1: the share of an answer's sentences that say what an earlier one said."""
    worth = []
    for text in ballot.texts:
        parts = [part for part in _SENTENCE.split(text) if any(map(str.isalnum, part))]
        alike = ballot.reader.likeness.compare(parts) if len(parts) > 1 else []
        again = [max(alike[at][:at]) >= SAID_BEFORE for at in range(1, len(alike))]
        worth.append(-fmean(again) if again else 0.0)
    return worth


def centrality(ballot: Ballot) -> list[float]:
    """How far the others say the same, on average, times the share of pairs of those that agree
    with each other: who agrees with both sides says nothing."""
    others = max(len(ballot.samples) - 1, 1)
    worth = []
    for place, (row, honest) in enumerate(zip(ballot.agree, ballot.honesty, strict=True)):
        friends = [other for other, alike in enumerate(row) if alike and other != place]
        among = [ballot.agree[a][b] > 0 for a, b in combinations(friends, 2)]
        coherent = fmean(among) if among else 1.0
        worth.append((sum(row) - row[place]) / others * honest * coherent)
    return worth


def consensus(ballot: Ballot) -> list[float]:
    """How far those that carry the label say the same; all 0 without a label."""
    carriers = ballot.carriers
    if not carriers:
        return [0.0] * len(ballot.samples)
    return [
        fmean(row[place] for place in carriers) * honest
        for row, honest in zip(ballot.agree, ballot.honesty, strict=True)
    ]


def reference(ballot: Ballot) -> list[float]:
    """How close the answer is to the nearest reference; all 0 where there is none."""
    if not ballot.references:
        return [0.0] * len(ballot.samples)
    return [
        honest
        and honest
        * ballot.reader.close(sample.text, ballot.references, ballot.question, ballot.vote.kind)
        for sample, honest in zip(ballot.samples, ballot.honesty, strict=True)
    ]


def novelty(ballot: Ballot) -> list[float]:
    """How unlike the others' an answer's way to the label is, from 0 to 1 within the majority and
    0 elsewhere (EVOL-RL, arXiv 2509.15194): half by the mean similarity to the others with the
    label, half by the highest to any other sample."""
    carriers = ballot.carriers
    unlike = {}
    for place in carriers:
        row = ballot.alike[place]
        among = [row[other] for other in carriers if other != place]
        rest = [alike for other, alike in enumerate(row) if other != place]
        unlike[place] = 1 - (fmean(among or [0.0]) + max(rest, default=0.0)) / 2
    low = min(unlike.values(), default=0.0)
    spread = max(unlike.values(), default=0.0) - low
    return [
        ((unlike[place] - low) / spread if spread else 0.5) if place in unlike else 0.0
        for place in range(len(ballot.samples))
    ]


def minority_preserving(ballot: Ballot) -> list[float]:
    """1 for the label. While the question's label still changes, `MINORITY` is shared, by their
    votes, among the other answers of at least a quarter of the samples, so that a right one among
    them does not die out (TTRL-Guard, arXiv 2605.19444, whose published code this follows)."""
    worth = majority(ballot)
    if not ballot.unsettled or ballot.vote.label is None:
        return worth
    least = max(1, len(ballot.samples) // 4)
    others = {
        answer: votes
        for answer, votes in ballot.vote.counts
        if answer != ballot.vote.label and votes >= least
    }
    return [
        own or MINORITY * others.get(answer or "", 0) / max(sum(others.values()), 1)
        for own, answer in zip(worth, ballot.vote.answers, strict=True)
    ]


def judge(ballot: Ballot) -> list[float]:
    """The judge's score, from 0 to 1; where it says nothing, the mean of its other scores."""
    known = [score for score in ballot.scores if score is not None]
    usual = fmean(known) if known else 0.0
    scores = ballot.scores or (None,) * len(ballot.samples)
    return [usual if score is None else score for score in scores]


Reward = Callable[[Ballot], Sequence[float]]

REWARDS: Mapping[str, Reward] = {
    "majority": majority,
    "soft_majority": soft_majority,
    "centrality": centrality,
    "consensus": consensus,
    "reference": reference,
    "novelty": novelty,
    "readable": readable,
    "length": length,
    "overlong": overlong,
    "repetition": repetition,
    "echo": echo,
    "minority_preserving": minority_preserving,
    "judge": judge,
}


def total(ballot: Ballot, weights: Mapping[str, float]) -> tuple[float, ...]:
    """Return each sample's weighted sum of the rewards; without a label or a reference, of those
    that need none. Several rewards are first normalized, each to mean 0 and standard deviation 1
    (GDPO, arXiv 2601.05242). Raises PluginUnknown and RewardFailed."""
    if not ballot.samples:  # all were cut off
        return ()
    terms = {
        name: _worth(name, ballot)
        for name, weight in weights.items()
        if weight and (ballot.teaches or not getattr(find(name), "needs_label", True))
    }
    if len(terms) > 1:
        for name, term in terms.items():
            middle, spread = fmean(term), max(pstdev(term), LEAST_SPREAD)
            terms[name] = [(worth - middle) / spread for worth in term]
    return tuple(
        sum((weights[name] * term[place] for name, term in terms.items()), 0.0)
        for place in range(len(ballot.samples))
    )


def load(names: Iterable[str]) -> None:
    """Import rewards. Raises PluginUnknown."""
    for name in names:
        find(name)


@cache
def find(name: str) -> Reward:
    """Return the reward of that name; a custom one runs its module. Raises PluginUnknown."""
    return REWARDS.get(name) or plugins.find("reward", name, OFFERED_REWARDS)


def _worth(name: str, ballot: Ballot) -> list[float]:
    reward = find(name)
    try:
        given = reward(ballot)
    except Exception as error:  # a custom one may raise anything, and its words quote an answer
        *_, (frame, line) = traceback.walk_tb(error.__traceback__)
        where = f"{type(error).__name__} at {Path(frame.f_code.co_filename).name}:{line}"
        raise RewardFailed(f"the reward {name} raised {where}") from error
    with suppress(TypeError, ValueError):
        worth = [float(each) for each in given]
        if len(worth) == len(ballot.samples) and all(map(math.isfinite, worth)):
            return worth
    raise RewardFailed(f"the reward {name} does not return one finite number per sample")
