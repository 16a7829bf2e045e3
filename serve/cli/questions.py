"""`ttrl questions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from serve.cli.exchange import export, import_
from serve.cli.purge import purge
from serve.tally import Row, tally
from ttrl.screening import Suspicion
from ttrl.selection import LeftOut
from ttrl.stopping import Stop
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.times import clock

REASONS: Mapping[str, str] = {
    LeftOut.CLIENT: "its client's share of the update is used up",
    LeftOut.CLUSTER: "enough in the update say nearly the same",
    Suspicion.DICTATES: "it says what to answer",
    Suspicion.MIXED: "it bids the model leave its instructions",
}
"""Why a question waits or is skipped, as people read it."""

BAR, ANSWERS = 30, 12
"""Width of the bar of all samples of a vote, and how many answers have one of their own."""


@click.group()
def questions() -> None:
    """Questions: what was recorded, and what became of it."""


questions.add_command(purge)
questions.add_command(export)
questions.add_command(import_)


@questions.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--before", type=ID, help="An id to go on from.")
@click.option(
    "--state",
    "only",
    type=click.Choice(["probe", *map(str, QuestionState)]),
    help="Only these.",
)
@json_option
@config_options
def list_(
    resolve: Resolve, limit: int, before: int | None, only: str | None, as_json: bool
) -> None:
    """The newest first."""
    with open_store(resolve().config) as store:
        found = store.questions.page(limit, before=before, kind=only)
    if as_json:
        print_json([_row(question) for question in found])
        return
    print_table(("id", "asked", "state", "reason", "question"), map(_cells, found))


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every question.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
@json_option
@config_options
def delete(
    resolve: Resolve, ids: tuple[int, ...], everything: bool, yes: bool, as_json: bool
) -> None:
    """Forget questions, with their votes and samples. What adapters learned from them stays in
    the adapters; `ttrl questions purge` takes those back as well."""
    if bool(ids) == everything:
        raise click.UsageError("name the ids of the questions, or --all")
    with open_store(resolve().config) as store:
        if everything and not yes:
            click.confirm("Forget every question, vote and sample?", abort=True, err=True)
        count = store.questions.delete(None if everything else ids)
        store.forgetting.give_back()
    if ids and not count:
        fail(f"there is no question {', '.join(map(str, ids))}")
    tell(as_json, f"{counted(count, 'question')} forgotten.", forgotten=count)


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--adapter", help="All that this version learned from.")
@click.option("--run", "run_id", type=ID, help="All that this run asked.")
@json_option
@config_options
def release(
    resolve: Resolve, ids: tuple[int, ...], adapter: str | None, run_id: int | None, as_json: bool
) -> None:
    """Let runs learn from questions that were skipped, or were quarantined because a version that
    had learned from them was rolled back, or worse."""
    if bool(ids) + bool(adapter) + (run_id is not None) != 1:
        raise click.UsageError("name the ids of the questions, or --adapter NAME, or --run ID")
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
        fail("none of these is skipped or quarantined; `ttrl questions list` shows the states")
    tell(as_json, f"{counted(count, 'question')} released.", released=count)


@questions.command()
@click.argument("question_id", metavar="ID", type=ID)
@click.option("--samples", is_flag=True, help="What the newest vote's samples said, whole.")
@json_option
@config_options
def show(resolve: Resolve, question_id: int, samples: bool, as_json: bool) -> None:
    """What is asked, what became of it, and its newest votes: who said what."""
    with open_store(resolve().config) as store:
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
    for vote in votes:
        _show_vote(vote)
    for number, sample in enumerate(said, 1):
        kept = ", trained on" if sample["kept"] else ""
        say(f"\n#{number}: worth {sample['reward']:.2f}{kept}\n{sample['text']}")


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
    }
