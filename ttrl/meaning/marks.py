"""What must not differ between two texts that say the same: numbers, names, yes and no.

Embeddings put "not before 8" beside "before 8" and "Anna paid Ben" beside "Ben paid Anna"; letters
tell them apart. What the tables of ttrl.meaning.words do not know, and who does what to whom where
neither has a name ("the cat chased the dog"), is not seen: there two meanings are taken for one.
And what only one of two texts mentions, a number or a name, makes two of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ttrl.meaning import words
from ttrl.meaning.denial import Denial, denial
from ttrl.meaning.numbers import is_measured, numbers, unit
from ttrl.meaning.tokens import Token, is_han, tokens


@dataclass(frozen=True)
class Marks:
    """What is read off one text: its numbers (with their signs and units) and its names, in order,
    what it denies, and on which sides of opposites it stands."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    denial: Denial
    sides: frozenset[tuple[int, int]]


def read(texts: Sequence[str], question: str = "") -> list[Marks]:
    """The marks of several answers to one question. A word at the beginning of a sentence is a name
    if it is written large elsewhere."""
    found = [tokens(text) for text in texts]
    known = {name for each in (*found, tokens(question)) for name in _surely_names(each)}
    return [_marks(text, each, known) for text, each in zip(texts, found, strict=True)]


def conflict(one: Marks, other: Marks, asked: Marks, *, close: bool) -> bool:
    """Whether two answers cannot mean the same. What only one of them has may be said besides if
    the question has it as well. In what order things come, and "before" for "after", tells only
    where they are `close` to each other in all else: whoever turns a sentence round turns these."""
    return (
        one.denial.contradicts(other.denial)
        or _differ(
            _as_said(one.numbers, other.numbers),
            _as_said(other.numbers, one.numbers),
            asked.numbers,
            in_order=close,
        )
        or _differ(one.names, other.names, asked.names, in_order=close)
        or (close and any((pair, 1 - side) in other.sides for pair, side in one.sides))
    )


def _as_said(numbers: Sequence[str], others: Sequence[str]) -> list[str]:
    """Without its unit where the other says the bare number: "30 days" answers like "30"."""
    return [value if (value := each.partition(" ")[0]) in others else each for each in numbers]


def _differ(
    one: Sequence[str], other: Sequence[str], asked: Sequence[str], *, in_order: bool
) -> bool:
    """Each has what the other lacks; or one has what neither the other nor the question has; or
    what both have comes in another order."""
    left, right = set(one) - set(other), set(other) - set(one)
    if (left and right) or (left | right) - set(asked):
        return True
    common = set(one) & set(other)
    return in_order and _in_order(one, common) != _in_order(other, common)


def _in_order(found: Sequence[str], among: set[str]) -> list[str]:
    return list(dict.fromkeys(each for each in found if each in among))


def _marks(text: str, found: Sequence[Token], known: set[str]) -> Marks:
    known = known - words.SCALES.keys()
    names = (t.plain for t in found if t.plain in known and not unit(t.plain))
    return Marks(tuple(numbers(found)), tuple(names), denial(text), _sides(text, found))


def _surely_names(found: Sequence[Token]) -> Iterator[str]:
    """Codes such as RX-200, and words written large inside a sentence, but for "I": in German,
    where all nouns are, only those that go on with a large letter."""
    nouns_are_large = len(words.GERMAN.intersection(token.plain for token in found)) > 1
    for token in found:
        code = any(map(str.isdigit, token.text)) and any(map(str.isalpha, token.text))
        large = token.text[0].isupper() and not token.begins and token.text != "I"
        large = large and not nouns_are_large
        inside = any(map(str.isupper, token.text[1:]))
        if (code and not is_measured(token.text)) or large or inside:
            yield token.plain


def _sides(text: str, found: Sequence[Token]) -> frozenset[tuple[int, int]]:
    """Where only one side of a pair of opposites is taken."""
    said = {token.plain for token in found}
    taken = set()
    for pair, opposites in enumerate(words.OPPOSED):
        on = [bool(side & said) or any(is_han(w) and w in text for w in side) for side in opposites]
        if on[0] != on[1]:
            taken.add((pair, on.index(True)))
    return frozenset(taken)
