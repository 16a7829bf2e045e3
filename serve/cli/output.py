"""What commands print: sentences, JSON, tables, and texts of users and models, made harmless."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import partial
from operator import itemgetter
from textwrap import shorten
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from jobs.selection import BEGINS
from serve.views import how_read, unread_warning
from ttrl.answers.layers import END
from ttrl.config.section import clock
from ttrl.store.runs import StoredVerdict
from ttrl.words import counted, lasting

Command = Callable[..., Any]
Column = str | tuple[str, str | Callable[[Mapping[str, Any]], object]]
JSON = f"{__name__}.json"
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Escapes, other ends of lines, turns of the writing direction, and halves of characters."""
TIMES = frozenset({"created", "started", "finished", "heartbeat"})
WIDEST = 10_000
NAME_WIDTH = 40
"""Of the widest name; wider cells are texts."""
QUIET_SECONDS = 60.0
"""Time without a sign of progress, where the output is no terminal."""


class Failure(click.ClickException):
    """A sentence on standard error and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(plain(message).plain)  # it may quote a file, a backup or another's answer
        self.exit_code = code  # type: ignore[misc]  # click means it to be set


def fail(message: str, *, code: int = 1) -> NoReturn:
    raise Failure(message, code)


def json_option(command: Command) -> Command:
    """--json, which the functions here look up."""

    def keep(context: click.Context, _: click.Parameter, given: bool) -> None:
        context.meta[JSON] = given

    return click.option(
        "--json", is_flag=True, expose_value=False, callback=keep, help="Print JSON."
    )(command)


def wants_json() -> bool:
    return bool(click.get_current_context().meta.get(JSON))


def print_json(value: object) -> None:
    def as_json(value: object) -> object:
        return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)

    click.echo(json.dumps(value, default=as_json))


def tell(words: str, **result: object) -> None:
    """Print what a command did: `result` with --json, else `words`."""
    print_json(result) if wants_json() else click.echo(words)


def show_value(value: object, lines: Iterable[str]) -> None:
    """Print a value: with --json as such, else in words, which may quote users and models."""
    if wants_json():
        print_json(value)
    else:
        for line in lines:
            say(line)


def list_rows(rows: Sequence[Mapping[str, Any]], *columns: Column, empty: str = "") -> None:
    """Print all of the rows with --json, else a table of some columns: a key of the rows, or a
    heading with a key or with what makes a cell of a row. `empty` is said where there are none."""
    pairs = [(each, each) if isinstance(each, str) else each for each in columns]
    makers = [itemgetter(make) if isinstance(make, str) else make for _, make in pairs]
    if wants_json():
        print_json(rows)
    elif empty and not rows:
        click.echo(empty)
    else:
        cells = ([make(row) for make in makers] for row in rows)
        print_table([heading for heading, _ in pairs], cells)


@contextmanager
def progress(what: str, *columns: ProgressColumn) -> Iterator[Callable[..., None]]:
    """Show a bar on standard error, or a line each minute if that is no terminal, and yield what
    moves it, by `total` and `completed` or `advance`."""
    console, began = Console(stderr=True, highlight=False), time.monotonic()
    bar = Progress(
        *columns or Progress.get_default_columns(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task_id, ended = bar.add_task(what, total=None), threading.Event()

    def tell_now_and_then() -> None:
        while not ended.wait(QUIET_SECONDS):
            (task,) = bar.tasks
            line = how_far(what, task.completed, task.total, time.monotonic() - began)
            console.print(line, soft_wrap=True)

    teller = threading.Thread(target=tell_now_and_then, daemon=True)
    if not console.is_terminal:
        teller.start()
    try:
        with bar:
            yield partial(bar.update, task_id)
    finally:
        ended.set()
        if teller.is_alive():
            teller.join()


def how_far(what: str, done: float, of: float | None, seconds: float) -> str:
    """Return a line for who waits: what is done, how much of it, and the time left at this pace."""
    share = f"{done:.0f}" if of is None else f"{done:.0f} of {of:.0f}"
    left = f", about {lasting(seconds / done * (of - done))} left" if of and done else ""
    return f"{what}: {share} after {lasting(seconds)}{left}"


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
    """Columns of names and numbers as wide as they need; those of texts share the rest of the
    terminal's line: a reason goes on in the next one, another text is cut. Nothing is cut where
    there is no terminal. None is an empty cell."""
    table, console = Table(box=None), Console()
    cells = [["" if cell is None else cell for cell in row] for row in rows]
    texts = [[c if isinstance(c, Text) else one_line(str(c)) for c in row] for row in cells]
    for place, heading in enumerate(headings):
        column = [row[place] for row in texts]
        if heading == "reason":
            for text in column:
                text.no_wrap, text.overflow = False, "fold"
        name = max((text.cell_len for text in column), default=0) <= NAME_WIDTH
        table.add_column(heading, no_wrap=name and heading not in ("reason", headings[-1]))
    for row in texts:
        table.add_row(*row)
    if not console.is_terminal:
        console.width = WIDEST
    console.print(table)


def labels_words(outlook: Mapping[str, Any]) -> str:
    """How far a verdict by labels is away."""
    needed = ", ".join(f"{labels} for {gain} points" for gain, labels in outlook["needed"].items())
    have = counted(outlook["labels"], "labelled probe")
    return f"{have}; about {needed} needed to prove a candidate better"


def samples_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """How `layers` counts samples by how they were read, with the ends of those `unread`."""
    yield how_read(found["layers"])
    if warning := unread_warning(found["layers"]):
        yield warning
    for each in found["unread"]:
        question = shorten(one_line(str(each["question"])).plain, END)
        why = each["layer"].replace("_", " ")
        yield f"question {question}, {why}: ...{one_line(each['text']).plain}"


def show_fields(fields: Mapping[str, Any]) -> None:
    """Print a row: as JSON, or one line a field, with times and verdicts as people read them."""
    if wants_json():
        print_json(fields)
        return
    for name, value in fields.items():
        lines = ["-" if value in (None, "") else str(value)]
        if name == "verdicts":
            name, lines = "verdict", [line for each in value for line in _verdict_lines(each)]
        elif value and name == "guard":
            trusted = f"weights are trusted up to step {value.trusted}"
            lines = [f"{value.action}, rule {value.rule}", value.reason, trusted]
            name = "run monitor"
        elif value and name == "instructions":
            name = "instruction"
            lines = ["{instruction} ({votes} of {of} votes)".format_map(each) for each in value]
        elif value and name in TIMES:
            lines = [clock(value)]
        elif value and name == "begins":
            lines = [f"a new lineage: {BEGINS[value]}"]
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
