"""What commands print: sentences, JSON, tables, and texts of users and models, made harmless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.selection import WORDS, Begins
from ttrl.config.section import clock
from ttrl.store.runs import StoredVerdict

STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Escapes, other ends of lines, turns of the writing direction, and halves of characters."""
TIMES = frozenset({"created", "started", "finished", "heartbeat"})
WIDEST = 10_000
LAST_COLUMN = 20
"""Characters that the last column of a table has at least."""


class Failure(click.ClickException):
    """A sentence on standard error and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(plain(message).plain)  # it may quote a file, a backup or another's answer
        self.exit_code = code  # type: ignore[misc]  # click means it to be set


def fail(message: str, *, code: int = 1) -> NoReturn:
    raise Failure(message, code)


@contextmanager
def found_or_fail() -> Iterator[None]:
    """A row that the store does not have ends the command with the store's sentence."""
    try:
        yield
    except KeyError as error:
        fail(error.args[0])


def print_json(value: object) -> None:
    click.echo(json.dumps(value, default=_as_json))


def _as_json(value: object) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def tell(as_json: bool, words: str, **result: object) -> None:
    print_json(result) if as_json else click.echo(words)


def plain(text: str) -> Text:
    """Text of users and models for the terminal: no markup, and nothing that steers it."""
    return Text(STEERING.sub("\N{REPLACEMENT CHARACTER}", text))


def say(text: str) -> None:
    """Print text of users and models, whole."""
    click.echo(plain(text).plain)


def one_line(text: str) -> Text:
    """The same in one line, which is cut where a table has no room for it."""
    line = plain(" ".join(text.split()))
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Each column as wide as it needs, but for the last, which has the rest of the terminal's line.
    Nothing is cut where there is no terminal. None is an empty cell."""
    table, console = Table(box=None), Console()
    for heading in headings[:-1]:
        table.add_column(heading, no_wrap=True)
    table.add_column(headings[-1], overflow="ellipsis", min_width=LAST_COLUMN)
    for row in rows:
        cells = ("" if cell is None else cell for cell in row)
        table.add_row(*(c if isinstance(c, Text) else one_line(str(c)) for c in cells))
    wanted = Console(width=WIDEST).measure(table)
    console.width = max(console.width, wanted.minimum if console.is_terminal else wanted.maximum)
    console.print(table)


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def labels_words(outlook: Mapping[str, Any]) -> str:
    """How far a verdict by labels is away."""
    needed = ", ".join(f"{labels} for {gain} points" for gain, labels in outlook["needed"].items())
    have = counted(outlook["labels"], "labelled probe")
    return f"{have}; about {needed} needed to prove a candidate better"


def echo_fields(fields: Mapping[str, Any]) -> None:
    """One line a field; times and verdicts as people read them."""
    for name, value in fields.items():
        if name == "verdicts":
            for verdict in value:
                _echo("verdict", _verdict_lines(verdict))
        elif name == "guard" and value is not None:
            trusted = f"weights are trusted up to step {value.trusted}"
            ruling = f"{value.action}, rule {value.rule}"
            _echo("run monitor", (ruling, value.reason, trusted))
        elif value in (None, ""):
            _echo(name, ["-"])
        elif name in TIMES:
            _echo(name, [clock(value)])
        elif name == "begins":
            _echo(name, [f"a new lineage: {WORDS[Begins(value)]}"])
        else:
            _echo(name, [str(value)])


def _echo(name: str, lines: Iterable[str]) -> None:
    for line in lines:
        say(f"{name:12} {line}")
        name = ""


def _verdict_lines(verdict: StoredVerdict) -> Iterator[str]:
    yield f"{verdict.verdict}, against {verdict.against}"
    yield verdict.evidence.reason
    for check in verdict.evidence.checks:
        yield f"{check.outcome:8} {check.words}"
    for change in verdict.evidence.worst:
        answers = " to ".join(one_line(x or "-").plain for x in (change.live, change.candidate))
        correct = f"correct {change.right_before:.0%} to {change.right_after:.0%}"
        yield f"{'lost':8} {correct}: {answers} ({one_line(change.text or '').plain})"
