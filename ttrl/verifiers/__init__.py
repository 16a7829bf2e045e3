"""Verifiers: what says of one answer that it is right or wrong, whatever the other samples say.

A check is given a question and answers without their thoughts, and says of each: True (right),
False (wrong), None (nothing), or a text: what the answer comes to, by which the vote compares it,
such as the rows that a query returns. Checks are built in, or are given as `module:function` or
under the entry point `ttrl.verifiers`: a function of a `Question` and one answer, called by several
threads at once. An HTTP address is sent the messages and all answers. What the operator names is
trusted; what the model wrote is evaluated in child processes only.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import httpx2

from ttrl import plugins
from ttrl.answers import AnswerKind, Reading
from ttrl.answers.layers import Layer
from ttrl.answers.thoughts import spoken
from ttrl.config.learning import OFFERED_CHECKS, VerifyConfig
from ttrl.questions.question import Question
from ttrl.verifiers import builtin, executed
from ttrl.verifiers.builtin import Read

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
                self._failed(name, type(error).__name__, len(answers))
                continue
            found[name] = says[: len(answers)]
            if known := {value for value in says[len(answers) :] if isinstance(value, str)}:
                found[f"{name} by reference"] = [
                    value in known if isinstance(value, str) else None for value in found[name]
                ]
        return found

    def _failed(self, name: str, kind: str, answers: int) -> None:
        key = f"{name}: {kind}"
        if key not in self.failures:  # once: it may well fail at every question
            log.warning("the check %s failed: %s", name, kind)
        self.failures[key] += answers

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
            return builtin.arithmetic
        case "citation":
            return builtin.citation
        case "json_schema":
            return executed.json_schema(settings.json_schema, settings.seconds)
        case "sql":
            assert settings.database is not None
            return executed.sql(settings.database, settings.seconds)
        case "code":
            return executed.code(settings.seconds)
    if name.startswith(("http://", "https://")):
        client = httpx2.Client(timeout=settings.seconds, trust_env=False)
        return partial(_over_http, client, name)
    function = plugins.find("check", name, OFFERED_CHECKS)
    return lambda question, answers, _: [function(question, answer) for answer in answers]


def _over_http(
    client: httpx2.Client, url: str, question: Question, answers: Sequence[str], _read: Read
) -> list[Any]:
    asked = {"messages": question.body["messages"], "answers": list(answers)}
    answered = client.post(url, json=asked)
    answered.raise_for_status()
    findings: list[Any] = answered.json()["findings"]
    return findings
