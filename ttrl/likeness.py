"""Which questions say the same in almost the same words.

What is compared is letters: questions that mean the same in other words are not recognised. Where
it errs it takes two questions for alike, which costs a question, never a probe.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

ALIKE = 0.8
"""Share of the words of both that both have, from which on two texts with the same numbers are
alike. In a sentence of nine words one may differ."""

TOKEN = re.compile(
    r"\d+(?:[.,]\d+)*"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0eff]"  # written without spaces
    r"|[^\W\d_]+"
    r"|[-+*/=<>^%×÷−]"
)


@dataclass(frozen=True)
class Gist:
    """What is left of a text without case, order of words, and punctuation: its words, the signs of
    arithmetic among them, and its numbers in order."""

    words: frozenset[str]
    numbers: tuple[str, ...]

    @cached_property
    def key(self) -> str:
        """The same for texts with the same gist, in hexadecimal."""
        told = "\0".join((*sorted(self.words), "", *self.numbers))
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def alike(self, other: Gist) -> bool:
        """Whether both have the same numbers and nearly the same words."""
        if self.numbers != other.numbers:
            return False
        every = len(self.words | other.words)
        return len(self.words & other.words) >= ALIKE * every


def gist(text: str) -> Gist:
    """What a text says, for comparing."""
    tokens = TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())
    numbers = tuple(token for token in tokens if token[0].isdigit())
    return Gist(frozenset(tokens) - frozenset(numbers), numbers)


class Guarded:
    """Texts that others are not to be like.

    Of two sets of words that are alike, the rarest words of each hold one in common, if as many are
    taken as may differ and one more (prefix filtering: Bayardo, Ma and Srikant, "Scaling up all
    pairs similarity search", 2007): a text is compared only with those that it shares one with.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        gists = set(map(gist, texts))
        self._known = Counter(word for each in gists for word in each.words)
        self._found: dict[tuple[str, tuple[str, ...]], list[Gist]] = {}
        for each in gists:
            for word in self._rarest(each):
                self._found.setdefault((word, each.numbers), []).append(each)

    def like(self, text: str) -> bool:
        """Whether any of them is like this one."""
        asked = gist(text)
        near = (self._found.get((word, asked.numbers), ()) for word in self._rarest(asked))
        return any(asked.alike(each) for some in near for each in some)

    def _rarest(self, each: Gist) -> list[str]:
        """Without words, an empty one stands for them."""
        count = len(each.words) - math.ceil(ALIKE * len(each.words)) + 1
        rarest = sorted(each.words, key=lambda word: (self._known[word], word))[:count]
        return rarest or [""]
