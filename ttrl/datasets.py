"""Files that people write: questions (plain lines, JSONL, a JSON array, or the lines of an OpenAI
batch; objects with `messages` or a text, or texts), labelled probes, and reference answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, ValidationError

from ttrl import ReportedError
from ttrl.evaluation.probes import Label
from ttrl.questions.question import SHAPING_FIELDS, Question, Unlearnable, from_prompt, from_request
from ttrl.questions.regime import sampling_of
from ttrl.questions.routes import CHAT, MESSAGES, RESPONSES, question_in
from ttrl.store.questions import Exported, Origin
from ttrl.words import counted

A_DAY = 86_400.0
"""By which the clocks of two machines may differ."""
MOST_ERRORS = 20
TEXTS = ("prompt", "question", "problem")
"""The keys by which data sets name a question's text."""
PROBE_FIELDS = (*TEXTS, "answers", "refuse", "tags", *SHAPING_FIELDS)
EXPECTED = (
    'expected {"prompt": "..."} (or "question" or "problem"), {"messages": [...]}, or a line of an '
    "OpenAI batch"
)
JSON = (".jsonl", ".ndjson", ".json")
ARRAY = re.compile(r"\s*\[\s*")
BETWEEN = re.compile(r"[\s,]*")

Row = dict[str, Any]
Result = TypeVar("Result")


class DatasetUnreadable(ReportedError, ValueError):
    """A file holds something else; a line of the message for each bad one, which says its number
    and quotes nothing."""


def read_questions(file: Path, *, max_chars: int) -> list[Question]:
    """The distinct questions of a file, in its order. Raises DatasetUnreadable."""
    lines = _lines(file, "questions")
    if _is_json(file, lines):
        questions = _parsed(file, lines, lambda row: _asked_question(row, max_chars))
    else:
        questions = [from_prompt(line) for _, line in lines]
    distinct: dict[str, Question] = {}
    for question in questions:
        distinct.setdefault(question.hash, question)
    return list(distinct.values())


def read_requests(file: Path, *, max_chars: int) -> list[tuple[Question | Unlearnable, Row]]:
    """What would be recorded of the requests in a file, or why nothing, each with its line; a line
    may also be a question. Raises DatasetUnreadable."""

    def read(row: Row) -> tuple[Question | Unlearnable, Row]:
        if not {"messages", "input"} & row.keys():
            return _question(row, max_chars), row
        guess = MESSAGES if "system" in row else RESPONSES if "input" in row else CHAT
        return question_in(str(row.get("url", guess)), row, max_chars=max_chars), row

    return _parsed(file, _lines(file, "requests"), read)


def line_of(exported: Exported, *, keys: bool) -> str:
    """A question on its way out, as the two readers of questions take it; with the hashes of the
    keys of all who asked it, or without."""
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
    once, at `now` (Unix seconds). Raises DatasetUnreadable."""

    def exported(row: Row) -> Exported:
        question = _asked_question(row, max_chars)
        try:
            return _Asked.model_validate(row.get("asked", {})).of(question, now)
        except ValueError:
            raise ValueError(
                "`asked` is not as `ttrl questions export` writes it: a count, and past times in "
                "Unix seconds"
            ) from None

    return _parsed(file, _lines(file, "questions"), exported)


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


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Probe(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    answers: list[Text] | None = None
    refuse: StrictBool | None = None
    tags: list[Text] | None = None


def read_probes(file: Path, *, tags: Sequence[str], max_chars: int) -> list[Label]:
    """The labels of a file, each with further `tags`. Raises DatasetUnreadable."""
    labels: dict[str, Label] = {}

    def add(row: Row) -> None:
        for name in row.keys() - set(PROBE_FIELDS):  # own fields may be there, misspelt ones not
            if near := get_close_matches(name, PROBE_FIELDS, 1, cutoff=0.75):
                raise ValueError(f"unknown field; did you mean `{near[0]}`?")
        probe = _Probe.model_validate(row)
        if probe.refuse and probe.answers:
            raise ValueError("it has both `refuse: true` and `answers`; give one of them")
        if probe.refuse is None and not probe.answers:
            raise ValueError("it has neither `answers` nor `refuse`")
        all_tags = tuple(dict.fromkeys([*(probe.tags or ()), *tags]))
        question = _question(row, max_chars)
        label = Label(question, tuple(probe.answers or ()), probe.refuse, all_tags)
        if label != labels.setdefault(question.hash, label):
            raise ValueError("an earlier line has the same question with another label")

    _parsed(file, _lines(file, "probes"), add)
    return list(labels.values())


def read_references(file: Path, *, max_chars: int) -> Mapping[str, tuple[str, ...]]:
    """By the hash of each question its references. Raises DatasetUnreadable."""
    references: dict[str, tuple[str, ...]] = {}

    def add(row: Row) -> None:
        given = row.get("reference")
        texts = given if isinstance(given, list) else [given]
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise ValueError("it has no `reference` text")
        key = _question(row, max_chars).hash
        references[key] = (*references.get(key, ()), *texts)

    _parsed(file, _lines(file), add)
    return references


def read_answers(file: Path, *, max_chars: int) -> Mapping[str, tuple[str, ...]]:
    """By the hash of each question of a file the correct answers (`answers` or `answer`), where it
    has some. Raises DatasetUnreadable."""
    lines = _lines(file, "questions")
    if not _is_json(file, lines):
        return {}

    def answered(row: Row) -> tuple[str, tuple[str, ...]]:
        given = row.get("answers", row.get("answer"))
        listed = given if isinstance(given, list) else [given]
        texts = (str(each) for each in listed if isinstance(each, str | int | float))
        # GSM8K has the steps in front of the mark.
        found = (text.rpartition("####")[2].strip() for text in texts)
        return _question(row, max_chars).hash, tuple(filter(None, found))

    return {key: answers for key, answers in _parsed(file, lines, answered) if answers}


def _is_json(file: Path, lines: Sequence[tuple[int, str]]) -> bool:
    return file.suffix in JSON or lines[0][1].startswith("{")


def _lines(file: Path, wanted: str = "") -> list[tuple[int, str]]:
    """The lines that are not empty, numbered. Raises DatasetUnreadable, also if there are none of
    what is `wanted`."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DatasetUnreadable(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DatasetUnreadable(f"{file} is not UTF-8 text") from None
    start = ARRAY.match(text)
    if start and (file.suffix in JSON or text.startswith("{", start.end())):
        numbered = _elements(file, text, start.end())
    else:
        lines = enumerate(text.split("\n"), 1)
        numbered = [(number, line.strip()) for number, line in lines if line.strip()]
    if wanted and not numbered:
        raise DatasetUnreadable(f"there are no {wanted} in {file}")
    return numbered


