"""Checks that only read: arithmetic and citations. They say nothing where what they look at may be
meant in two ways."""

from __future__ import annotations

import ast
import operator
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any

from ttrl.questions.question import Question, message_text

Read = Sequence[str | None]
"""What the vote reads of each answer."""

# Arithmetic

LONGEST, DIGITS, POWER, BITS = 100, 30, 64, 4096
"""Of one side of an equation in characters; of its numbers, its exponents and its powers."""
_BOLD = re.compile(r"(?<!\S)\*\*(?=\S)([^*\n]{1,80})\*\*")
_SIGNS = str.maketrans({"×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "$": " "})
_TEX = (
    ("\\[", "\n"), ("\\]", "\n"), ("\\(", " "), ("\\)", " "), ("\\times", "*"), ("\\cdot", "*"),
    ("\\div", "/"), ("**", "^"),
)  # fmt: skip
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
    """An answer that states a wrong sum of whole numbers, such as "2 + 3 = 6", is wrong. Where the
    question is a sum and nothing else, and the first one, an answer of its value is right, and
    another one wrong if the value is whole."""
    asked = _sum_asked(question.text) if len(question.body["messages"]) == 1 else None
    findings: list[bool | None] = []
    for answer, value in zip(answers, read, strict=True):
        given = _fraction(value)
        if any(map(_wrong, _equations(answer))):
            findings.append(False)
        elif asked is None or given is None:
            findings.append(None)
        else:
            findings.append(True if given == asked else None if asked.denominator != 1 else False)
    return findings


def _sum_asked(text: str) -> Fraction | None:
    """Return the value of a question that is a sum, product, or the like, and nothing else."""
    if len(text) > 2 * LONGEST:
        return None
    text = _plain(" ".join(text.lower().split()))
    for words, sign in _WORDS:
        text = re.sub(rf"\b(?:{words})\b", sign, text)
    found = _ASKED.fullmatch(text)
    if found is None or not re.search(r"\d\W*(?:[+*/^]| - )\W*\d", found["sum"]):
        return None  # "7-11" may be no difference
    return _value(found["sum"].strip(" .,"))


def _plain(text: str) -> str:
    """Return the text with one way to write each sign."""
    text = _BOLD.sub(r"\1", text)
    for tex, sign in _TEX:
        text = text.replace(tex, sign)
    return text.translate(_SIGNS)


def _equations(text: str) -> Iterator[list[str]]:
    """Yield the sides of each equation that is a sentence, a clause or a line of its own: beside
    a word, a letter, or a sign as of a list, it may be a part of something else."""
    for part in re.split(r"[.;:]\s|\n", _plain(text)):
        part = part.strip().rstrip(".,;")
        may_be_date = re.search(r"\d-\d", part)
        if "=" in part and not may_be_date and re.fullmatch(r"[\d(][\d .()+*/^=-]*", part):
            yield [side.strip() for side in part.split("=")]


def _wrong(sides: Sequence[str]) -> bool:
    """Whether two sides differ that are both whole: others may be rounded. In "2 + 3 = 5 * 4 = 20"
    a sign means "and then"."""
    if len(sides) != 2 or not re.search(r"\d\s*[-+*/^]", "".join(sides)):
        return False
    left, right = map(_value, sides)
    if left is None or right is None or not left.denominator == right.denominator == 1:
        return False
    return left != right


def _value(side: str) -> Fraction | None:
    """Return what a side without letters comes to; None where it is no arithmetic, or its points
    or commas may part thousands or not."""
    if len(side) > LONGEST or re.search(rf"\d[.,]\d{{3}}(?!\d)|\d{{{DIGITS}}}", side):
        return None
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
    r"“([^“”]+)”|„([^„“”]+)[“”]|«([^«»]+)»|»([^«»]+)«|「([^「」]+)」|『([^『』]+)』|"
    r"\"([^\"\n]+)\"|^> ?(.+)$",
    re.M,
)


def citation(question: Question, answers: Sequence[str], _read: Read) -> list[bool | None]:
    """An answer that quotes what does not stand in the conversation is wrong. Case, punctuation
    and spaces do not count, and dots leave something out."""
    context = _letters(" ".join(message_text(each) for each in question.body["messages"]))
    findings: list[bool | None] = []
    for answer in answers:
        said = re.sub(r"```.*?(?:```|\Z)", "", answer, flags=re.S)
        quoted = (next(filter(None, found)) for found in _QUOTATIONS.findall(said))
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
