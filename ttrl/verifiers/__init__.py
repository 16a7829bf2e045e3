"""Verifiers: what says of one answer that it is right or wrong, whatever the other samples say.

A check is given a question and answers without their thoughts, and says of each: True (right),
False (wrong), None (nothing), or a text: what the answer comes to, by which the vote compares it,
such as the rows that a query returns. Checks are built in, or are given as `module:function` or
under the entry point `ttrl.verifiers`: a function of a `Question` and one answer, called by several
threads at once. An HTTP address is sent the messages and all answers. What the operator names is
trusted; what the model wrote is evaluated in child processes only.
"""

from __future__ import annotations

import ast
import logging
import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import httpx2

from ttrl import plugins
from ttrl.answers import AnswerKind, Reading
from ttrl.answers.layers import Layer
from ttrl.answers.thoughts import spoken
from ttrl.config.learning import OFFERED_CHECKS, VerifyConfig
from ttrl.questions.question import Question, message_text
from ttrl.verifiers import executed
from ttrl.verifiers.executed import Read

log = logging.getLogger(__name__)

Finding = bool | str | None
Check = Callable[[Question, Sequence[str], Read], Sequence[Finding]]
NOT_SAID = (Layer.CUT_OFF, Layer.THOUGHTS_NOT_ENDED)
PATTERN_CHARS = 10_000
"""Of a question, which is strangers' text, that an operator's pattern is searched in."""


@dataclass(frozen=True)
class Verifier:
    """Runs checks by their names, each on the questions that its pattern is found in. One that
    fails says nothing of those answers."""

    checks: Mapping[str, tuple[re.Pattern[str], Check]] = field(default_factory=dict)
    weight: int | None = None
    """Votes of a right answer, where checks are not certain (see `take_vote`): then a wrong one is
    as any other."""
    failures: Counter[str] = field(default_factory=Counter)
    """By check and kind of failure, the answers that it says nothing of."""

    def verified(
        self,
        reading: Reading,
        question: Question,
        texts: Sequence[str],
        references: Sequence[str] = (),
    ) -> Reading:
        """Return the reading of a question's samples with what the checks say: one is wrong if a
        check says so, else right if one does. `VERIFIED` ones have one answer. What an answer comes
        to is right if a reference comes to the same, and wrong if all come to something else."""
        said = [
            None if layer in NOT_SAID else spoken(text)
            for text, layer in zip(texts, reading.layers, strict=True)
        ]
        places = [place for place, text in enumerate(said) if text and text.strip()]
        if not self.checks or not places:
            return reading
        found = self.findings(
            question,
            [said[place] or "" for place in places],
            [reading.answers[place] for place in places],
            references,
        )
        answers, layers, kind = list(reading.answers), list(reading.layers), reading.kind
        for number, place in enumerate(places):
            each = [says[number] for says in found.values()]
            values = [value for value in each if isinstance(value, str)]
            if values:
                answers[place], kind = values[0], AnswerKind.TEXT
            if any(value is False for value in each):
                layers[place] = Layer.REFUTED if self.weight is None else layers[place]
            elif any(value is True for value in each):
                layers[place] = Layer.VERIFIED
            elif values:
                layers[place] = Layer.COMES_TO
        right = [answers[place] for place in places if layers[place] is Layer.VERIFIED]
        if right and self.weight is None:
            first = layers.index(Layer.VERIFIED)
            unread = (said[first] or "").strip()[:LABEL_CHARS]
            ((head, _),) = Counter(each or unread for each in right).most_common(1)
            for place in places:
                if layers[place] is Layer.VERIFIED or (answers[place] or "") in right:
                    answers[place] = head
        return replace(reading, answers=tuple(answers), layers=tuple(layers), kind=kind)

    def findings(
        self,
        question: Question,
        answers: Sequence[str],
        read: Read,
        references: Sequence[str] = (),
    ) -> dict[str, list[Finding]]:
        """Return what each check says of each answer, of which the vote reads `read`."""
        found: dict[str, list[Finding]] = {}
        for name, (pattern, check) in self.checks.items():
            if not pattern.search(question.text[:PATTERN_CHARS]):
                continue
            try:
                says = list(check(question, [*answers, *references], [*read, *references]))
                if len(says) != len(answers) + len(references):
                    raise ValueError(says)
                if not all(value is None or isinstance(value, bool | str) for value in says):
                    raise TypeError(says)
            except Exception as error:  # noqa: BLE001 - an operator's check may raise anything
                kind = type(error).__name__
                if f"{name}: {kind}" not in self.failures:  # it may well fail at every question
                    log.warning("the check %s failed: %s", name, kind)
                self.failures[f"{name}: {kind}"] += len(answers)
                continue
            found[name] = says[: len(answers)]
            if known := {value for value in says[len(answers) :] if isinstance(value, str)}:
                found[f"{name} by reference"] = [
                    value in known if isinstance(value, str) else None for value in found[name]
                ]
        return found

    def remark(self) -> str:
        each = (f"{key} ({count} answers)" for key, count in dict(self.failures).items())
        return f"checks failed: {', '.join(each)}" if self.failures else ""


LABEL_CHARS = 200
"""Of a right sample, as the answer of all that are right, if none can be read."""


def load(settings: VerifyConfig, without: Collection[str] = ()) -> Verifier:
    """Import the checks, but for those `without` which, and try what they need. Raises
    PluginUnknown, SandboxMissing, CheckUnusable."""
    return Verifier(
        {
            name: (re.compile(pattern), _load(name, settings))
            for name, pattern in settings.checks.items()
            if name not in without
        },
        settings.weight,
    )


def _load(name: str, settings: VerifyConfig) -> Check:
    match name:
        case "arithmetic":
            return arithmetic
        case "citation":
            return citation
        case "json_schema":
            return executed.json_schema(settings.json_schema, settings.seconds)
        case "sql":
            assert settings.database is not None
            return executed.sql(settings.database, settings.seconds)
        case "code":
            return executed.code(settings.seconds)
    if name.startswith(("http://", "https://")):
        client = httpx2.Client(timeout=settings.seconds, trust_env=False)

        def over_http(question: Question, answers: Sequence[str], _read: Read) -> list[Any]:
            asked = {"messages": question.body["messages"], "answers": list(answers)}
            answered = client.post(name, json=asked)
            findings: list[Any] = answered.raise_for_status().json()["findings"]
            return findings

        return over_http
    function = plugins.find("check", name, OFFERED_CHECKS)
    return lambda question, answers, _: [function(question, answer) for answer in answers]


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
