"""How good a version's answers are, as far as probes and its agreement with itself can say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from ttrl.estimate import Estimate, Withheld, around, estimate, withheld
from ttrl.paired import Answered


@dataclass(frozen=True)
class Asked:
    """One version's answers to one question. `drawn` says that the question may stand for the
    traffic: it was drawn from it, or the operator's labels look like it."""

    cluster: str
    answered: Answered
    drawn: bool = True
    tags: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the right answer is known."""
        return self.answered.right is not None


@dataclass(frozen=True)
class Quality:
    """Means over questions, near-duplicates together as one; shares are from 0 to 1, None is what
    cannot be said."""

    questions: int
    labelled: int
    agreement: float
    """Answers that are the majority answer."""
    consistency: float
    """Pairs of answers to one question that are the same."""
    readable: float
    refused: float
    tokens: float
    """Of an answer."""
    seconds: float
    """From asking for all answers to a question to having them."""
    pass_at_1: float | None
    right: Estimate | None
    """pass@1 with its interval."""
    pass_at_k: float | None
    majority_right: float | None
    estimate: Estimate | None
    """Right answers to the traffic."""
    speaking: int
    """Labels that may stand for the traffic."""
    withheld: Withheld | None
    """Why there is no estimate."""
    tags: dict[str, Estimate] = field(default_factory=dict)
    """Right answers to the labelled probes of each tag that has enough."""

    def numbers(self) -> dict[str, Any]:
        """As the store has it."""
        return asdict(self)


def measure(asked: Sequence[Asked]) -> Quality | None:
    """What a version's answers say together; None without any."""
    if not asked:
        return None
    labelled = [each for each in asked if each.labelled]
    drawn = _rights([each for each in labelled if each.drawn])
    shares = _of_clusters((each for each in asked if not each.labelled), _share)
    return Quality(
        questions=len(asked),
        labelled=len(labelled),
        agreement=_mean(asked, _share),
        consistency=_mean(asked, _consistency),
        readable=_mean(asked, lambda answered: answered.readable),
        refused=_mean(asked, lambda answered: answered.refused),
        tokens=_mean(asked, lambda answered: answered.tokens),
        seconds=_mean(asked, lambda answered: answered.seconds),
        pass_at_1=_mean(labelled, _right) if labelled else None,
        right=around(_rights(labelled)) if labelled else None,
        pass_at_k=_mean(labelled, lambda answered: answered.reached) if labelled else None,
        majority_right=_mean(labelled, lambda answered: answered.majority_right)
        if labelled
        else None,
        estimate=estimate(drawn, shares),
        speaking=len(drawn),
        withheld=withheld(drawn, shares),
        tags=_of_tags(labelled),
    )


def _share(answered: Answered) -> float:
    return answered.vote.share


def _right(answered: Answered) -> float:
    return answered.accuracy


def _consistency(answered: Answered) -> float:
    """The chance that two of the answers are the same; an unreadable one is like no other."""
    n = len(answered.answers)
    same = sum(count * (count - 1) for _, count in answered.vote.counts)
    return same / (n * (n - 1)) if n > 1 else 1.0


Value = Callable[[Answered], float]


def _mean(asked: Iterable[Asked], value: Value) -> float:
    return fmean(_of_clusters(asked, value))


def _of_clusters(asked: Iterable[Asked], value: Value) -> list[float]:
    """Each cluster's mean: near-duplicates are one draw from the traffic."""
    clusters: dict[str, list[float]] = {}
    for each in asked:
        clusters.setdefault(each.cluster, []).append(value(each.answered))
    return list(map(fmean, clusters.values()))


def _rights(labelled: Sequence[Asked]) -> list[tuple[float, float]]:
    rights = _of_clusters(labelled, _right)
    return list(zip(rights, _of_clusters(labelled, _share), strict=True))


def _of_tags(labelled: Sequence[Asked]) -> dict[str, Estimate]:
    """Nobody tags the traffic, so that these are of the labels alone."""
    found = {}
    for tag in sorted({tag for each in labelled for tag in each.tags}):
        made = estimate(_rights([each for each in labelled if tag in each.tags]))
        if made is not None:
            found[tag] = made
    return found
