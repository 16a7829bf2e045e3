"""Right answers to questions, from a file: JSONL of a question and its `reference`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttrl.questions import Unlearnable, from_prompt, from_request

WRITTEN = '{"prompt": "...", "reference": "..."}'


class ReferencesUnreadable(ValueError):
    """The file holds something else; the message names the line and quotes nothing."""


def read(file: Path, *, max_chars: int) -> Mapping[str, tuple[str, ...]]:
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
                key, texts = _line(line, max_chars)
            except ValueError as error:
                raise ReferencesUnreadable(f"{file}:{number}: {error}") from None
            found[key] = (*found.get(key, ()), *texts)
    return found


def _line(line: str, max_chars: int) -> tuple[str, tuple[str, ...]]:
    try:
        row = json.loads(line)
    except ValueError:
        raise ValueError(f"this line is not JSON; one is written like {WRITTEN}") from None
    texts = _texts(row.get("reference")) if isinstance(row, dict) else ()
    if not texts:
        raise ValueError(f"it has no `reference` text; a line is written like {WRITTEN}")
    if isinstance(row.get("prompt"), str):
        return from_prompt(row["prompt"]).hash, texts
    question = from_request(row, max_chars=max_chars)
    if isinstance(question, Unlearnable):
        raise ValueError(f"its question is none that could be asked ({question})")
    return question.hash, texts


def _texts(given: Any) -> tuple[str, ...]:
    """A text or a list of texts; nothing if it is anything else, or one of them says nothing."""
    texts = given if isinstance(given, list) else [given]
    said = all(isinstance(text, str) and text.strip() for text in texts)
    return tuple(texts) if said else ()
