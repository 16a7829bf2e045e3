"""Files that people write: questions (JSONL with `messages` or `prompt`, or plain lines; labels
that stand beside them are not read), labelled probes, and reference answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ttrl.evaluation.probes import Label
from ttrl.questions.question import SHAPING_FIELDS, Question, Unlearnable, from_prompt, from_request
from ttrl.questions.regime import sampling_of
from ttrl.store.questions import Exported, Origin

A_DAY = 86_400.0
"""By which the clocks of two machines may differ."""
FIELDS = ("prompt", "answers", "refuse", "tags", *SHAPING_FIELDS)
PROBE_LINE = '{"prompt": "...", "answers": ["..."]}'
REFERENCE_LINE = '{"prompt": "...", "reference": "..."}'


class QuestionsUnreadable(ValueError):
    """The file holds something else than questions; the message names the line."""


def read_questions(file: Path, *, max_chars: int) -> list[Question]:
    """The distinct questions of a file, in its order. Raises QuestionsUnreadable."""
    numbered = _questions(file)
    as_json = file.suffix in (".jsonl", ".ndjson", ".json") or numbered[0][1].startswith("{")
    found: dict[str, Question] = {}
    for number, line in numbered:
        where = f"{file}:{number}"
        question = _from_json(line, where, max_chars) if as_json else from_prompt(line)
        found.setdefault(question.hash, question)
    return list(found.values())


def line_of(exported: Exported, *, keys: bool) -> str:
    """A question on its way out, as `read` and `read_exported` take it; with the hashes of the keys
    of all who asked it, or without."""
    asked = {
        "count": exported.count,
        "first": exported.first_seen,
        "last": exported.last_seen,
        "origin": exported.origin,
        **({"keys": exported.clients} if keys else {}),
        "sampling": exported.question.sampling,
    }
    return json.dumps({**exported.question.body, "asked": asked})


def read_exported(file: Path, *, max_chars: int, now: float) -> list[Exported]:
    """Questions with what was said of their asking; those without are from the operator, and asked
    once, at `now` (Unix seconds). Raises QuestionsUnreadable."""
    found = []
    for number, line in _questions(file):
        where = f"{file}:{number}"
        question = _from_json(line, where, max_chars)
        asked = json.loads(line).get("asked", {})
        try:
            found.append(_Asked.model_validate(asked).of(question, now))
        except ValueError:
            raise QuestionsUnreadable(
                f"{where}: `asked` is not as `ttrl questions export` writes it: a count, and "
                f"past times in Unix seconds"
            ) from None
    return found


class _Asked(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    count: Annotated[int, Field(ge=1, lt=2**31)] = 1
    first: Annotated[float, Field(ge=0)] | None = None
    last: Annotated[float, Field(ge=0)] | None = None
    origin: Annotated[Origin, Field(strict=False)] = Origin.FILE
    keys: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = []

    def of(self, question: Question, now: float) -> Exported:
        last = now if self.last is None else self.last
        first = last if self.first is None else self.first
        if not first <= last <= now + A_DAY:
            raise ValueError("last asked before it was first asked, or in the future")
        return Exported(question, self.count, first, last, self.origin, tuple(self.keys))


def _questions(file: Path) -> list[tuple[int, str]]:
    numbered = _lines(file, QuestionsUnreadable)
    if not numbered:
        raise QuestionsUnreadable(f"there are no questions in {file}")
    return numbered


def _lines(file: Path, refusal: type[ValueError]) -> list[tuple[int, str]]:
    """The lines that are not empty, numbered. Raises `refusal`."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise refusal(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise refusal(f"{file} is not UTF-8 text") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _from_json(line: str, where: str, max_chars: int) -> Question:
    try:
        row = json.loads(line)
    except ValueError:
        raise QuestionsUnreadable(f"{where}: this line is not valid JSON") from None
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if isinstance(prompt, str) and prompt.strip():
        row = {"messages": [{"role": "user", "content": prompt}]}
    elif not isinstance(row, dict) or "messages" not in row:
        raise QuestionsUnreadable(f'{where}: expected {{"prompt": "..."}} or {{"messages": [...]}}')
    question = from_request(row, max_chars=max_chars)
    if isinstance(question, Unlearnable):
        raise QuestionsUnreadable(f"{where}: this question cannot be trained on ({question})")
    # Of a line that says nothing of it, unlike of a request, nobody knows how it was sampled.
    asked = row.get("asked")
    told = asked.get("sampling") if isinstance(asked, dict) else None
    known = sampling_of(told) if isinstance(told, dict) else question.sampling or None
    return replace(question, sampling=known)


