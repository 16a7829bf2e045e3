"""Which questions say the same in almost the same words.

What is compared is letters: questions that mean the same in other words are not recognised. What a
large part of the questions has in common, such as an application's template or the worked examples
in front of each, says nothing and is left out. Where it errs it takes two questions for alike,
which costs a question, never a probe.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

ALIKE = 0.8
"""Share of the words of both that both have, from which on two texts with the same numbers are
alike. In a sentence of nine words one may differ."""
SHINGLE = round(2 * ALIKE / (1 - ALIKE))
"""Words in a row: with fewer in common, two texts that have a word each of their own are not alike,
so that shorter common parts do no harm."""
COMMON, LEAST_COMMON = 0.1, 8
"""Share of the different texts at hand, and their number at least, that have a common part in them:
of a few texts nothing is known to be common."""
TELLING = 4
"""Words and numbers of a text that says something by itself, and is more than a greeting."""
LOOKED_AT = 512
"""Texts, drawn at random, in which common parts are looked for."""

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
        """The fingerprint: the same for texts with the same gist, in hexadecimal."""
        parts = "\0".join((*sorted(self.words), "", *self.numbers))
        return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def telling(self) -> bool:
        """Whether there is enough of it to say something by itself."""
        return len(self.words) + len(self.numbers) >= TELLING

    def alike(self, other: Gist) -> bool:
        if self.numbers != other.numbers:
            return False
        return len(self.words & other.words) >= ALIKE * len(self.words | other.words)


def gist(text: str) -> Gist:
    return _gist(_tokens(text))


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()))


def _gist(tokens: Sequence[str]) -> Gist:
    numbers = tuple(token for token in tokens if token[0].isdigit())
    return Gist(frozenset(tokens) - frozenset(numbers), numbers)


@dataclass(frozen=True)
class Told:
    """What a text says as a whole, and what of it is its own (None: too little to compare)."""

    whole: Gist
    own: Gist | None

    def alike(self, other: Told) -> bool:
        if self.own is None or other.own is None:
            return self.whole.alike(other.whole)
        return self.own.alike(other.own)


class Common:
    """What many of the texts at hand have in common, word by word: an application's template. As
    common shingles are left out where documents of the web are compared (Broder, Glassman, Manasse
    and Zweig, "Syntactic clustering of the web", 1997). Where hardly anything else is left, many
    ask the same in other words, and the whole is compared."""

    def __init__(self, texts: Iterable[str]) -> None:
        distinct = sorted(set(map(_tokens, texts)))
        if len(distinct) > LOOKED_AT:
            distinct = random.Random(0).sample(distinct, LOOKED_AT)
        counts = Counter(each for tokens in distinct for each in set(_shingles(tokens)))
        least = max(LEAST_COMMON, COMMON * len(distinct))
        self._shingles = {shingle for shingle, count in counts.items() if count >= least}

    def read(self, text: str) -> Told:
        tokens = _tokens(text)
        whole = _gist(tokens)
        common = {
            place
            for start, shingle in enumerate(_shingles(tokens))
            if shingle in self._shingles
            for place in range(start, start + SHINGLE)
        }
        if not common:
            return Told(whole, whole)
        own = _gist([token for place, token in enumerate(tokens) if place not in common])
        return Told(whole, own if own.telling else None)


def _shingles(tokens: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    return (tokens[start : start + SHINGLE] for start in range(len(tokens) - SHINGLE + 1))


class Known:
    """Texts that others are not to be like; `others` are further ones by which to know what is
    common."""

    def __init__(self, texts: Iterable[str], others: Iterable[str] = ()) -> None:
        distinct = set(texts)
        self._common = Common(distinct.union(others))
        told = [self._common.read(text) for text in distinct]
        self._owns = _Near(each.own for each in told if each.own is not None)
        self._short = _Near(each.whole for each in told if each.own is None)
        self._wholes = _Near(each.whole for each in told)

    def like(self, text: str) -> bool:
        asked = self._common.read(text)
        if asked.own is None:
            return self._wholes.like(asked.whole)
        return self._owns.like(asked.own) or self._short.like(asked.whole)


class _Near:
    """Finds gists that are alike.

    Of two sets of words that are alike, the rarest words of each hold one in common, if as many are
    taken as may differ and one more (prefix filtering: Bayardo, Ma and Srikant, "Scaling up all
    pairs similarity search", 2007): a gist is compared only with those that it shares one with.
    """

    def __init__(self, gists: Iterable[Gist]) -> None:
        distinct = set(gists)
        self._known = Counter(word for each in distinct for word in each.words)
        self._found: dict[tuple[str, tuple[str, ...]], list[Gist]] = {}
        for each in distinct:
            for word in self._rarest(each):
                self._found.setdefault((word, each.numbers), []).append(each)

    def like(self, asked: Gist) -> bool:
        near = (self._found.get((word, asked.numbers), ()) for word in self._rarest(asked))
        return any(asked.alike(each) for some in near for each in some)

    def _rarest(self, each: Gist) -> list[str]:
        """Without words, an empty one stands for them."""
        count = len(each.words) - math.ceil(ALIKE * len(each.words)) + 1
        rarest = sorted(each.words, key=lambda word: (self._known[word], word))[:count]
        return rarest or [""]
