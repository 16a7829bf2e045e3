r"""What a written answer means, as far as that can be told without a mathematics library.

Answers are taken apart (lists, tuples, intervals, sets, matrices, assignments) down to leaves:
plain numbers, which are exact fractions; words, which are only ever equal to themselves; and
expressions, which somebody who knows mathematics must compare. A form written out again means
the same form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from ttrl.answers.cleaning import FUNCTIONS, clean, unwrap_text
from ttrl.answers.quantities import day, split_unit, to_fraction


@dataclass(frozen=True)
class Number:
    """A plain number, exact, and the unit written behind it ("" if none)."""

    value: Fraction
    unit: str = ""


@dataclass(frozen=True)
class Expression:
    """LaTeX that only a mathematics library can compare, and the unit written behind it."""

    latex: str
    unit: str = ""


@dataclass(frozen=True)
class Word:
    """Words, a date, a ratio, a number in another base: compared letter by letter."""

    text: str


@dataclass(frozen=True)
class Named:
    """One of several assignments: "x = 1, y = 2"."""

    name: str
    value: Form


@dataclass(frozen=True)
class Group:
    """Several forms between two delimiters. Sets and plain lists have no order."""

    opening: str
    closing: str
    items: tuple[Form, ...]
    separator: str = ", "
    ordered: bool = True


Leaf = Number | Expression | Word
Form = Leaf | Named | Group

MAX_DEPTH = 20
"""Deeper nesting of brackets is not taken apart."""

_BRACKETS = re.compile(r"\\[{}]|[()\[\]{}]")
_OPENING = {"(", "[", "{", r"\{"}
_OR = re.compile(r"\b(?:or|oder)\b|\\(?:vee|lor)\b|或")
_SEPARATOR = re.compile(rf",|;|、|\b(?:and|und)\b|\\(?:wedge|land)\b|和|{_OR.pattern}")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|lt|gt|neq)(?![A-Za-z])|\\not(?![A-Za-z])")
_EQUALS = re.compile(r"(?<![\\<>!=])=(?!=)|\\in\b")
_UNION = re.compile(r"\\cup\b")
_NAME = re.compile(
    r"\\?[A-Za-z]+(?:_\{?\w+\}?)?'?(?:\([A-Za-z](?:, ?[A-Za-z])*\))?"
    r"|\([A-Za-z](?:, ?[A-Za-z])*\)|\\(?:angle|overline|text)\s*\{?[\w ]+\}?"
)
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix)\}(.*)\\end\{\1\}")
_VERBATIM = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"  # a date is no difference and no quotient
    r"|\d+(?: ?: ?\d+)+|\d+ ?- ?\d+"  # a ratio, a time, a range
    r"|\w+_\{?\w+\}?"  # a number in another base, an indexed name
    r"|.*\d ?min \d.*"  # a time, and no smallest of two
    r"|.*\d/\d+(?:[A-Za-z(]|\\(?:pi|sqrt|ln|log|sin|cos|tan)).*"  # 1/2x: who knows which
    r"|.*(?<![_^\d])\d+ \d.*|.*'.*"  # numbers side by side are no product, primes no decoration
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_LETTERS = re.compile(r"(?<![\^_A-Za-z])[A-Za-z]+")
_LETTERS_THEN_DIGIT = re.compile(rf"{_LETTERS.pattern}\s*\d")
_HALF_OF = re.compile(r"(\d+)/(\d+) (?=[A-Za-z\\])")
_QUOTED = re.compile("[\"'“‘„«](.+)[\"'”’“»]")
_COMMAND = re.compile(r"\\[A-Za-z]+")


def form(text: str) -> Form | None:
    """The meaning of one answer as written; None where nothing is left of it."""
    cleaned = clean(text)
    if not any(map(str.isalnum, unwrap_text(cleaned))):
        return None
    steps = (1 if bracket in _OPENING else -1 for bracket in _BRACKETS.findall(cleaned))
    depth = max(accumulate(steps), default=0)
    return _form(cleaned) if depth <= MAX_DEPTH else Word(cleaned)


def leaves(part: Form) -> Iterator[Leaf]:
    match part:
        case Group():
            for item in part.items:
                yield from leaves(item)
        case Named():
            yield from leaves(part.value)
        case _:
            yield part


def write(part: Form, names: Mapping[Leaf, str]) -> str:
    """The form as text, each leaf by its name in `names`: equal texts, equal forms."""
    match part:
        case Named():
            return f"{part.name} = {write(part.value, names)}"
        case Group(items=items):
            texts = [write(item, names) for item in items]
            if not part.ordered:
                texts = sorted(set(texts))
            if not part.ordered and part.opening == r"\{" and len(texts) == 1:
                return texts[0]
            return part.opening + part.separator.join(texts) + part.closing
        case _:
            return names[part]


def is_number(text: str) -> bool:
    return isinstance(form(text), Number)


def is_prose(text: str) -> bool:
    words = _WORD.findall(text)
    return len(words) > 3 and not any(map(str.isdigit, text)) and "\\" not in text


def _form(text: str) -> Form:
    text = text.strip()
    if date := day(text):
        return Word(date)
    if number := _number(text):
        return number
    pieces = _split(text, _UNION)
    if len(pieces) > 1:
        return Group("", "", tuple(map(_form, pieces)), r" \cup ", ordered=False)
    structured = _matrix(text) or _bracketed(text)
    if structured:
        return structured
    items = _items(text)  # a bare list: "x = 1 or x = 2", "x = 1, y = 2"
    return _set(text) if len(items) > 1 else _leaf(_assignment(items[0] if items else text)[1])


def _number(text: str) -> Number | None:
    body, unit = split_unit(text)
    value = to_fraction(body)
    return None if value is None else Number(value, unit)


def _matrix(text: str) -> Form | None:
    matrix = _MATRIX.fullmatch(text)
    if matrix is None:
        return None
    rows = [
        Group("", "", tuple(_form(cell) for cell in row.split("&")), " & ")
        for row in re.split(r"\\\\", matrix[2])
        if row.strip()
    ]
    return Group(r"\begin{pmatrix} ", r" \end{pmatrix}", tuple(rows), r" \\ ")


def _bracketed(text: str) -> Form | None:
    """A tuple, an interval or a set; a single value loses round and curly brackets."""
    spans = _spans_all(text)
    if spans is None:
        return None
    opening, closing = spans
    inner = text[len(opening) : -len(closing)]
    if opening in ("{", r"\{"):
        return _set(inner) if closing.endswith("}") and _items(inner) else None
    items = _split(inner, _SEPARATOR)
    if len(items) == 1 and opening + closing in ("()", "[]"):
        return _form(inner)
    if len(items) < 2 or not all(item.strip() for item in items):
        return None
    return Group(opening, closing, tuple(map(_item, items)))


def _items(text: str) -> list[str]:
    r"""The items of a list, where one with a \pm is two."""
    texts = []
    for item in map(str.strip, _split(text, _SEPARATOR)):
        if r"\pm" in item:
            texts.append(item.replace(r"\pm", "+").replace(r"\mp", "-").removeprefix("+"))
            texts.append(item.replace(r"\pm", "-").replace(r"\mp", "+"))
        else:
            texts.append(item)
    return [item for item in texts if any(map(str.isalnum, item))]


def _set(text: str) -> Group:
    """Values are the same whether "and" or "or" is between them; conditions and words are not."""
    texts = _items(text)
    names = [_assignment(item)[0] for item in texts]
    named = len(set(filter(None, names))) > 1
    items = tuple(
        Named(name, _item(item)) if named and name else _item(item)
        for name, item in zip(names, texts, strict=True)
    )
    either = len(_split(text, _OR)) > 1 and any(
        isinstance(item, Word) or _RELATION.search(said)
        for item, said in zip(items, texts, strict=True)
    )
    return Group(r"\{", r"\}", items, r" \lor " if either else ", ", ordered=False)


def _item(text: str) -> Form:
    """A form inside a list: it holds no further bare list."""
    value = _assignment(text)[1].strip()
    return _number(value) or _matrix(value) or _bracketed(value) or _leaf(value)


def _assignment(text: str) -> tuple[str, str]:
    """The name that is assigned to ("" if none) and the value: "x = 2 + 3 = 5" is ("x", "5")."""
    sides = [side.strip() for side in _split(text, _EQUALS)]
    if len(sides) < 2 or not all(sides):
        return "", text
    if _NAME.fullmatch(sides[0]):
        return sides[0], sides[-1]
    if len(sides) == 2 and _NAME.fullmatch(sides[1]):
        return sides[1], sides[0]
    letterless = not re.search(r"[^\W\d_]", _COMMAND.sub("", sides[0]))
    return "", sides[-1] if letterless else text


def _leaf(text: str) -> Form:
    text = text.strip()
    again = _number(text) or (_bracketed(text) if text.startswith(tuple(_OPENING)) else None)
    if again:
        return again
    if len(_split(text, _UNION)) > 1 or _MATRIX.fullmatch(text):
        return _form(text)
    body, unit = split_unit(text)
    if _is_words(body):
        return Word(words(text))
    body = _HALF_OF.sub(r"\\frac{\1}{\2}", body)
    return Expression(re.sub(r"(?<!\w)\s+|\s+(?!\w)", "", body), unit)


def _is_words(text: str) -> bool:
    """Words are never given to a mathematics library, which takes them for products of letters
    and calls anagrams equal."""
    if _VERBATIM.fullmatch(text) or r"\text" in text:
        return True
    bare = _LETTERS.sub(
        lambda letters: "+" if letters[0].lower() in FUNCTIONS else letters[0],
        _COMMAND.sub("+", text),
    )
    if bare.replace(" ", "").isalpha():
        return len(bare) > 1 or bare.isupper()
    # "1 in 6", "3 h 20 min", "17 R 3": no mathematician writes a factor so.
    return bool(_WORD.search(bare) or _LETTERS_THEN_DIGIT.search(bare))


def words(text: str) -> str:
    """The letters of a text that count when texts are compared; one letter keeps its case."""
    text = " ".join(unwrap_text(text).split()).strip(" .,;:!?*`_")
    quoted = _QUOTED.fullmatch(text)
    text = quoted[1] if quoted else text
    return text if len(text) == 1 else text.casefold()


def _split(text: str, separator: re.Pattern[str]) -> list[str]:
    """The parts of `text` between separators outside all brackets."""
    depth, last, parts = 0, 0, []
    tokens = re.compile(f"(?P<bracket>{_BRACKETS.pattern})|{separator.pattern}")
    for token in tokens.finditer(text):
        if token["bracket"]:
            depth += 1 if token[0] in _OPENING else -1
        elif depth == 0:
            parts.append(text[last : token.start()])
            last = token.end()
    return [*parts, text[last:]]


def _spans_all(text: str) -> tuple[str, str] | None:
    """The delimiters, if the first bracket closes with the last character. A half-open interval
    closes with another shape than it opens with."""
    depth = 0
    first = _BRACKETS.match(text)
    if first is None or first[0] not in _OPENING:
        return None
    for token in _BRACKETS.finditer(text):
        depth += 1 if token[0] in _OPENING else -1
        if depth == 0:
            return (first[0], token[0]) if token.end() == len(text) else None
    return None
