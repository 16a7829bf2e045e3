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
from functools import lru_cache
from itertools import accumulate

from ttrl.answers.dates import day, time_of_day
from ttrl.answers.markup import clean, unwrap_text
from ttrl.answers.quantities import FUNCTIONS, Number, quantity, split_unit
from ttrl.answers.units import measure


@dataclass(frozen=True)
class Expression:
    """LaTeX that only a mathematics library can compare, and the unit written behind it."""

    latex: str
    unit: str = ""


@dataclass(frozen=True)
class Word:
    """Words, a date, a ratio, a number in another base: compared letter by letter. `other` is what
    it may mean as well ("3:30" is half past three, by night or by day), and `seconds` how long
    "2h30" is, if it is no time of day."""

    text: str
    other: str = ""
    seconds: int = 0


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

MAX_CHARS = 500
MAX_DEPTH = 20
"""Deeper nesting of brackets is not taken apart."""

_BRACKETS = re.compile(r"\\[{}]|[()\[\]{}]")
_OPENING = {"(", "[", "{", r"\{"}
_OR = re.compile(r"\b(?:or|oder)\b|\\(?:vee|lor)\b|或")
_SEPARATOR = re.compile(
    rf",(?!(?<=\d,)(?:\d{{2}},)*\d{{3}}(?!\d))|;|、|\b(?:and|und)\b|\\(?:wedge|land)\b|和|{_OR.pattern}"
)
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|lt|gt|neq)(?![A-Za-z])|\\not(?![A-Za-z])")
_EQUALS = re.compile(r"(?<![\\<>!=])=(?!=)|\\in\b")
_BELOW_ALL, _ABOVE_ALL = Expression(r"-\infty"), Expression(r"\infty")
_OPERATORS = re.compile(r"\\(?:cup|cap|cdot|times|boxed)(?![A-Za-z])")
_UNION = re.compile(r"\\cup\b")
_NAME = re.compile(
    r"\\?[A-Za-z]+(?:_\{?\w+\}?)?'?(?:\([A-Za-z](?:, ?[A-Za-z])*\))?"
    r"|\([A-Za-z](?:, ?[A-Za-z])*\)|\\(?:angle|overline|text)\s*\{?[\w ]+\}?"
)
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix)\}(.*)\\end\{\1\}")
_LOGIC = re.compile(r"\\(?:land|lor)\b")
_SAYS = re.compile(rf"{_EQUALS.pattern}|{_RELATION.pattern}")
_BASED = re.compile(r"\(?(\d+)\)?_\{?\(?(2|8|10|16)\)?\}?|0b([01]+)")
_VERBATIM = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}"  # a date is no difference and no quotient
    r"|\d+(?: ?: ?\d+)+|\d+ ?- ?\d+"  # a ratio, a time, a range
    r"|\w+_\{?\w+\}?"  # a number in another base, an indexed name
    r"|.*\d ?\[.*"  # a citation, and no mixed number
    r"|.*\d ?min \d.*"  # a time, and no smallest of two
    r"|.*\d/\d+(?:[A-Za-z(]|\\(?:pi|sqrt|ln|log|sin|cos|tan)).*"  # 1/2x: who knows which
    r"|.*(?<![_^\d])\d+ \d.*|.*'.*"  # numbers side by side are no product, primes no decoration
)
_ORDER = re.compile(r"[<>]|\\(?:le|ge|lt|gt)(?![A-Za-z])")
_VARIABLE = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.(\[{])(\d+),(\d{1,2}|\d{4,})(?![\d,.)\]}])")
_WORD = re.compile(r"[^\W\d_]{3,}")
_LETTERS = re.compile(r"(?<![\^_A-Za-z])[A-Za-z]+")
_LETTERS_THEN_DIGIT = re.compile(rf"{_LETTERS.pattern}\s*\d")
_OTHER_SCRIPT = re.compile(r"[^\W\d_A-Za-z\u0370-\u03ff]{2}")
_HALF_OF = re.compile(r"(\d+)/(\d+) (?=[A-Za-z\\])")
_QUOTED = re.compile("[\"'“‘„«](.+)[\"'”’“»]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_INDEX = re.compile(r"(?<=[A-Za-z)}])_(\{)?(\d{1,3})(?(1)\})")  # H_2O is H2O


@lru_cache(maxsize=4096)
def form(text: str, *, comma: bool = False) -> Form | None:
    """The meaning of one answer as written; None where nothing is left of it. With `comma`, a
    single comma between digits is that of decimals. Longer texts are words."""
    if len(text) > MAX_CHARS:
        return Word(text)
    cleaned = clean(text)
    if not any(map(str.isalnum, _OPERATORS.sub("", unwrap_text(cleaned)))):
        return None
    steps = (1 if bracket in _OPENING else -1 for bracket in _BRACKETS.findall(cleaned))
    depth = max(accumulate(steps), default=0)
    if comma:
        cleaned = _DECIMAL_COMMA.sub(r"\1.\2", cleaned)
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


