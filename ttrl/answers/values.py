"""The value that a sample says: a number, a quantity, an expression.

Where it announces none, it may stand in bold, behind the last equals sign, or in the last sentence
that has one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from fractions import Fraction
from itertools import takewhile

from ttrl.answers.extraction import (
    ASSIGNED,
    JOINED,
    MATH,
    WORDS,
    Extracted,
    boxes,
    count_words,
    has,
    is_question,
    sentences_of,
    tokens_of,
    trim,
    without_contrast,
    without_end,
)
from ttrl.answers.forms import MAX_CHARS as MAX_ANSWER_CHARS
from ttrl.answers.forms import Expression, Form, Group, Named, Word, form, leaves
from ttrl.answers.phrases import Phrases, phrases
from ttrl.answers.quantities import FUNCTIONS, Found, in_digits, scan
from ttrl.answers.units import months

FEW_VALUE_WORDS = 3
"""And so many words that are announced in place of a value: "no real solutions"."""
_LONG_WORD = re.compile(r"[^\W\d_]{3,}|[a-z]{2}|[\u3040-\u30ff\u3400-\u9fff]{2}")


def value(found: Extracted, question: str, *, comma: bool) -> str | None:
    """What a sample says to a question that asks for a value: a number, a quantity, an expression,
    or the words that it announces instead of one."""
    if found.announced is None and (found.unfinished or found.declines):
        return None
    english = asked_in_english(question, found.table)
    boxed = found.announced == boxes(found.text)
    spans = [(each, False) for each in reversed(found.bold)]
    if found.announced is not None:
        spans.insert(0, (found.announced, True))
    for span, announced in spans:
        span = in_digits(span, english=english)
        bare = trim(span, found.table)
        if len(bare) > MAX_ANSWER_CHARS:
            return None
        meaning = form(bare, comma=comma)
        if meaning is not None and not is_words(meaning) and (announced or not _has_word(meaning)):
            return bare
        last = _last_value(span, question, found.table, comma)
        if last or announced:
            few = meaning is not None and (boxed or count_words(bare) <= FEW_VALUE_WORDS)
            return last or (bare if few else None)
    return _last_value(in_digits(found.text, english=english), question, found.table, comma)


def is_words(meaning: Form) -> bool:
    """Whether a form has words, which no mathematician would compare."""
    match meaning:
        case Word(text=text):
            return bool(WORDS.search(text)) and " " in text
        case Expression(latex=latex):
            letters = re.findall(r"[A-Za-z]+", re.sub(r"\\[A-Za-z]+", " ", latex))
            alone = {letter for letter in letters if len(letter) == 1}
            return any(
                word.lower() not in FUNCTIONS and not word.isupper() and alone.isdisjoint(word)
                for word in letters
                if len(word) > 1
            )
        case Group(items=items):
            return any(map(is_words, items))
        case Named(value=inner):
            return is_words(inner)
        case _:
            return False


def _has_word(meaning: Form) -> bool:
    texts = [leaf.text for leaf in leaves(meaning) if isinstance(leaf, Word)]
    return any(_LONG_WORD.search(re.sub(r"\\[A-Za-z]+", "", text)) for text in texts)


def _last_value(text: str, question: str, table: Phrases, comma: bool) -> str | None:
    sentences = sentences_of(text)
    english = asked_in_english(question, table)
    asked = {number.value for number in scan(in_digits(question, english=english), comma=comma)}
    # The lines that a text ends in, if each gives a variable its value.
    lines = list(takewhile(ASSIGNED.fullmatch, reversed(sentences)))[::-1]
    if len(lines) > 1:
        return ", ".join(line.strip("-*•$., \n") for line in lines)
    for sentence in reversed(sentences):
        aside = table.patterns["asides"].match(sentence.lstrip("*_ \n("))
        if (aside and len(sentences) > 1) or is_question(sentence):
            continue
        found = _value_of(sentence.strip(), asked, question, table, comma)
        if found is not None:
            return found or None
    return None


def _value_of(
    sentence: str, asked: Set[object], question: str, table: Phrases, comma: bool
) -> str | None:
    """The value that a sentence ends in; None where it has none, "" where it has several or denies
    one."""
    bare = trim(sentence, table)
    math = [next(filter(None, match.groups())) for match in MATH.finditer(bare)]
    plain = MATH.sub(lambda match: next(filter(None, match.groups())), bare).strip()
    for span in [plain, *reversed(math)] if len(math) < 2 else [plain]:
        short = len(span) <= MAX_ANSWER_CHARS and '"' not in span
        meaning = form(span, comma=comma) if short else None
        if meaning is not None and not is_words(meaning) and not _has_word(meaning):
            return span
    plain = without_end(plain)
    if len(pairs := _ASSIGNED_INLINE.findall(plain)) > 1 and plain.endswith(pairs[-1]):
        return ", ".join(pairs)
    right = without_end(plain.rpartition("=")[2]).strip() if "=" in plain else ""
    if right and (meaning := form(right, comma=comma)) and not is_words(meaning):
        return right
    copulas = list(table.patterns["copulas"].finditer(plain))
    for copula in copulas[-3:]:  # "The area is 25π cm²."
        last = plain[copula.end() :].strip()
        if (meaning := form(last, comma=comma)) and isinstance(meaning, Expression):
            return last
    tail = _TUPLE.search(without_end(plain))
    if tail and isinstance(meaning := form(tail[0], comma=comma), Group) and not is_words(meaning):
        return tail[0]
    plain = without_contrast(plain, table)
    # What follows from the rest, "so the total is 5" or "... = 5 cups", if it has a number.
    marks = (*table.patterns["conclusions"].finditer(plain), *_FOLLOWS.finditer(plain))
    last_digit = max((digit.start() for digit in re.finditer(r"\d", plain)), default=-1)
    told = plain[max((mark.end() for mark in marks if mark.end() <= last_digit), default=0) :]
    numbers = scan(told, comma=comma)
    if not numbers:
        return None
    new = [number for number in numbers if number.value not in asked] or numbers
    listed = [new[-1]]
    for before in reversed(new[:-1]):
        if not (before.end and JOINED.fullmatch(told[before.end : listed[0].start])):
            break
        listed.insert(0, before)
    values = {number.value for number in (new if len(listed) == 1 else listed)}
    if len(values) != len(listed) and len(listed) == 1:
        return ""  # several, of which none is the last word
    if bound := _bound(told, listed, table):
        return bound
    if any(number.end and _in_mathematics(told, number, table) for number in listed):
        return ""
    if has(told, table, "negators"):
        return ""
    return ", ".join(number.text for number in listed)


_FOLLOWS = re.compile(r":\s|\s=\s")
_ASSIGNED_INLINE = re.compile(r"(?<!\w)[a-z] ?= ?[-−]?\d[\d./]*(?![\w./])")
_TUPLE = re.compile(r"[(\[][^()\[\]]{1,200},[^()\[\]]{1,200}[)\]]$")


_BEFORE = re.compile(r"(?:[\^√π!×·*/+−(\[{<>≤≥_:]|[A-Za-z]\s?-)\s*$")
_AFTER = re.compile(r"[A-Za-z√π^!²³(\[{_:]|\s*[\^√π×·*/+=<>≤≥]")


def _in_mathematics(text: str, number: Found, table: Phrases) -> bool:
    """Whether a number is part of an expression, of a ratio, of a date, or is turned round by a
    word beside it: no value by itself."""
    before, after = text[: number.start], text[number.end :]
    if _AFTER.match(after) or _BEFORE.search(before):
        return True
    if not isinstance(number.value, Fraction):
        return False
    near = [
        *re.findall(r"([^\W\d_]+)\W{0,2}$", before),
        *re.findall(r"^\W{0,2}([^\W\d_]+)", after),
    ]
    return any(
        (word[0].isupper() and word.casefold() in months())
        or word.casefold() in table.words["directions"]
        for word in near
    )


def _bound(text: str, listed: Sequence[Found], table: Phrases) -> str | None:
    """A number that is said to be a bound, as one."""
    if len(listed) != 1 or not listed[0].end:
        return None
    before, after = text[: listed[0].start].rstrip(), text[listed[0].end :].lstrip()
    for name, sign in (("at_least", r"\ge"), ("at_most", r"\le"), ("less", "<"), ("more", ">")):
        if any(match.end() == len(before) for match in table.patterns[name].finditer(before)):
            return f"x {sign} {listed[0].text}"
    for name, sign in (("or_more", r"\ge"), ("or_less", r"\le")):
        if table.patterns[name].match(after):
            return f"x {sign} {listed[0].text}"
    return None


_ASKS_VALUE = re.compile(
    r"\bhow (?:many|much|long|far|old|tall|fast|heavy|big|often)\b|\b(?:calculate"
    r"|compute|evaluate|solve|simplify|find|factor)\b|what is the (?:\w+ )?(?:value|sum|difference"
    r"|product|quotient|remainder|probability|area|volume|perimeter|number|total|average|mean)\b",
    re.IGNORECASE,
)
_SUM = re.compile(r"\d\s*[-+*/^×÷]\s*\(?\d")
_LATEX = re.compile(r"\$[^$\n]+\$|\\(?:frac|sqrt|\(|\[)")


def asks_for_value(question: str) -> bool:
    """Whether a question holds LaTeX or a sum, or asks for a number in words."""
    asks = _ASKS_VALUE.search(question) and any(map(str.isdigit, question))
    return bool(_LATEX.search(question) or _SUM.search(question) or asks)


def asked_in_english(question: str, table: Phrases) -> bool:
    tokens = tokens_of(question)
    return not tokens or not table.words["english"].isdisjoint(tokens)


def asks_for_order(question: str) -> bool:
    return has(question, phrases(), "ordered")


def decimal_comma(question: str, answers: Sequence[Extracted]) -> bool:
    """Whether decimals are written with a comma: by the language of the question, or since an
    answer has "0,75" or "1.234,5"."""
    texts = [answer.text for answer in answers]
    if any(re.search(r"(?<![\d.,])0,\d|\d\.\d{3},\d", text) for text in texts):
        return True
    both = (r"\d\.(?:\d{1,2}|\d{4,})(?![\d.])", r"\d,\d{1,2}(?!\d)")
    points, commas = (any(re.search(each, text) for text in [question, *texts]) for each in both)
    if points and not commas:
        return False
    return _writes_commas(question) or sum(map(_writes_commas, texts)) * 2 > len(texts)


def _writes_commas(text: str) -> bool:
    return len(phrases().words["comma"] & set(tokens_of(text))) >= 2
