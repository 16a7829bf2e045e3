"""The words by which answers are announced, in many languages: a table that a user can extend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from ttrl import ReportedError

TABLE = Path(__file__).with_suffix(".yaml")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


class PhrasesUnreadable(ReportedError):
    """A file of phrases is not of the form of ttrl/answers/phrases.yaml; the message says why."""


@dataclass(frozen=True, eq=False)
class Phrases:
    """What `phrases.yaml` and the user's own table, if there is one, hold, by the names that they
    have there."""

    path: Path | None
    words: Mapping[str, frozenset[str]]
    keys: tuple[str, ...]
    patterns: Mapping[str, re.Pattern[str]]
    """By the same names: a group of alternatives, each a whole word (of languages that write words
    apart)."""

    @lru_cache(maxsize=64)  # noqa: B019 - there are one or two tables for the life of the process
    def within(self, pattern: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
        """Return a pattern that has some of them by name, such as `%(nouns)s`."""
        return re.compile(pattern % {name: p.pattern for name, p in self.patterns.items()}, flags)


def _word(word: str) -> str:
    escaped = re.escape(word).replace(r"\ ", r"\s+").replace("'", "['’]")
    apart = not _UNSPACED.search(word)
    before = r"(?<!\w)" if apart and word[0].isalnum() and not word.startswith("n'") else ""
    after = r"(?![\w'’])" if apart and word[-1].isalnum() else ""
    return before + escaped + after


@cache
def phrases(path: Path | None = None) -> Phrases:
    """Read the table and, if there is one, the user's. Raises PhrasesUnreadable."""
    table = _read(TABLE)
    if path is not None:
        for name, more in _read(path).items():
            if name not in table:
                raise PhrasesUnreadable(
                    f"{path}: unknown key {name!r}; known are {', '.join(table)}"
                )
            table[name] = [*more, *table[name]] if name == "keys" else [*table[name], *more]
    ordered = {name: sorted(words, key=len, reverse=True) for name, words in table.items()}
    return Phrases(
        path,
        {name: frozenset(word.casefold() for word in words) for name, words in table.items()},
        tuple(table["keys"]),
        {
            name: re.compile(f"(?:{'|'.join(map(_word, words))})", re.IGNORECASE)
            for name, words in ordered.items()
        },
    )


def _read(path: Path) -> dict[str, list[str]]:
    try:
        # BaseLoader: "no" and "on" are words here.
        table: Any = yaml.BaseLoader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise PhrasesUnreadable(f"cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise PhrasesUnreadable(f"{path} is not valid YAML: {error}") from None
    if not isinstance(table, dict):
        raise PhrasesUnreadable(f"{path}: a table of lists of words is expected")
    found: dict[str, Any] = {}
    for name, rows in table.items():
        lists = rows if isinstance(rows, list) else [None]
        words = [word for row in lists for word in (row if isinstance(row, list) else [row])]
        if not all(isinstance(word, str) and word for word in words):
            raise PhrasesUnreadable(f"{path}: {name} must be a list of words")
        found[name] = words
    return found
