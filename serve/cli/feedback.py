"""`ttrl feedback`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from serve.cli import Group
from serve.cli.common import config_options, limit_option, look_store, standard_options
from serve.cli.output import list_rows
from serve.gateway.live import BASE
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.feedback import State
from ttrl.questions.question import Question
from ttrl.words import counted

KEY = 8
"""Characters of a key's hash that are shown: enough to tell keys apart."""


@click.group(cls=Group)
def feedback() -> None:
    """List and export what clients say of answers. `ttrl probes accept` makes a correction a
    label."""


@feedback.command("list")
@limit_option
@click.option("--state", type=click.Choice(list(map(str, State))), help="Only in this state.")
@standard_options
def list_(config: Config, limit: int, state: str | None) -> None:
    """The newest first."""
    with look_store(config) as store:
        rows = list(map(_row, store.feedback.each(state, limit)))
    list_rows(
        rows,
        "id",
        "state",
        ("version", lambda row: row["version"] or BASE),
        ("key", lambda row: (row["client"] or "")[:KEY]),
        ("at", lambda row: clock(row["at"])[:16]),
        "score",
        "correction",
        ("question", lambda row: row["question"] or ""),
        empty="There is no feedback.",
    )


@feedback.command()
@click.argument("file")
@click.option("--keys", is_flag=True, help="Include the hashes of the clients' keys.")
@config_options
def export(config: Config, file: str, keys: bool) -> None:
    """Write all feedback to a new FILE as JSONL, newest first; - is standard output."""
    count = 0
    with look_store(config) as store, click.open_file(file, "x", encoding="utf-8") as out:
        for count, each in enumerate(store.feedback.each(), 1):  # noqa: B007
            row = _row(each)
            out.write(json.dumps(row if keys else row | {"client": None}) + "\n")
    click.echo(f"{counted(count, 'piece')} of feedback exported.", err=True)


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Feedback with what its question asks; not the receipt's hash, by which it could be
    told whose answer it was."""
    body = row["body"]
    hidden = ("answer", "body")
    fields = {name: value for name, value in row.items() if name not in hidden}
    return fields | {"question": body and Question(body, "").text}
