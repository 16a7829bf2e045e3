"""Questions from a file: JSONL with `messages` or `prompt`, or plain lines. Labels that stand
beside them are not read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ttrl.questions import Question, Unlearnable, from_prompt, from_request


class QuestionsUnreadable(ValueError):
    """The file holds something else than questions; the message names the line."""


def read(file: Path, *, max_chars: int) -> list[Question]:
    """The distinct questions of a file, in its order. Raises QuestionsUnreadable."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise QuestionsUnreadable(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise QuestionsUnreadable(f"{file} is not UTF-8 text") from None
    numbered = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise QuestionsUnreadable(f"there are no questions in {file}")
    as_json = file.suffix in (".jsonl", ".ndjson", ".json") or numbered[0][1].startswith("{")
    found = [
        _from_json(line, f"{file}:{number}", max_chars) if as_json else from_prompt(line)
        for number, line in numbered
    ]
    return list(_distinct(found))


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