def write(part: Form, names: Mapping[Leaf, str], *, ordered: bool = False) -> str:
    """The form as text, each leaf by its name in `names`: equal texts, equal forms. With `ordered`,
    the order of a list counts."""
    match part:
        case Named():
            sign = r"\in" if isinstance(part.value, Group) else "="
            return f"{part.name} {sign} {write(part.value, names, ordered=ordered)}"
        case Group(items=items):
            texts = [write(item, names, ordered=ordered) for item in items]
            if not part.ordered and not ordered:
                texts = sorted(texts)
            if not part.ordered and part.opening == r"\{" and len(texts) == 1:
                return texts[0]
            return part.opening + part.separator.join(texts) + part.closing
        case _:
            return names[part]


def _form(text: str) -> Form:
    text = text.strip()
    if moment := _moment(text):
        return moment
    if number := quantity(text):
        return number
    if member := _member(text):
        return member
    pieces = _split(text, _UNION)
    if len(pieces) > 1:
        return Group("", "", tuple(map(_form, pieces)), r" \cup ", ordered=False)
    structured = _matrix(text) or _bracketed(text) or _range(text)
    if structured:
        return structured
    items = _items(text)  # a bare list: "x = 1 or x = 2", "x = 1, y = 2"
    if len(items) > 1 and not (_LOGIC.search(text) and not all(map(_SAYS.search, items))):
        return _set(text)
    name, value = _assignment(items[0] if len(items) == 1 else text)
    return Named(name, _leaf(value)) if name in ("x", "y", "z") else _leaf(value)


def _moment(text: str) -> Word | None:
    """A day, a time of day, a span."""
    if known := day(text):
        return Word(known)
    time = time_of_day(text)
    if time is None:
        return None
    hours = re.fullmatch(r"(\d?\d)(?:h(?=\d\d$)|:(?=\d\d ?h))(\d\d)(?: ?h(?:ou)?rs?)?", text)
    seconds = (int(hours[1]) * 60 + int(hours[2])) * 60 if hours else 0
    return Word(time.text, time.text.replace("AM", "PM") if time.open else "", seconds)


def _matrix(text: str) -> Form | None:
    matrix = _MATRIX.fullmatch(text)
    if matrix is None:
        return None
    rows = [
        Group("", "", tuple(_form(cell) for cell in row.split("&")), " & ")
        for row in re.split(r"\\\\", matrix[2])
        if row.strip()
    ]
    if len(rows) > 1 and all(len(row.items) == 1 for row in rows):  # a column is a vector
        return Group("(", ")", tuple(row.items[0] for row in rows))
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
    rows = [item.strip() for item in items]
    if len(rows) > 1 and all(row[:1] == "[" and row[-1:] == "]" for row in rows):
        cells = r"\\".join(row[1:-1].replace(",", "&") for row in rows)
        return _matrix(rf"\begin{{pmatrix}}{cells}\end{{pmatrix}}")
    if len(items) == 1 and opening + closing in ("()", "[]"):
        return _form(inner)
    if len(items) < 2 or not all(item.strip() for item in items):
        return None
    if opening + closing == "[]" and len(items) > 2:  # no interval, but a list as programs write it
        return Group(r"\{", r"\}", tuple(map(_item, items)), ordered=False)
    return Group(opening, closing, tuple(map(_item, items)))


def _range(text: str) -> Named | None:
    """The values of one variable between bounds, as an interval: "x > 3", "1 < x \\le 2"."""
    parts = _split(text, _ORDER)
    signs = [sign[0] for sign in _ORDER.finditer(text)]
    if len(parts) not in (2, 3) or len(signs) != len(parts) - 1:
        return None
    parts = [part.strip() for part in parts]
    if len({sign.startswith((">", r"\g")) for sign in signs}) != 1:
        return None
    if signs[0].startswith((">", r"\g")):
        parts, signs = parts[::-1], signs[::-1]
    open_ends = [sign in ("<", ">", r"\lt", r"\gt") for sign in signs]
    names = [part for part in parts if _VARIABLE.fullmatch(part)]
    if len(names) != 1 or any(_LETTERS.search(_COMMAND.sub("", p)) for p in parts if p != names[0]):
        return None
    place = parts.index(names[0])
    if len(parts) == 3 and place != 1:
        return None
    below = parts[place - 1] if place else r"-\infty"
    above = parts[place + 1] if place + 1 < len(parts) else r"\infty"
    opening = "(" if not place or open_ends[0] else "["
    closing = ")" if place + 1 == len(parts) or open_ends[-1] else "]"
    return Named(names[0], Group(opening, closing, (_item(below), _item(above))))


def _member(text: str) -> Named | None:
    """A variable in an interval or a union of some: "x \\in [-2, 7]"."""
    name, sign, values = text.partition(r"\in ")
    if not sign or not _VARIABLE.fullmatch(name.strip()):
        return None
    found = _form(values)
    return Named(name.strip(), found) if isinstance(found, Group) else None


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


