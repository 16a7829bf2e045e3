"""What a step showed of how learning goes, by its groups and the trainer's numbers. The numbers are
of the weights that the step began with, which drew its samples as well unless they are stale.
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
"""Certainty of a label's lead at which its vote is decided, as in `vote.sure`."""
REMEMBERED = 16
"""The run's most frequent labels that one of free text is compared with, which may take a model."""


@dataclass(frozen=True)
class Visit:
    """A question's vote in a step, and the one before it in the same run; numbers only, no text."""

    step: int
    label: int | None
    """The number of its label among all labels of the run; None without one."""
    sure: bool
    """Whether the vote was decided."""
    share: float
    """Share of the most common answer."""
    unreadable: float
    """Share of its samples that were unreadable or cut off."""
    length: float | None
    """Mean tokens of the samples that were not cut off; None if all were."""
    first_unreadable: float | None = None
    """When the question was first asked in this run; None then."""
    first_length: float | None = None
    last_step: int | None = None
    """When it last had a label in this run; None the first time."""
    last_label: int | None = None
    last_share: float | None = None
    changed: bool | None = None
    """Whether its label changed; None unless both votes were decided."""

    @property
    def new(self) -> bool:
        """Whether the question was not asked before in this run."""
        return self.first_unreadable is None


EFFECTIVE = ("effective_tokens", "effective_sequences")
"""As the trainer logs them."""


@dataclass(frozen=True)
class Signs:
    """The numbers of one step, over all samples that were drawn; shares are from 0 to 1."""

    step: int
    share: float
    """Mean share of the most common answer."""
    vote_entropy: float
    """Mean entropy of the votes, in nats."""
    asked_again: int
    """Questions that have a label and had one earlier in the run."""
    flipped: int
    """Those of them whose label changed (the flip rate of TTRL-Guard, arXiv 2605.19444)."""
    alike: float | None
    """Share of the pairs of different questions that got the same label."""
    no_signal: float
    """Share of the questions without a training signal."""
    unreadable: float
    """Share of the samples that were unreadable or cut off."""
    cut: float
    length: float
    """Mean tokens of an answer."""
    token_entropy: float | None
    """Mean entropy of the trainer's next token, in nats; this and the next are of what is trained
    on."""
    kl: float | None
    """Divergence from the run's start, in nats per token."""
    mismatch: float | None
    """Mean difference of the engine's and the trainer's log-probabilities under the weights that
    drew the samples, in nats per token."""
    effective: float | None
    """Effective sample size of the weights that make up for that difference, and for staleness, as
    a share; over tokens or over sequences, whichever is less (ttrl.training.grpo.effective)."""
    staleness: int = 0
    """Optimizer steps between the weights that drew its samples and those that it began with."""
    visits: tuple[Visit, ...] = ()
    """Its questions, each once."""


class Watch:
    """Reads the signs of one run's steps."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._first: dict[int, Visit] = {}
        self._last: dict[int, Visit] = {}
        """Of each question, the last one with a label."""
        self._labels: list[tuple[str, str]] = []
        """The first label of each number, and its question."""
        self._numbers: dict[str, int] = {}
        self._met: Counter[int] = Counter()

    def read(
        self,
        step: int,
        groups: Sequence[Group],
        numbers: Mapping[str, float],
        staleness: int = 0,
    ) -> Signs:
        """Return the signs of a step that drew `groups` and logged `numbers`."""
        newest = {group.question.id: group for group in groups}
        visits = tuple(self._visit(step, group) for group in newest.values())
        again = [each for each in visits if each.label is not None and each.last_label is not None]
        samples = [sample for group in groups for sample in group.drawn.samples]
        pairs = list(combinations([each.label for each in visits if each.label is not None], 2))
        return Signs(
            step=step,
            share=fmean(group.vote.share for group in groups),
            vote_entropy=fmean(group.vote.entropy for group in groups),
            asked_again=len(again),
            flipped=sum(each.label != each.last_label for each in again),
            # Simpson's index without its bias, so that steps of few questions can be averaged
            alike=fmean(one == other for one, other in pairs) if pairs else None,
            no_signal=fmean(not group.informative for group in groups),
            unreadable=1 - sum(map(_readable, groups)) / len(samples),
            cut=fmean(sample.finish is Finish.LENGTH for sample in samples),
            length=fmean(len(sample.token_ids) for sample in samples),
            token_entropy=numbers.get("entropy"),
            kl=numbers.get("kl_to_start"),
            mismatch=numbers.get("mismatch"),
            effective=min((numbers[name] for name in EFFECTIVE if name in numbers), default=None),
            staleness=staleness,
            visits=visits,
        )

    def _visit(self, step: int, group: Group) -> Visit:
        vote, samples, key = group.vote, group.drawn.samples, group.question.id
        first, before = self._first.get(key), self._last.get(key)
        label = None
        if vote.label is not None:
            text, own = group.question.question.text, before.label if before else None
            label = self._number(vote.label, vote.kind, text, own)
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

    def _number(self, label: str, kind: AnswerKind, question: str, own: int | None) -> int:
        """Return the label's number, the same for all that mean the same; `own` is that of the
        same question's last label."""
        found = self._numbers.get(label)
        if found is None and kind is AnswerKind.FREE:
            frequent = [number for number, _ in self._met.most_common(REMEMBERED)]
            for number in dict.fromkeys(frequent if own is None else [own, *frequent]):
                first, asked = self._labels[number]
                if self._reader.matches(first, [label], asked, kind):
                    found = number
                    break
        if found is None:
            found = len(self._labels)
            self._labels.append((label, question))
        self._numbers[label] = found
        self._met[found] += 1
        return found


def _readable(group: Group) -> int:
    return sum(answer is not None for answer in group.vote.answers)
