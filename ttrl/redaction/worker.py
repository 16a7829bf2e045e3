"""The process that finds what is to be taken out: a list of texts a line in, a list a line out.

It downloads nothing: no model of a language but the operator's own, no list of Internet domains.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

if __name__ == "__main__" and not json.loads(sys.argv[1])["model"]:
    # Where they are installed, spaCy and Presidio load them, and patterns have no use for them.
    sys.modules.update(dict.fromkeys(("torch", "transformers", "tensorflow", "mxnet")))  # type: ignore[arg-type]

import spacy
from presidio_analyzer import (
    AnalyzerEngine,
    Pattern,
    PatternRecognizer,
    RecognizerRegistry,
    RecognizerResult,
)
from presidio_analyzer.nlp_engine import SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import EmailRecognizer, PhoneRecognizer

from ttrl.lineworker import serve_lines

LANGUAGE = "en"
"""What Presidio is told; the patterns are the same in every language."""
SURE = 0.4
"""Presidio's score of a number that is a valid telephone number; what it calls a likely bank
account or passport, any number of so many digits, is far below."""
REGIONS = ("US", "GB", "DE", "FR", "NL", "AT", "CH", "JP", "CN")
"""Whose telephone numbers are known without the code of their country. In others, where they begin
with no 0, most numbers of nine digits would be one."""
CALLED = re.compile(
    r"phone|mobile|\bcell|\bcall|\btel|\bfax|whats\s?app|\bsms\b|\btext me|nummer|anruf|\bruf|"
    r"handy|appel|portable|llam|m[oó]vil|电话|手机|號碼|号码|電話|携帯",
    re.IGNORECASE,
)
HALVES = re.compile("[\ud800-\udfff]")
"""Of characters."""
NEAR = 40
"""Characters before a number in which such a word stands."""


class Pipeline(SpacyNlpEngine):
    """The operator's spaCy pipeline, or an empty one; Presidio would download what it lacks."""

    def __init__(self, model: str) -> None:
        super().__init__()
        pipeline = spacy.load(model) if model else spacy.blank(LANGUAGE)
        self.nlp: Any = {LANGUAGE: pipeline}

    def load(self) -> None:
        """It is."""


ON_A_HOST = Pattern("on a host", r"\b[^\W\d_][\w.+-]{2,}@[^\W\d_][\w-]{2,}\b", SURE)
"""An address without a dot, such as root@db-server-01; a product of matrices, A@B, is none."""
IN_BRACKETS = Pattern("area code in brackets", r"\(\d{3}\) ?\d{3}-\d{4}\b", SURE)
"""A telephone number of the US, whatever digits come after it, which hide it from Presidio's."""


class AnyEmail(EmailRecognizer):
    """Of any domain, known or not: internal ones tell as much. Presidio's asks the Internet for the
    list of all top-level domains."""

    def validate_result(self, pattern_text: str) -> bool | None:
        return True


class Telephone(PhoneRecognizer):
    """Digits without a space, a sign or a 0 in front are an operand, unless a word before them says
    otherwise."""

    def analyze(self, text: str, *args: Any, **more: Any) -> list[RecognizerResult]:
        found = []
        for each in super().analyze(text, *args, **more):
            number, start = text[each.start : each.end], each.start
            operand = number.isdigit() and number[0] != "0" and text[start - 1 : start] != "+"
            if not operand or CALLED.search(text, max(0, start - NEAR), start):
                found.append(each)
        return found


def redact(text: str, found: Iterable[RecognizerResult]) -> str:
    """With a placeholder for each, and for those that overlap the surest one's."""
    whole: list[RecognizerResult] = []
    for each in sorted(found, key=lambda each: (each.start, -each.end)):
        if whole and each.start < whole[-1].end:
            last = max(whole[-1], each, key=lambda one: one.score)
            ends = whole[-1].start, max(whole[-1].end, each.end)
            whole[-1] = RecognizerResult(last.entity_type, *ends, last.score)
        else:
            whole.append(each)
    for each in reversed(whole):
        text = f"{text[: each.start]}<{each.entity_type}>{text[each.end :]}"
    return text


def load(entities: Sequence[str], model: str) -> Callable[[list[str]], list[str]]:
    """What redacts texts, warmed up: Presidio with its own patterns and ours."""
    pipeline = Pipeline(model)
    registry = RecognizerRegistry(supported_languages=[LANGUAGE])
    registry.load_predefined_recognizers(languages=[LANGUAGE], nlp_engine=pipeline)
    for name in ("EmailRecognizer", "PhoneRecognizer"):
        registry.remove_recognizer(name)
    registry.add_recognizer(AnyEmail([*EmailRecognizer.PATTERNS, ON_A_HOST]))
    registry.add_recognizer(Telephone(supported_regions=REGIONS))
    registry.add_recognizer(PatternRecognizer("PHONE_NUMBER", patterns=[IN_BRACKETS]))
    engine = AnalyzerEngine(registry=registry, nlp_engine=pipeline, supported_languages=[LANGUAGE])

    def redacted(text: str) -> str:
        whole = HALVES.sub("\N{REPLACEMENT CHARACTER}", text)  # which the libraries do not take
        found = engine.analyze(whole, LANGUAGE, entities=list(entities), score_threshold=SURE)
        return redact(text, found)

    redacted("warm up: a@example.org")
    return lambda texts: [redacted(text) for text in texts]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    serve_lines(
        lambda: load(asked["entities"], asked["model"]),
        seconds=asked["seconds"],
        otherwise=lambda _: None,
    )
