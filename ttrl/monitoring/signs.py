"""What a step showed of how learning goes, counted from its groups and the trainer's own numbers.

The samples of a step come from the weights that it began with, so its signs say nothing yet of the
weights that it ended with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from ttrl.answers import AnswerKind, Reader
from ttrl.engine.samples import Finish
from ttrl.sampling.groups import Group
from ttrl.votes import decided

SURE = 0.95
"""A vote is decided when its label would so surely lead again (the threshold of
Adaptive-Consistency, arXiv 2305.11860, as in `vote.sure`)."""
REMEMBERED = 16
"""Labels of free text are compared with the most frequent ones of the run, and with no more: each
comparison may take a model."""


@dataclass(frozen=True)
class Visit:
    """What one question's vote showed in a step, and how it compares with the vote before it in
    the same run. Numbers only: no text of a user or a model is in it."""

    step: int
    label: int | None
    """The number of its label among all labels of the run; None without one."""
    sure: bool
    """Whether the vote was decided: asked the same again, it would hardly have another label."""
    share: float
    """Share of the most common answer."""
    unreadable: float
    """Share of its samples without a readable answer; those that were cut off have none."""
    length: float | None
    """Mean tokens of the samples that were not cut off; None where all were."""
    first_unreadable: float | None = None
    """What it was when the question was first asked in this run; None then."""
    first_length: float | None = None
    last_step: int | None = None
    """When it had a label before in this run; None the first time."""
    last_label: int | None = None
    last_share: float | None = None
    changed: bool | None = None
    """Whether its label is another one than before; None unless both votes were decided."""

    @property
    def new(self) -> bool:
        """Whether the question was not asked before in this run. Those that are asked again are not
        like the others: what all samples agreed on is left out."""
        return self.first_unreadable is None


EFFECTIVE = ("effective_tokens", "effective_sequences")
"""As the trainer logs them."""


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
    """Those of them whose label is another one (the flip rate of TTRL-Guard, arXiv 2605.19444),
    whether or not asking the same weights twice would have changed it."""
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
    effective: float | None
    """Effective sample size of the weights that make up for that difference, as a share of what is
    trained on; over tokens or over sequences, whichever is less (ttrl.training.grpo.effective)."""
    visits: tuple[Visit, ...] = ()
    """Its questions one by one, each once."""


class Watch:
    """Reads the signs of one run's steps; it remembers each question's first vote, and its last one
    with a label."""

    def __init__(self, reader: Reader) -> None:
        self._first: dict[int, Visit] = {}
        self._last: dict[int, Visit] = {}
        self._labels = _Labels(reader)

    def read(self, step: int, groups: Sequence[Group], numbers: Mapping[str, float]) -> Signs:
        """The signs of a step that drew `groups`, of which the trainer logged `numbers`."""
        newest = {group.question.id: group for group in groups}
        visits = tuple(self._visit(step, group) for group in newest.values())
        again = [each for each in visits if each.label is not None and each.last_label is not None]
        samples = [sample for group in groups for sample in group.drawn.samples]
        return Signs(
            step=step,
            share=fmean(group.vote.share for group in groups),
            vote_entropy=fmean(group.vote.entropy for group in groups),
            asked_again=len(again),
            flipped=sum(each.label != each.last_label for each in again),
            alike=_alike([each.label for each in visits if each.label is not None]),
            no_signal=fmean(not group.informative for group in groups),
            unreadable=1 - sum(map(_readable, groups)) / len(samples),
            cut=fmean(sample.finish is Finish.LENGTH for sample in samples),
            length=fmean(len(sample.token_ids) for sample in samples),
            token_entropy=numbers.get("entropy"),
            kl=numbers.get("kl_to_start"),
            mismatch=numbers.get("sampling/sampling_logp_difference/mean"),
            effective=min((numbers[name] for name in EFFECTIVE if name in numbers), default=None),
            visits=visits,
        )

    def _visit(self, step: int, group: Group) -> Visit:
        vote, samples, key = group.vote, group.drawn.samples, group.question.id
        first, before = self._first.get(key), self._last.get(key)
        label = None
        if vote.label is not None:
            text = group.question.question.text
            own = before.label if before else None
            label = self._labels.number(vote.label, vote.kind, text, own)
        sure = label is not None and decided([votes for _, votes in vote.counts], SURE)
        ended = [len(each.token_ids) for each in samples if each.finish is not Finish.LENGTH]
        visit = Visit(
            step=step,
            label=label,
            sure=sure,
            share=vote.share,
            unreadable=1 - _readable(group) / len(samples),
            length=fmean(ended) if ended else None,
            first_unreadable=first.unreadable if first else None,
            first_length=first.length if first else None,
            last_step=before.step if before else None,
            last_label=before.label if before else None,
            last_share=before.share if before else None,
            changed=label != before.label if before and sure and before.sure else None,
        )
        self._first.setdefault(key, visit)
        if label is not None:
            self._last[key] = visit
        return visit


class _Labels:
    """Numbers the labels of a run in the order in which they come, those that mean the same
    alike."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._written: dict[str, int] = {}
        self._first: list[tuple[str, str]] = []
        """The first label of each number, and its question."""
        self._met: Counter[int] = Counter()

    def number(self, label: str, kind: AnswerKind, question: str, own: int | None) -> int:
        """Return the label's number; `own` is that of the same question's last label."""
        found = self._written.get(label)
        if found is None and kind is AnswerKind.FREE:
            frequent = [number for number, _ in self._met.most_common(REMEMBERED)]
            for number in dict.fromkeys(frequent if own is None else [own, *frequent]):
                first, asked = self._first[number]
                if self._reader.same(first, label, asked, kind):
                    found = number
                    break
        if found is None:
            found = len(self._first)
            self._first.append((label, question))
        self._written[label] = found
        self._met[found] += 1
        return found


def _readable(group: Group) -> int:
    return sum(votes for _, votes in group.vote.counts)


def _alike(labels: Sequence[int]) -> float | None:
    """Simpson's index without its bias, so that steps of few questions can be averaged."""
    pairs = list(combinations(labels, 2))
    return fmean(one == other for one, other in pairs) if pairs else None
