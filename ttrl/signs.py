"""What a step showed of how learning goes, counted from its groups and the trainer's own numbers.

The samples of a step come from the weights that it began with, so its signs say nothing yet of the
weights that it ended with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from ttrl.answers import AnswerKind, Reader
from ttrl.rollouts import Group
from ttrl.samples import Finish


@dataclass(frozen=True)
class Signs:
    """The numbers of one step. Shares are from 0 to 1, means are over all samples that were drawn,
    None is what cannot be said."""

    step: int
    share: float
    """Mean share of the majority answer."""
    vote_entropy: float
    """Mean entropy of the votes, in nats."""
    asked_again: int
    """Questions that had a label earlier in the run, and have one again."""
    flipped: int
    """Those of them whose label is another one (the flip rate of TTRL-Guard, arXiv 2605.19444)."""
    flipped_since: int | None
    """The earliest step from which one of those had its earlier label."""
    alike: float | None
    """Share of the pairs of different questions that got the same label."""
    no_signal: float
    """Share of the questions that could teach nothing."""
    unreadable: float
    """Share of the samples without a readable answer; those that were cut off have none."""
    cut: float
    """Share of the samples that were cut off at the limit."""
    length: float
    """Mean tokens of an answer."""
    token_entropy: float | None
    """Mean entropy of the trainer's next token over the trained sequences, in nats."""
    kl: float | None
    """Estimated divergence from the run's start over trained sequences, in nats a token."""
    mismatch: float | None
    """Mean difference of the engine's and the trainer's log-probabilities, in nats a token."""
    masked: float | None
    """Share of the trained sequences (or tokens) that count for nothing because engine and trainer
    disagree about them."""


class Watch:
    """Reads the signs of one run's steps; it remembers the label that each question had last."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._labels: dict[int, tuple[_Label, int]] = {}

    def read(self, step: int, groups: Sequence[Group], numbers: Mapping[str, float]) -> Signs:
        """The signs of a step that drew `groups`, of which the trainer logged `numbers`."""
        labels = {
            group.question.id: _Label(
                group.vote.label, group.vote.kind, group.question.question.text
            )
            for group in groups
            if group.vote.label is not None
        }
        before = {key: self._labels[key] for key in labels if key in self._labels}
        flips = [at for key, (label, at) in before.items() if not self._same(label, labels[key])]
        self._labels |= {key: (label, step) for key, label in labels.items()}
        samples = [sample for group in groups for sample in group.drawn.samples]
        answers = [answer for group in groups for answer in group.vote.answers]
        return Signs(
            step=step,
            share=fmean(group.vote.share for group in groups),
            vote_entropy=fmean(group.vote.entropy for group in groups),
            asked_again=len(before),
            flipped=len(flips),
            flipped_since=min(flips, default=None),
            alike=self._alike(list(labels.values())),
            no_signal=fmean(not group.informative for group in groups),
            unreadable=fmean(answer is None for answer in answers),
            cut=fmean(sample.finish is Finish.LENGTH for sample in samples),
            length=fmean(len(sample.token_ids) for sample in samples),
            token_entropy=numbers.get("entropy"),
            kl=numbers.get("kl_to_start"),
            mismatch=numbers.get("sampling/sampling_logp_difference/mean"),
            masked=numbers.get("masked"),
        )

    def _alike(self, labels: Sequence[_Label]) -> float | None:
        """Simpson's index without its bias, so that steps of few questions can be averaged."""
        pairs = list(combinations(labels, 2))
        return fmean(self._same(*pair) for pair in pairs) if pairs else None

    def _same(self, one: _Label, other: _Label) -> bool:
        return self._reader.same(one.text, other.text, one.question, one.kind)


@dataclass(frozen=True)
class _Label:
    """A vote's label, how it was read, and the question."""

    text: str
    kind: AnswerKind
    question: str
