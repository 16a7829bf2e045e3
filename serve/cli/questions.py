"""`ttrl questions`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from serve.cli import Group
from serve.cli.common import (
    ID,
    PATH,
    config_options,
    daemons,
    look_store,
    open_store,
    redacted,
    standard_options,
)
from serve.cli.output import counted, fail, found_or_fail, print_json, print_table, say, tell
from serve.cli.purge import purge
from serve.views import tally
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.files import fresh
from ttrl.questions.screening import Suspicion
from ttrl.sampling.selection import LeftOut
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.votes import Stop

REASONS: Mapping[str, str] = {
    LeftOut.CLIENT: "its client has used up its share of the run",
    LeftOut.CLUSTER: "the run has enough near-duplicates of it",
    Suspicion.DICTATES: "it dictates the answer",
    Suspicion.MIXED: "it tells the model to ignore its instructions",
}
"""Why a question waits or is skipped, as people read it."""

BAR, ANSWERS = 30, 12
"""Width of the bar of all samples of a vote, and how many answers have one of their own."""


@click.group(cls=Group)
def questions() -> None:
    """Manage recorded questions."""


questions.add_command(purge)


@questions.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--before", type=ID, help="List questions with smaller ids than this.")
@click.option(
    "--state",
    "only",
    type=click.Choice(["probe", *map(str, QuestionState)]),
    help="Only questions in this state.",
)
@standard_options
def list_(config: Config, limit: int, before: int | None, only: str | None, as_json: bool) -> None:
    """The newest first."""
    with look_store(config) as store:
        newest = store.questions.page(limit, before=before, kind=only)
    if as_json:
        print_json([_row(question) for question in newest])
        return
    rows = ((q.id, q.count, *_state(q), q.question.text) for q in newest)
    print_table(("id", "asked", "state", "reason", "question"), rows)


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every question.")
@click.option("--yes", is_flag=True, help="With --all: do not ask for confirmation.")
@standard_options
def delete(
    config: Config, ids: tuple[int, ...], everything: bool, yes: bool, as_json: bool
) -> None:
    """Delete questions, with their votes and samples. Versions trained on them stay; `ttrl
    questions purge` removes those as well."""
    if bool(ids) == everything:
        raise click.UsageError("give question ids or --all")
    with open_store(config) as store:
        if everything and not yes:
            click.confirm("Delete every question, vote and sample?", abort=True, err=True)
        count = store.forgetting.delete(None if everything else ids)
        store.forgetting.give_back()
    if ids and not count:
        fail(f"there is no question {', '.join(map(str, ids))}")
    tell(as_json, f"{counted(count, 'question')} deleted.", forgotten=count)


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--adapter", help="All questions that this version was trained on.")
@click.option("--run", "run_id", type=ID, help="All questions that this run sampled.")
@standard_options
def release(
    config: Config, ids: tuple[int, ...], adapter: str | None, run_id: int | None, as_json: bool
) -> None:
    """Let runs train on questions that were skipped, or that were quarantined because a version
    trained on them was rolled back or was worse."""
    if bool(ids) + bool(adapter) + (run_id is not None) != 1:
        raise click.UsageError("give question ids, --adapter NAME or --run ID")
    with open_store(config) as store:
        chosen: Sequence[int] = ids
        with found_or_fail():
            if adapter:
                name = store.adapters.get(adapter).name
                chosen = store.adapters.question_ids(name, QuestionState.QUARANTINED)
            if run_id is not None:
                chosen = store.questions.quarantined_by(store.runs.get(run_id).id)
        count = store.questions.release(chosen)
    if not count:
        fail("none of these is skipped or quarantined; see `ttrl questions list`")
    tell(as_json, f"{counted(count, 'question')} released.", released=count)


@questions.command()
@click.argument("question_id", metavar="ID", type=ID)
@click.option("--samples", is_flag=True, help="Show the full samples of the newest vote.")
@standard_options
def show(config: Config, question_id: int, samples: bool, as_json: bool) -> None:
    """Show a question, its state, and its newest votes."""
    with look_store(config) as store:
        with found_or_fail():
            asked = store.questions.get(question_id)
        votes = store.votes.newest(question_id)
        drawn = store.votes.samples(votes[0]["id"]) if samples and votes else []
    if as_json:
        print_json({**_row(asked), "votes": votes, **({"samples": drawn} if samples else {})})
        return
    say(f"{asked.question.text}\n\n{': '.join(filter(None, _state(asked)))}")
    if (sent := asked.question.sampling) is not None:
        fields = ", ".join(f"{name} {json.dumps(value)}" for name, value in sent.items())
        say("asked with " + (fields or "the engine's defaults"))
    for vote in votes:
        _show_vote(vote)
    for number, sample in enumerate(drawn, 1):
        kept = ", trained on" if sample["kept"] else ""
        say(f"\n#{number}: reward {sample['reward']:.2f}{kept}\n{sample['text']}")


@questions.command()
@click.argument("file", type=PATH)
@click.option(
    "--state",
    type=click.Choice(list(map(str, QuestionState))),
    help="Only questions in this state.",
)
@click.option("--keys", is_flag=True, help="Include the hashes of the clients' keys.")
@config_options
def export(config: Config, file: Path, state: str | None, keys: bool) -> None:
    """Write the recorded questions to a new FILE as JSONL.

    `ttrl questions import` reads it elsewhere, `ttrl adapt --questions` trains on it. Only you
    can read the file; - is standard output.
    """
    from ttrl.datasets import line_of

    with look_store(config) as store:
        count = _write(file, (line_of(each, keys=keys) for each in store.questions.export(state)))
    click.echo(f"{counted(count, 'question')} exported.", err=True)


@questions.command("import")
@click.argument("file", type=PATH)
@standard_options
def import_(config: Config, file: Path, as_json: bool) -> None:
    """Import what `ttrl questions export` wrote, or any FILE of questions in JSONL.

    Questions already recorded are not counted again. With record.redact (of the running daemon,
    or given here) they are redacted first. If any line is bad, none is imported.
    """
    from ttrl import datasets

    if not config.record.entities:
        config = daemons(config) or config
    try:
        rows = datasets.read_exported(file, max_chars=config.record.max_chars, now=time.time())
    except datasets.DatasetUnreadable as error:
        fail(f"{error}\nNothing was imported.")
    questions = redacted(config, [row.question for row in rows])
    rows = [replace(row, question=q) for row, q in zip(rows, questions, strict=True)]
    if not config.state_dir.exists():
        click.echo(f"Creating {config.state_dir}.", err=True)
    with open_store(config, create=True) as store:
        added = store.questions.take_in(rows, holdout=config.gate.holdout)
    words = f"{counted(len(rows), 'question')} read, {added} of them new."
    tell(as_json, words, read=len(rows), new=added)


def _show_vote(vote: Mapping[str, Any]) -> None:
    drawn = "decided early" if vote["stop"] == Stop.DECIDED else "all samples drawn"
    click.echo(
        f"\nrun {vote['run_id']}, draw {vote['step']}, {vote['version']}, {clock(vote['at'])}: "
        f"{vote['outcome']}, {vote['share']:.0%} agree, entropy {vote['entropy']:.2f} "
        f"({vote['kind']}, {drawn})"
    )
    rows = (
        (
            row.count,
            f"{'█' * round(BAR * row.part)} {row.part:.0%}",
            row.answer if row.said else Text(f"({row.answer})", style="dim"),
        )
        for row in tally(vote, ANSWERS)
    )
    print_table(("votes", "of all", "answer"), rows)


def _state(stored: StoredQuestion) -> tuple[str, str]:
    """What a question is, and why."""
    reason = stored.reason or ""
    waits = "waits: " if stored.state is QuestionState.NEW and reason else ""
    return "probe" if stored.probe else stored.state, f"{waits}{REASONS.get(reason, reason)}"


def _row(question: StoredQuestion) -> dict[str, object]:
    return {
        "id": question.id,
        "count": question.count,
        "state": question.state,
        "probe": question.probe,
        "reason": question.reason,
        "exposures": question.exposures,
        "client": question.client,
        "body": question.question.body,
        "sampling": question.question.sampling,
    }


def _write(file: Path, lines: Iterable[str]) -> int:
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
        fail(f"{file} already exists; choose a new file")
    except OSError as error:
        fail(f"cannot write {file}: {error.strerror or error}")
    return count