def _elements(file: Path, text: str, at: int) -> list[tuple[int, str]]:
    """The elements of a JSON array from the first one on, each with the line where it starts.
    Raises DatasetUnreadable."""
    try:
        json.loads(text)
    except ValueError as error:  # also a number of more digits than Python reads
        line = getattr(error, "lineno", 1)
        raise DatasetUnreadable(f"{file}:{line}: this array is not valid JSON") from None
    found, line, before, decoder = [], 1, 0, json.JSONDecoder()
    while text[at] != "]":
        line, before = line + text.count("\n", before, at), at
        _, end = decoder.raw_decode(text, at)
        found.append((line, text[at:end]))
        between = BETWEEN.match(text, end)
        assert between is not None
        at = between.end()
    return found


def _parsed(
    file: Path, lines: Sequence[tuple[int, str]], parse: Callable[[Row], Result]
) -> list[Result]:
    """Return what `parse` makes of each line's JSON object. Raises DatasetUnreadable."""
    results, bad = [], []
    for number, line in lines:
        try:
            row = json.loads(line)
            if isinstance(row, str):
                row = {"prompt": row}
            if not isinstance(row, dict):
                raise ValueError(EXPECTED)
            if isinstance(row.get("body"), dict):
                row |= row.pop("body")
            results.append(parse(row))
        except json.JSONDecodeError:
            bad.append(f"{file}:{number}: this line is not valid JSON; {EXPECTED}")
        except ValidationError as error:  # its own words would quote the line
            why = error.errors()[0]
            bad.append(f"{file}:{number}: `{why['loc'][0]}`: {why['msg']}")
        except ValueError as error:
            bad.append(f"{file}:{number}: {error}")
    if more := bad[MOST_ERRORS:]:
        bad = [*bad[:MOST_ERRORS], f"and {counted(len(more), 'more line')}"]
    if bad:
        raise DatasetUnreadable("\n".join([*bad, "No line of the file was used."]))
    return results


def _question(row: Row, max_chars: int) -> Question:
    texts = (text for key in TEXTS if isinstance(text := row.get(key), str) and text.strip())
    if text := next(texts, None):
        row = {"messages": [{"role": "user", "content": text}]}
    elif "messages" not in row:
        raise ValueError(EXPECTED)
    question = from_request(row, max_chars=max_chars)
    if question is Unlearnable.NO_QUESTION:
        raise ValueError("its last message is no question of a user's, or an empty one")
    if isinstance(question, Unlearnable):
        raise ValueError(f"this question cannot be trained on ({question})")
    return question


def _asked_question(row: Row, max_chars: int) -> Question:
    """Of a line that says nothing of it, unlike of a request, nobody knows how it was sampled."""
    question = _question(row, max_chars)
    asked = row.get("asked")
    told = asked.get("sampling") if isinstance(asked, dict) else None
    known = sampling_of(told) if isinstance(told, dict) else question.sampling or None
    return replace(question, sampling=known)
