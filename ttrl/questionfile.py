"""Questions from a file: JSONL with `messages` or `prompt`, or plain lines. Labels that stand
beside them are not read. What one store exports for another has more beside them, under `asked`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from ttrl.questions import Question, Unlearnable, from_prompt, from_request
from ttrl.store.exchange import Exported
from ttrl.store.questions import Origin

A_DAY = 86_400.0
"""By which the clocks of two machines may differ."""


class QuestionsUnreadable(ValueError):
    """The file holds something else than questions; the message names the line."""


def read(file: Path, *, max_chars: int) -> list[Question]:
    """The distinct questions of a file, in its order. Raises QuestionsUnreadable."""
    numbered = _lines(file)
    as_json = file.suffix in (".jsonl", ".ndjson", ".json") or numbered[0][1].startswith("{")
    found = [
        _from_json(line, f"{file}:{number}", max_chars) if as_json else from_prompt(line)
        for number, line in numbered
    ]
    return list(_distinct(found))


def line_of(exported: Exported, *, keys: bool) -> str:
    """A question on its way out, as `read` and `read_exported` take it; with the hashes of the keys
    of all who asked it, or without."""
    asked = {
        "count": exported.count,
        "first": exported.first_seen,
        "last": exported.last_seen,
        "origin": exported.origin,
        **({"keys": exported.clients} if keys else {}),
    }
    return json.dumps({**exported.question.body, "asked": asked})


def read_exported(file: Path, *, max_chars: int, now: float) -> list[Exported]:
    """Questions with what was said of their asking; those without are from the operator, and asked
    once, at `now` (Unix seconds). Raises QuestionsUnreadable."""
    found = []
    for number, line in _lines(file):
        where = f"{file}:{number}"
        question = _from_json(line, where, max_chars)
        asked = json.loads(line).get("asked", {})
        try:
            found.append(_Asked.model_validate(asked).of(question, now))
        except ValueError:
            raise QuestionsUnreadable(
                f"{where}: `asked` is not what `ttrl questions export` writes: a count, and times "
                "in seconds since 1970 that have passed"
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
            raise ValueError("asked before it was first asked, or not yet")
        return Exported(question, self.count, first, last, self.origin, tuple(self.keys))


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines that are not empty, numbered. Raises QuestionsUnreadable."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise QuestionsUnreadable(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise QuestionsUnreadable(f"{file} is not UTF-8 text") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise QuestionsUnreadable(f"there are no questions in {file}")
    return numbered


def _from_json(line: str, where: str, max_chars: int) -> Question:
    try:
        row = json.loads(line)
    except ValueError:
        raise QuestionsUnreadable(f"{where}: this line is not JSON") from None
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if isinstance(prompt, str) and prompt.strip():
        row = {"messages": [{"role": "user", "content": prompt}]}
    elif not isinstance(row, dict) or "messages" not in row:
        raise QuestionsUnreadable(
            f'{where}: a line holds {{"prompt": "..."}} or {{"messages": [...]}}'
        )
    question = from_request(row, max_chars=max_chars)
    if isinstance(question, Unlearnable):
        raise QuestionsUnreadable(f"{where}: nothing can be learned from this line ({question})")
    return question


def _distinct(questions: list[Question]) -> Iterator[Question]:
    seen: set[str] = set()
    for question in questions:
        if question.hash not in seen:
            seen.add(question.hash)
            yield question
