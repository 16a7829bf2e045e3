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
    Resolve,
    config_options,
    counted,
    daemons,
    fail,
    look_store,
    one_line,
    open_store,
    print_json,
    print_table,
    redacted,
    say,
    standard_options,
    tell,
)
from serve.cli.purge import purge
from serve.views import Row, tally
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
def list_(
    resolve: Resolve, limit: int, before: int | None, only: str | None, as_json: bool
) -> None:
    """The newest first."""
    with look_store(resolve().config) as store:
        found = store.questions.page(limit, before=before, kind=only)
    if as_json:
        print_json([_row(question) for question in found])
        return
    print_table(("id", "asked", "state", "reason", "question"), map(_cells, found))


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every question.")
@click.option("--yes", is_flag=True, help="With --all: do not ask for confirmation.")
@standard_options
def delete(
    resolve: Resolve, ids: tuple[int, ...], everything: bool, yes: bool, as_json: bool
) -> None:
    """Delete questions, with their votes and samples. Versions trained on them stay; `ttrl
    questions purge` removes those as well."""
    if bool(ids) == everything:
        raise click.UsageError("give question ids or --all")
    with open_store(resolve().config) as store:
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
    resolve: Resolve, ids: tuple[int, ...], adapter: str | None, run_id: int | None, as_json: bool
) -> None:
    """Let runs train on questions that were skipped, or that were quarantined because a version
    trained on them was rolled back or was worse."""
    if bool(ids) + bool(adapter) + (run_id is not None) != 1:
        raise click.UsageError("give question ids, --adapter NAME or --run ID")
    with open_store(resolve().config) as store:
        chosen: Sequence[int] = ids
        try:
            if adapter:
                name = store.adapters.get(adapter).name
                chosen = store.adapters.question_ids(name, QuestionState.QUARANTINED)
            if run_id is not None:
                chosen = store.questions.quarantined_by(store.runs.get(run_id).id)
        except KeyError as error:
            fail(error.args[0])
        count = store.questions.release(chosen)
    if not count:
        fail("none of these is skipped or quarantined; see `ttrl questions list`")
    tell(as_json, f"{counted(count, 'question')} released.", released=count)


@questions.command()
@click.argument("question_id", metavar="ID", type=ID)
@click.option("--samples", is_flag=True, help="Show the full samples of the newest vote.")
@standard_options
def show(resolve: Resolve, question_id: int, samples: bool, as_json: bool) -> None:
    """Show a question, its state, and its newest votes."""
    with look_store(resolve().config) as store:
        try:
            question = store.questions.get(question_id)
        except KeyError as error:
            fail(error.args[0])
        votes = store.votes.newest(question_id)
        said = store.votes.samples(votes[0]["id"]) if samples and votes else []
    if as_json:
        print_json({**_row(question), "votes": votes, **({"samples": said} if samples else {})})
        return
    state = "probe" if question.probe else question.state
    say(f"{question.question.text}\n\n{': '.join(filter(None, (state, _why(question))))}")
    if question.question.sampling is not None:
        say(f"asked with {_sampling(question.question.sampling)}")
    for vote in votes:
        _show_vote(vote)
    for number, sample in enumerate(said, 1):
        kept = ", trained on" if sample["kept"] else ""
        say(f"\n#{number}: reward {sample['reward']:.2f}{kept}\n{sample['text']}")


@questions.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--state",
    type=click.Choice(list(map(str, QuestionState))),
    help="Only questions in this state.",
)
@click.option("--keys", is_flag=True, help="Include the hashes of the clients' keys.")
@config_options
def export(resolve: Resolve, file: Path, state: str | None, keys: bool) -> None:
    """Write the recorded questions to a new FILE as JSONL.

    `ttrl questions import` reads it elsewhere, `ttrl adapt --questions` trains on it. Only you
    can read the file; - is standard output.
    """
    from ttrl.datasets import line_of

    with look_store(resolve().config) as store:
        count = _write(file, (line_of(each, keys=keys) for each in store.questions.export(state)))
    click.echo(f"{counted(count, 'question')} exported.", err=True)


@questions.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@standard_options
def import_(resolve: Resolve, file: Path, as_json: bool) -> None:
    """Import what `ttrl questions export` wrote, or any FILE of questions in JSONL.

    Questions already recorded are not counted again. With record.redact (of the running daemon,
    or given here) they are redacted first. If any line is bad, none is imported.
    """
    from ttrl import datasets

    config = resolve().config
    if not config.record.entities:
        config = daemons(config) or config
    try:
        found = datasets.read_exported(file, max_chars=config.record.max_chars, now=time.time())
    except datasets.QuestionsUnreadable as error:
        fail(f"{error}\nNothing was imported.")
    questions = redacted(config, [each.question for each in found])
    found = [replace(each, question=q) for each, q in zip(found, questions, strict=True)]
    if not config.state_dir.exists():
        click.echo(f"Creating {config.state_dir}.", err=True)
    with open_store(config, create=True) as store:
        added = store.questions.take_in(found, holdout=config.gate.holdout)
    words = f"{counted(len(found), 'question')} read, {added} of them new."
    tell(as_json, words, read=len(found), new=added)


def _sampling(sent: Mapping[str, Any]) -> str:
    """The fields that the user sent."""
    fields = ", ".join(f"{name} {json.dumps(value)}" for name, value in sent.items())
    return fields or "the engine's defaults"


def _show_vote(vote: Mapping[str, Any]) -> None:
    """Who said what, a bar for each answer, in order of votes."""
    drawn = "decided early" if vote["stop"] == Stop.DECIDED else "all samples drawn"
    click.echo(
        f"\nrun {vote['run_id']}, draw {vote['step']}, {vote['version']}, {clock(vote['at'])}: "
        f"{vote['outcome']}, {vote['share']:.0%} agree, entropy {vote['entropy']:.2f} "
        f"({vote['kind']}, {drawn})"
    )
    print_table(("votes", "of all", "answer"), map(_bar, tally(vote, ANSWERS)))


def _bar(row: Row) -> tuple[str | Text, ...]:
    answer = one_line(row.answer) if row.said else Text(f"({row.answer})", style="dim")
    return str(row.count), f"{'█' * round(BAR * row.part)} {row.part:.0%}", answer


def _cells(question: StoredQuestion) -> tuple[str | Text, ...]:
    state = "probe" if question.probe else question.state
    texts = (str(question.id), str(question.count), state, _why(question))
    return *texts, one_line(question.question.text)


def _why(question: StoredQuestion) -> str:
    reason = question.reason or ""
    waits = "waits: " if question.state is QuestionState.NEW and reason else ""
    return f"{waits}{REASONS.get(reason, reason)}"


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
