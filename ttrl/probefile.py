"""Labelled probes from a file: JSONL of a question and what is right for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ttrl.probes import Label
from ttrl.questions import SHAPING_FIELDS, Question, Unlearnable, from_request

FIELDS = ("prompt", "answers", "refuse", "tags", *SHAPING_FIELDS)
WRITTEN = '{"prompt": "...", "answers": ["..."]}'


class ProbesUnreadable(ValueError):
    """The file holds something else than labelled probes; a line of the message for each bad one,
    which says its number and quotes nothing."""


def read(file: Path, *, tags: tuple[str, ...], max_chars: int) -> list[Label]:
    """The labels of a file, each with further `tags`. Raises ProbesUnreadable."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ProbesUnreadable(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ProbesUnreadable(f"{file} is not UTF-8 text") from None
    found: dict[str, Label] = {}
    bad: list[str] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                label = _label(line, tags, max_chars)
                if label != found.setdefault(label.question.hash, label):
                    raise ValueError("an earlier line asks the same, and says something else of it")
            except ValueError as error:
                bad.append(f"{file}:{number}: {error}")
    if bad:
        raise ProbesUnreadable("\n".join(bad))
    if not found:
        raise ProbesUnreadable(f"there are no probes in {file}; a line is written like {WRITTEN}")
    return list(found.values())


def _label(line: str, more_tags: tuple[str, ...], max_chars: int) -> Label:
    try:
        row = json.loads(line)
    except ValueError:
        raise ValueError(f"this line is not JSON; one is written like {WRITTEN}") from None
    if not isinstance(row, dict):
        raise ValueError(f"a line is written like {WRITTEN}")
    for name in row.keys() - set(FIELDS):  # one's own fields may be there, misspelt ones may not
        if near := get_close_matches(name, FIELDS, 1, cutoff=0.75):
            raise ValueError(f"it has a field that is nearly `{near[0]}`; is that what is meant?")
    refuse = row.get("refuse")
    if not isinstance(refuse, bool | None):
        raise ValueError("`refuse` is true, false or left out")
    accepted = tuple(_texts(row, "answers"))
    if refuse and accepted:
        raise ValueError("it says `refuse` and gives answers; what is to be refused has none")
    if refuse is None and not accepted:
        raise ValueError("it says neither which `answers` are right nor whether to `refuse`")
    tags = tuple(dict.fromkeys([*_texts(row, "tags"), *more_tags]))
    return Label(_question(row, max_chars), accepted, refuse, tags)


def _texts(row: dict[str, Any], name: str) -> Iterator[str]:
    found = row.get(name) or []
    if not isinstance(found, list):
        raise ValueError(f'`{name}` is a list, such as ["..."]')
    for each in found:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise ValueError(f"`{name}` holds something that is neither text nor a number")
        if not str(each).strip():
            raise ValueError(f"`{name}` holds an empty text")
        yield str(each).strip()


def _question(row: dict[str, Any], max_chars: int) -> Question:
    prompt = row.get("prompt")
    if ("prompt" in row) == ("messages" in row):
        raise ValueError("a line holds either a `prompt` or `messages`")
    if "prompt" in row:
        row = {"messages": [{"role": "user", "content": prompt}]}
    question = from_request(row, max_chars=max_chars)
    if isinstance(question, Unlearnable):
        raise ValueError(f"its question is none that could be asked ({question})")
    if not question.text.strip():
        raise ValueError("its question is empty")
    return question
