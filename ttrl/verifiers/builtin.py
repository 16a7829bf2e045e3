"""Checks that only read: arithmetic, citations, JSON. Each is certain of what it says, and says
nothing of all else."""

from __future__ import annotations

import ast
import json
import operator
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from ttrl.questions.question import Question, message_text

Read = Sequence[str | None]
"""What the vote reads of each answer."""

# Arithmetic

LONGEST, DIGITS, POWER, BITS = 100, 30, 64, 4096
"""Of one side of an equation in characters; of its numbers, its exponents and its powers."""
_RUN = re.compile(r"[\d \t.,()+*/^=:-]+")
_BOLD = re.compile(r"(?<!\S)\*\*(?=\S)([^*\n]{1,80})\*\*")
_SIGNS = str.maketrans({"×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "$": " "})
_OTHER = r"[^\W\d_]"
_BEGINS = re.compile(
    r"(?:^|[^\w\s%()\[\]{}\\!]|(?<!%)(?<!% )(?:^|[\W\d_])"
    r"(?!(?:of|by|to|from|than|times|plus|minus|over|sqrt|root|log|ln|sin|cos|tan|base)\b)"
    rf"{_OTHER}{{2,40}})$",
    re.I,
)
_ENDS = re.compile(
    r"$|[^\w%()\[\]{}\\!]|"
    rf"(?!(?:dozen|hundred|thousand|[mb]illion|percent|mod)\b){_OTHER}{{2}}",
    re.I,
)
"""What may stand before the first side, and after the last: nothing, a mark, or a word."""
_TEX = (
    ("\\[", "\n"),
    ("\\]", "\n"),
    ("\\(", " "),
    ("\\)", " "),
    ("\\times", "*"),
    ("\\cdot", "*"),
    ("\\div", "/"),
    ("**", "^"),
)
_WORDS = (
    (r"multiplied by|times", "*"),
    (r"divided by|over", "/"),
    (r"plus", "+"),
    (r"minus", "-"),
)
_ASKED = re.compile(
    r"(?:what is|what's|calculate|compute|evaluate|work out|solve|how much is)?:?"
    r"(?P<sum>[\d .,()+*/^-]{3,100})(?:=\s*)?[?.]?"
)
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def arithmetic(question: Question, answers: Sequence[str], read: Read) -> list[bool | None]:
    """An answer that states a wrong sum, such as "2 + 3 = 6", is wrong. Where the question is a sum
    and nothing else, an answer of its value is right, and another one wrong if that is whole. A
    quotient that may have been rounded is not judged."""
    asked = _sum_asked(question.text)
    findings = []
    for answer, value in zip(answers, read, strict=True):
        finding = False if any(_wrong(chain) for chain in _equations(answer)) else None
        given = _fraction(value)
        if asked is not None and given is not None:
            if given == asked:
                finding = True
            elif asked.denominator == 1:
                finding = False
        findings.append(finding)
    return findings


def _sum_asked(text: str) -> Fraction | None:
    """Return the value of a question that is a sum, product, or the like, and nothing else."""
    if len(text) > 2 * LONGEST:
        return None
    text = _plain(" ".join(text.lower().split()))
    for words, sign in _WORDS:
        text = re.sub(rf"\b(?:{words})\b", sign, text)
    found = _ASKED.fullmatch(text)
    if found is None or not re.search(r"\d\W*[-+*/^]\W*\d", found["sum"]):
        return None
    return _value(found["sum"].strip(" .,"))


def _plain(text: str) -> str:
    """Return the text with one way to write each sign."""
    text = _BOLD.sub(r"\1", text)
    for tex, sign in _TEX:
        text = text.replace(tex, sign)
    return text.translate(_SIGNS)


def _equations(text: str) -> Iterator[list[str]]:
    """Yield the sides of each "a = b = c", without those that may be only a part of what is meant:
    beside a letter, a bracket, or a word such as "of"."""
    for line in _plain(text).splitlines():
        for run in _RUN.finditer(line):
            if "=" not in run[0]:
                continue
            sides = [side.strip() for side in run[0].split("=")]
            before, after = line[: run.start()].rstrip(), line[run.end() :].lstrip()
            begins = _BEGINS.search(before[-80:]) or re.match(r"[,.:]\s", sides[0])
            if not begins or (before and sides[0].startswith(("+", "-", "*", "/", "^"))):
                del sides[0]
            if sides and not sides[-1].endswith((",", ".", ":")) and not _ENDS.match(after[:80]):
                del sides[-1]
            yield [re.sub(r"^[,.:]\s+|[,.:]$", "", side) for side in sides]


def _wrong(sides: Sequence[str]) -> bool:
    values = [_value(side) for side in sides]
    for (left, right), (a, b) in zip(pairwise(values), pairwise(sides), strict=True):
        if left is None or right is None or left == right or not re.search(r"\d\s*[-+*/^]", a + b):
            continue
        if "/" not in a + b or left.denominator == 1 == right.denominator:
            return True
    return False


def _value(side: str) -> Fraction | None:
    """Return what a side without letters comes to; None where it is no arithmetic, or its points
    or commas may mean two things."""
    if len(side) > LONGEST or re.search(rf"(?<!\d)\d{{1,3}}\.\d{{3}}(?!\d)|\d{{{DIGITS}}}", side):
        return None
    side = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", side)
    with suppress(SyntaxError, ValueError, ArithmeticError):
        return _evaluate(ast.parse(side.replace("^", "**").strip(), mode="eval").body)
    return None


def _evaluate(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return Fraction(str(value))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_evaluate(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            a, b = _evaluate(left), _evaluate(right)
            if isinstance(op, ast.Pow):
                bits = (abs(a.numerator) + a.denominator).bit_length()
                if b.denominator != 1 or abs(b) > POWER or bits * abs(b) > BITS:
                    raise ValueError("too large")
            return Fraction(_OPERATORS[type(op)](a, b))
    raise ValueError("no arithmetic")


def _fraction(answer: str | None) -> Fraction | None:
    """Return the value of an answer as the vote reads it, which may be a sum itself."""
    if answer is None or len(answer) > LONGEST:
        return None
    with suppress(ValueError, ArithmeticError):
        return Fraction(answer)
    return _value(answer)


# Citations

WORDS = 4
"""Of a quotation that is looked up: a word in quotation marks may be a word that is spoken of."""
_QUOTATIONS = re.compile(
    r"“([^”]{1,2000})”|„([^“”]{1,2000})[“”]|«([^»]{1,2000})»|「([^」]{1,2000})」|"
    r"『([^』]{1,2000})』|\"([^\"\n]+)\"|^> ?(.+)$",
    re.M,
)


def citation(question: Question, answers: Sequence[str], _read: Read) -> list[bool | None]:
    """An answer that quotes what does not stand in the conversation is wrong. Case, punctuation
    and spaces do not count, and dots leave something out."""
    context = _letters(" ".join(message_text(each) for each in question.body["messages"]))
    findings: list[bool | None] = []
    for answer in answers:
        quoted = (next(filter(None, found)) for found in _QUOTATIONS.findall(answer))
        parts = (part for each in quoted for part in re.split(r"\.{3}|…|\[[^\]]*\]", each))
        missing = (_letters(part) not in context for part in parts if _is_long(part))
        findings.append(False if any(missing) else None)
    return findings


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _is_long(text: str) -> bool:
    """By words, and where there are no spaces by twice as many characters."""
    words = text.split()
    return len(words) >= WORDS or any(
        sum(unicodedata.category(each) == "Lo" for each in word) >= 2 * WORDS for word in words
    )


# JSON


def json_schema(file: Path | None) -> Callable[[Question, Sequence[str], Read], list[bool | None]]:
    """Return a check by which answers are wrong that are no JSON, or do not fit the schema in
    `file`, or if there is none, that of the request. What fits need not be right."""
    fixed = json.loads(file.read_text()) if file else None

    def check(question: Question, answers: Sequence[str], _read: Read) -> list[bool | None]:
        schema = _requested(question) if fixed is None else fixed
        if schema is None:
            return [None] * len(answers)
        fits = _validator(schema)
        return [None if fits(answer) else False for answer in answers]

    return check


def _requested(question: Question) -> Any:
    """Return the schema that a request asks for; True, which all JSON fits, for any object."""
    match question.body.get("response_format"):
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return schema
        case {"type": "json_object"}:
            return {"type": "object"}
    return None


def _validator(schema: Any) -> Callable[[str], bool]:
    from jsonschema_rs import validator_for

    def refuse(uri: str) -> Any:
        raise ValueError(f"{uri} is elsewhere")

    # A schema may come from a client: nothing is fetched for it.
    schema = validator_for(schema, retriever=refuse)

    def fits(answer: str) -> bool:
        fenced = re.fullmatch(r"\s*```\w*\n(.*)\n```\s*", answer, re.S)
        with suppress(ValueError, RecursionError):
            return bool(schema.is_valid(json.loads(fenced[1] if fenced else answer)))
        return False

    return fits
