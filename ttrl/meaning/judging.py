"""Clusters by a judge that reads two texts at a time and says whether one follows from the other.

Two answers mean the same where each follows from the other, and a new answer is compared with one
of each known cluster (Kuhn, Gal and Farquhar, "Semantic uncertainty", arXiv 2302.09664; Farquhar et
al., Nature 630, 2024).
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ttrl.meaning.differences import Matrix

REMEMBERED = 100_000
"""Pairs of which the verdict is kept: the answers to a question are compared more than once."""

Pair = tuple[str, str]

log = logging.getLogger(__name__)


class Judge(ABC):
    """Shared by the threads that take votes. `most` is how many pairs of one vote it is asked
    about. `asked` counts the questions put to it so far, two to a pair that means the same;
    `pairs` and `undecided` the pairs, and those that were left to the letters in common: beyond
    `most`, or without a clear answer."""

    words: str
    """What it goes by, for people."""

    def __init__(self, most: int) -> None:
        self.asked = self.pairs = self.undecided = 0
        self._most = most
        self._known: dict[int, bool] = {}
        self._counting = threading.Lock()

    def remark(self) -> str:
        """What it could not tell, if there was such a pair."""
        if not self.undecided:
            return ""
        return f"{self.undecided} of {self.pairs} pairs of answers were compared by letters alone"

    @abstractmethod
    def follows(self, question: str, pairs: Sequence[Pair]) -> Sequence[bool | None]:
        """Whether the second text of each pair follows from the first, as answers to the question;
        None where that cannot be told."""

    def same(self, question: str, pairs: Sequence[Pair]) -> list[bool | None]:
        """Whether both texts of each pair say the same; None where that cannot be told."""
        keys = [hash((question, *sorted(pair))) for pair in pairs]
        found = {key: self._known.get(key) for key in keys}
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if found[key] is None}
        found |= dict(zip(new, self.follows(question, list(new.values())), strict=True))
        agreed = {key: (other, one) for key, (one, other) in new.items() if found[key]}
        found |= dict(zip(agreed, self.follows(question, list(agreed.values())), strict=True))
        if len(self._known) > REMEMBERED:
            self._known = {}
        self._known |= {key: said for key, said in found.items() if said is not None}
        with self._counting:
            self.asked += len(new) + len(agreed)
        return [found[key] for key in keys]

    def cluster(
        self,
        question: str,
        texts: Sequence[str],
        apart: Callable[[int, int], bool],
        alike: Callable[[], Matrix],
    ) -> list[int]:
        """For each text the number of its cluster. The first text without a cluster is compared
        with all others that have none, which makes at most texts times clusters pairs, and so on
        with what is left. It is not asked about texts that are `apart`; pairs that it leaves
        undecided are the same where they are `alike` at all."""
        numbers: dict[int, int] = {}
        compared = undecided = 0
        otherwise: Matrix = []
        left = list(range(len(texts)))
        while left:
            head, *rest = left
            rest = [each for each in rest if not apart(head, each)]
            asked = rest[: max(self._most - compared, 0)]
            said = self.same(question, [(texts[head], texts[each]) for each in asked])
            verdicts = dict(zip(asked, said, strict=True))
            if undecided_here := [each for each in rest if verdicts.get(each) is None]:
                otherwise = otherwise or alike()
                verdicts |= {each: otherwise[head][each] > 0 for each in undecided_here}
            members = [head]
            for each in rest:
                if verdicts[each] and not any(apart(member, each) for member in members):
                    members.append(each)
            numbers |= dict.fromkeys(members, len(set(numbers.values())))
            left = [each for each in left if each not in numbers]
            compared += len(rest)
            undecided += len(undecided_here)
        with self._counting:
            self.pairs += compared
            self.undecided += undecided
        if undecided:
            log.info(
                "%d of %d pairs of answers were compared by letters and not by the judge "
                "(%d of %d so far)", undecided, compared, self.undecided, self.pairs,
            )  # fmt: skip
        return [numbers[each] for each in range(len(texts))]
