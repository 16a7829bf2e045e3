"""`ttrl probes`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
from rich.text import Text

from serve.cli.common import (
    ID,
    Resolve,
    config_options,
    counted,
    fail,
    json_option,
    one_line,
    open_store,
    print_json,
    print_table,
    say,
    tell,
)
from ttrl.probes import Apart, LabelledProbe
from ttrl.store.questions import StoredQuestion

RIGHT = 40
"""Characters that are shown of what is right for a probe."""
REFUSE = {True: "to refuse", False: "not to refuse", None: ""}


@click.group()
def probes() -> None:
    """Probes: the questions by which the gate judges. Nothing is learned from them."""


@probes.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tag", "tags", multiple=True, help="For every probe of the file, such as safety.")
@json_option
@config_options
def add(resolve: Resolve, file: Path, tags: tuple[str, ...], as_json: bool) -> None:
    """Add labelled probes, or say anew what is right for them.

    \b
    FILE has one a line, of which `tags` and `refuse` may be left out:
    {"prompt": "What is 2 + 2?", "answers": ["4"], "tags": ["sums"]}
    {"messages": [{"role": "user", "content": "..."}], "refuse": true}

    `refuse` says that the right thing is to refuse (true), or not to (false). If any line is bad,
    none is added.
    """
    from ttrl import probefile

    config = resolve().config
    try:
        labels = probefile.read(file, tags=tags, max_chars=config.record.max_chars)
    except probefile.ProbesUnreadable as error:
        fail(f"{error}\nNothing was added.")
    with open_store(config, create=True) as store:
        added = store.probes.add(labels)
        apart = Apart(label.question for label in labels)
        like = [row.id for row in store.questions.new(None) if apart.like(row.question)]
        store.questions.guard(like)
        found = store.probes.labelled()
    again = "" if added == len(labels) else " (what was said of the others before is replaced)"
    clusters = len({probe.cluster for probe in found})
    tell(
        as_json,
        f"{counted(len(labels), 'probe')} read, {added} of them new{again}; there are {len(found)} "
        f"in all, in {clusters} clusters of near-duplicates.\n"
        f"{counted(len(like), 'recorded question')} like them will not be learned from.",
        read=len(labels), new=added, probes=len(found), clusters=clusters, guarded=len(like),
    )  # fmt: skip


@probes.command("list")
@click.option("--traffic", is_flag=True, help="The held-out questions that the gate asks now.")
@json_option
@config_options
def list_(resolve: Resolve, traffic: bool, as_json: bool) -> None:
    """Labelled probes, or those from the traffic, with how many gates have seen each."""
    config = resolve().config
    with open_store(config) as store:
        labelled = store.probes.labelled()
        if traffic:
            from jobs import probe

            rows = list(map(_traffic_row, probe.traffic(store, config.gate, labelled)))
        else:
            rows = list(map(_row, labelled))
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("Nothing is held out yet." if traffic else "There are no labelled probes.")
        return
    _show(rows)
    tags = Counter(tag for row in rows for tag in row.get("tags", ()))
    each = ", ".join(f"{count} {tag}" for tag, count in sorted(tags.items()))
    say(f"{counted(len(rows), 'probe')}{': ' if each else ''}{each}")


@probes.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--tag", help="Every probe with this tag.")
@click.option("--all", "everything", is_flag=True, help="Every labelled probe.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@json_option
@config_options
def remove(
    resolve: Resolve,
    ids: tuple[int, ...],
    tag: str | None,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget labelled probes. What is like none that is left can be learned from again."""
    if bool(ids) + bool(tag) + everything != 1:
        raise click.UsageError("name the ids of the probes, or --tag, or --all")
    with open_store(resolve().config) as store:
        found = store.probes.labelled()
        chosen = [p.id for p in found if everything or p.id in ids or tag in p.tags]
        if unknown := sorted(set(ids) - {p.id for p in found}):
            names = ", ".join(map(str, unknown))
            fail(f"there is no probe {names}; `ttrl probes list` shows those there are")
        if not chosen:
            fail("there are no such probes; `ttrl probes list` shows those there are")
        if everything and not yes:
            click.confirm(f"Forget {counted(len(chosen), 'probe')}?", abort=True, err=True)
        count = store.probes.remove(chosen)
        store.questions.unguard()
    tell(as_json, f"{counted(count, 'probe')} forgotten.", forgotten=count)


def _row(probe: LabelledProbe) -> dict[str, Any]:
    return {
        "id": probe.id,
        "tags": probe.tags,
        "origin": probe.origin,
        "exposures": probe.exposures,
        "answers": probe.accepted,
        "refuse": probe.refuse,
        "added": probe.added,
        "cluster": probe.cluster,
        "body": probe.question.body,
        "question": probe.question.text,
    }


def _traffic_row(row: StoredQuestion) -> dict[str, Any]:
    return {
        "id": row.id,
        "exposures": row.exposures,
        "added": row.first_seen,
        "cluster": row.question.cluster,
        "body": row.question.body,
        "question": row.question.text,
    }


def _show(rows: list[dict[str, Any]]) -> None:
    print_table(("id", "origin", "seen by", "tags", "right", "question"), map(_cells, rows))


def _cells(row: dict[str, Any]) -> tuple[str | Text, ...]:
    right = " or ".join(filter(None, (REFUSE[row.get("refuse")], *row.get("answers", ()))))
    texts = (", ".join(row.get("tags", ())), shorten(right, RIGHT), row["question"])
    cells = (str(row["id"]), row.get("origin", "traffic"), str(row["exposures"]))
    return *cells, *map(one_line, texts)