class ProbesUnreadable(ValueError):
    """The file holds something else than labelled probes; a line of the message for each bad one,
    which says its number and quotes nothing."""


def read_probes(file: Path, *, tags: tuple[str, ...], max_chars: int) -> list[Label]:
    """The labels of a file, each with further `tags`. Raises ProbesUnreadable."""
    found: dict[str, Label] = {}
    bad: list[str] = []
    for number, line in _lines(file, ProbesUnreadable):
        try:
            label = _label(line, tags, max_chars)
            if label != found.setdefault(label.question.hash, label):
                raise ValueError("an earlier line has the same question with another label")
        except ValueError as error:
            bad.append(f"{file}:{number}: {error}")
    if bad:
        raise ProbesUnreadable("\n".join([*bad, "Nothing was added."]))
    if not found:
        raise ProbesUnreadable(f"there are no probes in {file}; expected {PROBE_LINE}")
    return list(found.values())


def _label(line: str, more_tags: tuple[str, ...], max_chars: int) -> Label:
    try:
        row = json.loads(line)
    except ValueError:
        raise ValueError(f"this line is not valid JSON; expected {PROBE_LINE}") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected {PROBE_LINE}")
    for name in row.keys() - set(FIELDS):  # one's own fields may be there, misspelt ones may not
        if near := get_close_matches(name, FIELDS, 1, cutoff=0.75):
            raise ValueError(f"unknown field; did you mean `{near[0]}`?")
    refuse = row.get("refuse")
    if not isinstance(refuse, bool | None):
        raise ValueError("`refuse` must be true, false or left out")
    accepted = tuple(_texts_in(row, "answers"))
    if refuse and accepted:
        raise ValueError("it has both `refuse: true` and `answers`; give one of them")
    if refuse is None and not accepted:
        raise ValueError("it has neither `answers` nor `refuse`")
    tags = tuple(dict.fromkeys([*_texts_in(row, "tags"), *more_tags]))
    if ("prompt" in row) == ("messages" in row):
        raise ValueError("a line must have either `prompt` or `messages`")
    if "prompt" in row:
        row = {"messages": [{"role": "user", "content": row["prompt"]}]}
    question = _request(row, max_chars)
    if not question.text.strip():
        raise ValueError("its question is empty")
    return Label(question, accepted, refuse, tags)


def _texts_in(row: dict[str, Any], name: str) -> Iterator[str]:
    found = row.get(name) or []
    if not isinstance(found, list):
        raise ValueError(f'`{name}` must be a list such as ["..."]')
    for each in found:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise ValueError(f"each item of `{name}` must be a text or a number")
        if not str(each).strip():
            raise ValueError(f"`{name}` contains an empty text")
        yield str(each).strip()


def _request(row: dict[str, Any], max_chars: int) -> Question:
    question = from_request(row, max_chars=max_chars)
    if isinstance(question, Unlearnable):
        raise ValueError(f"its question is not a valid request ({question})")
    return question


class ReferencesUnreadable(ValueError):
    """The file holds something else; the message names the line and quotes nothing."""


def read_references(file: Path, *, max_chars: int) -> Mapping[str, tuple[str, ...]]:
    """By the hash of each question its references. Raises ReferencesUnreadable."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ReferencesUnreadable(f"cannot read {file}: {why}") from None
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                key, texts = _reference(line, max_chars)
            except ValueError as error:
                raise ReferencesUnreadable(f"{file}:{number}: {error}") from None
            found[key] = (*found.get(key, ()), *texts)
    return found


def _reference(line: str, max_chars: int) -> tuple[str, tuple[str, ...]]:
    try:
        row = json.loads(line)
    except ValueError:
        raise ValueError(f"this line is not valid JSON; expected {REFERENCE_LINE}") from None
    given = row.get("reference") if isinstance(row, dict) else None
    texts = given if isinstance(given, list) else [given]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"it has no `reference` text; expected {REFERENCE_LINE}")
    if isinstance(row.get("prompt"), str):
        return from_prompt(row["prompt"]).hash, tuple(texts)
    return _request(row, max_chars).hash, tuple(texts)