def _set(text: str) -> Form:
    """Values are the same whether "and" or "or" is between them; conditions and words are not."""
    texts = _items(text)
    names = [_assignment(item)[0] for item in texts]
    items = tuple(map(_item, texts))
    variables = {name.partition("_")[0] for name in names}
    if len(variables) == len(names) > 1 and all(names):  # "x = 1, y = 2" is (1, 2)
        ordered = sorted(zip(names, items, strict=True), key=lambda pair: pair[0])
        return Group("(", ")", tuple(item for _, item in ordered))
    either = len(_split(text, _OR)) > 1
    if ranges := _ranges(items, either=either):
        return ranges
    nouns = [item.written if isinstance(item, Number) and not item.unit else "" for item in items]
    if len(set(nouns)) == len(nouns) > 1 and all(nouns):  # "5 apples and 3 pears"
        items = tuple(
            Word(f"{item.value} {item.written.casefold()}")
            for item in items
            if isinstance(item, Number)
        )
    either = either and any(
        isinstance(item, Word | Named) or _RELATION.search(item_text)
        for item, item_text in zip(items, texts, strict=True)
    )
    return Group(r"\{", r"\}", items, r" \lor " if either else ", ", ordered=False)


def _ranges(items: tuple[Form, ...], *, either: bool) -> Named | None:
    """Several ranges of one variable: "x < 3 or x > 5" is a union, "x > 5, x < 9" one range."""
    ranges = [item.value for item in items if isinstance(item, Named)]
    names = {item.name for item in items if isinstance(item, Named)}
    if len(names) != 1 or not len(ranges) == len(items) > 1:
        return None
    if either:
        return Named(names.pop(), Group("", "", tuple(ranges), r" \cup ", ordered=False))
    bounds = [part for part in ranges if isinstance(part, Group)]
    match sorted(bounds, key=lambda part: part.items[0] == _BELOW_ALL):
        case [Group(items=(low, top)) as above, Group(items=(bottom, high)) as below] if (
            top == _ABOVE_ALL and bottom == _BELOW_ALL
        ):
            return Named(names.pop(), Group(above.opening, below.closing, (low, high)))
    return None


def _item(text: str) -> Form:
    """A form inside a list: it holds no further bare list."""
    if between := _range(text):
        return between
    value = _assignment(text)[1].strip()
    return quantity(value) or _matrix(value) or _bracketed(value) or _leaf(value)


def _assignment(text: str) -> tuple[str, str]:
    """The name that is assigned to ("" if none) and the value: "x = 2 + 3 = 5" is ("x", "5")."""
    sides = [side.strip() for side in _split(text, _EQUALS)]
    if len(sides) < 2 or not all(sides):
        return "", text
    if _NAME.fullmatch(sides[0]):
        return sides[0], sides[-1]
    if len(sides) > 2:  # a chain of equal expressions ends in what they come to
        return "", sides[-1]
    if len(sides) == 2 and _NAME.fullmatch(sides[1]):
        return sides[1], sides[0]
    letterless = not re.search(r"[^\W\d_]", _COMMAND.sub("", sides[0]))
    return "", sides[-1] if letterless or quantity(sides[0]) else text


def _leaf(text: str) -> Form:
    text = text.strip()
    again = quantity(text) or (_bracketed(text) if text.startswith(tuple(_OPENING)) else None)
    if again:
        return again
    body, unit_text = split_unit(text)
    if based := _BASED.fullmatch(text):
        digits, base = (based[1], based[2]) if based[1] else (based[3], "2")
        return Word(f"{digits}_{base}", digits)
    if re.fullmatch(r"[\d,]+ ?: ?[\d,]+", text):  # a ratio
        return Word(re.sub("[ ,]", "", text))
    if _is_words(body):
        return Word(words(text))
    unit = measure(unit_text) if unit_text else None
    body = _HALF_OF.sub(r"\\frac{\1}{\2}", body)
    body = re.sub(r"(?<!\w)\s+|\s+(?!\w)", "", body)
    return Expression(body, unit.unit if unit else "")


def _is_words(text: str) -> bool:
    """Words are never given to a mathematics library, which takes them for products of letters
    and calls anagrams equal."""
    if _VERBATIM.fullmatch(text) or r"\text" in text:
        return True
    bare = _LETTERS.sub(
        lambda letters: "+" if letters[0].lower() in FUNCTIONS else letters[0],
        _COMMAND.sub("+", text),
    )
    if _OTHER_SCRIPT.search(bare):
        return True
    if bare.replace(" ", "").isalpha():
        return len(bare) > 1 or bare.isupper()
    # "1 in 6", "3 h 20 min", "17 R 3": no mathematician writes a factor so.
    return bool(_WORD.search(bare) or _LETTERS_THEN_DIGIT.search(bare))


def words(text: str) -> str:
    """The letters of a text that count when texts are compared; one letter keeps its case."""
    text = " ".join(unwrap_text(text).split()).strip(" .,;:!?*`_")
    text = _INDEX.sub(r"\2", text)
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
