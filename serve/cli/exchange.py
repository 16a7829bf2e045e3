"""`ttrl questions export` and `import`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click

from serve.cli.common import (
    Resolve,
    config_options,
    counted,
    daemons,
    fail,
    json_option,
    open_store,
    redacted,
    tell,
)
from ttrl.files import fresh
from ttrl.store.questions import QuestionState


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--state", type=click.Choice(list(map(str, QuestionState))), help="Only these.")
@click.option("--keys", is_flag=True, help="With the hashes of the keys of those who asked.")
@config_options
def export(resolve: Resolve, file: Path, state: str | None, keys: bool) -> None:
    """Write the recorded questions to a new FILE, one a line, as JSON.

    `ttrl questions import` takes it in elsewhere, `ttrl adapt --questions` learns from it. Only you
    may read the file; - is standard output.
    """
    from ttrl.questionfile import line_of

    with open_store(resolve().config) as store:
        count = _write(file, (line_of(each, keys=keys) for each in store.exchange.out(state)))
    click.echo(f"{counted(count, 'question')} exported.", err=True)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@config_options
def import_(resolve: Resolve, file: Path, as_json: bool) -> None:
    """Take in what `ttrl questions export` wrote, or any FILE of questions in JSONL.

    What is recorded already is not counted again. With record.redact, the running daemon's or ours,
    it is redacted first. If any line is bad, none is taken.
    """
    from ttrl import questionfile

    config = resolve().config
    if not config.record.entities:
        config = daemons(config) or config
    try:
        found = questionfile.read_exported(file, max_chars=config.record.max_chars, now=time.time())
    except questionfile.QuestionsUnreadable as error:
        fail(f"{error}\nNothing was taken in.")
    questions = redacted(config, [each.question for each in found])
    found = [replace(each, question=q) for each, q in zip(found, questions, strict=True)]
    if not config.state_dir.exists():
        click.echo(f"{config.state_dir} is made.", err=True)
    with open_store(config, create=True) as store:
        added = store.exchange.take_in(found, holdout=config.gate.holdout)
    words = f"{counted(len(found), 'question')} read, {added} of them new."
    tell(as_json, words, read=len(found), new=added)


def _write(file: Path, lines: Iterable[str]) -> int:
    """How many there were."""
    count = 0
    if file == Path("-"):
        for count, line in enumerate(lines, 1):  # noqa: B007
            click.echo(line)
        return count
    try:
        with os.fdopen(fresh(file), "w") as out:
            for count, line in enumerate(lines, 1):  # noqa: B007
                out.write(f"{line}\n")
    except FileExistsError:
        fail(f"{file} is already there; choose a new file")
    except OSError as error:
        fail(f"cannot write {file}: {error.strerror or error}")
    return count
