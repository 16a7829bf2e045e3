"""`ttrl questions`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from serve.cli.common import (
    Resolve,
    config_options,
    fail,
    json_option,
    one_line,
    open_store,
    print_json,
)
from ttrl.store.questions import StoredQuestion


@click.group()
def questions() -> None:
    """Questions: what was recorded, and what became of it."""


@questions.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--before", type=int, help="An id to go on from.")
@json_option
@config_options
def list_(resolve: Resolve, limit: int, before: int | None, as_json: bool) -> None:
    """The newest first."""
    with open_store(resolve().config) as store:
        found = store.questions.page(limit, before=before)
    if as_json:
        print_json([_row(question) for question in found])
        return
    table = Table(box=None)
    for heading in ("id", "asked", "state", "reason", "question"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for question in found:
        state = "probe" if question.probe else question.state
        cells = (str(question.id), str(question.count), state, question.reason or "")
        table.add_row(*cells, one_line(question.question.text))
    Console().print(table)


@questions.command()
@click.argument("ids", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every question.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@config_options
def delete(resolve: Resolve, ids: tuple[int, ...], everything: bool, yes: bool) -> None:
    """Forget questions, with their votes and samples. What adapters learned from them stays in
    the adapters: `ttrl adapters list` and `show` name those."""
    if bool(ids) == everything:
        raise click.UsageError("name the ids of the questions, or --all")
    with open_store(resolve().config) as store:
        if everything and not yes:
            click.confirm("Forget every question, vote and sample?", abort=True)
        count = store.questions.delete(None if everything else ids)
    if ids and not count:
        fail(f"there is no question {', '.join(map(str, ids))}")
    click.echo(f"{count} question{'' if count == 1 else 's'} forgotten.")


def _row(question: StoredQuestion) -> dict[str, object]:
    return {
        "id": question.id,
        "count": question.count,
        "state": question.state,
        "probe": question.probe,
        "reason": question.reason,
        "exposures": question.exposures,
        "body": question.question.body,
    }
