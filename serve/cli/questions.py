"""`ttrl questions`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from jobs import selection
from serve.cli.common import (
    ID,
    PATH,
    Resolve,
    config_options,
    daemons,
    limit_option,
    look_store,
    open_store,
    redacted,
    resolve_options,
    standard_options,
    yes_option,
)
from serve.cli.output import (
    Column,
    fail,
    json_option,
    list_rows,
    print_json,
    print_table,
    say,
    tell,
    wants_json,
)
from serve.cli.purge import purge
from serve.gateway.keys import KeysUnreadable
from serve.gateway.keys import read as read_keys
from serve.views import how_read, tally
from ttrl.config import Config, SelectionOrder
from ttrl.config.section import clock
from ttrl.questions.question import Question, Unlearnable
from ttrl.questions.screening import Circumstances, Suspicion, deciding, rules_of
from ttrl.sampling.selection import Basis, LeftOut
from ttrl.store.questions import Origin, QuestionState, StoredQuestion
from ttrl.votes import Stop
from ttrl.words import counted

REASONS: Mapping[str, str] = {
    LeftOut.CLIENT: "its client has used up its share of the run",
    LeftOut.CLUSTER: "the run has enough near-duplicates of it",
    Suspicion.DICTATES: "it dictates the answer",
    Suspicion.MIXED: "it tells the model to ignore its instructions",
}
"""Why a question waits or is skipped, as people read it."""

GROUNDS: Mapping[Basis, str] = {
    Basis.OWN: "their last vote",
    Basis.NEAR: "the votes on near-duplicates",
    Basis.ALL: "all votes",
}
"""By what it is estimated how much questions teach, as people read it."""
STATE = "Only questions in this state."
EXAMPLES = 3
"""Texts that are shown of what a rule decides."""
TEACHES: Column = (
    "teaches", lambda row: {True: "yes", False: "no", None: "unknown"}[row["teach"]],
)  # fmt: skip
BAR, ANSWERS = 30, 12
"""Width of the bar of all samples of a vote, and how many answers have one of their own."""


@click.group()
def questions() -> None:
    """Manage recorded questions."""


questions.add_command(purge)


@questions.command("list")
@limit_option
@click.option("--before", type=ID, help="List questions with smaller ids than this.")
@click.option("--state", type=click.Choice(["probe", *map(str, QuestionState)]), help=STATE)
@standard_options
def list_(config: Config, limit: int, before: int | None, state: str | None) -> None:
    """The newest first."""
    with look_store(config) as store:
        rows = list(map(_row, store.questions.page(limit, before=before, kind=state)))
    state_of, why = ("state", lambda row: _state(row)[0]), ("reason", lambda row: _state(row)[1])
    list_rows(rows, "id", ("asked", "count"), state_of, why, "question")


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every question.")
@yes_option
@standard_options
def delete(config: Config, ids: tuple[int, ...], everything: bool, yes: bool) -> None:
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
    tell(f"{counted(count, 'question')} deleted.", forgotten=count)


@questions.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--adapter", help="All questions that this version was trained on.")
@click.option("--run", "run_id", type=ID, help="All questions that this run sampled.")
@standard_options
def release(config: Config, ids: tuple[int, ...], adapter: str | None, run_id: int | None) -> None:
    """Let runs train on questions that were skipped, that failed, or that were quarantined because
    a version trained on them was rolled back or was worse."""
    if bool(ids) + bool(adapter) + (run_id is not None) != 1:
        raise click.UsageError("give question ids, --adapter NAME or --run ID")
    with open_store(config) as store:
        chosen: Sequence[int] = ids
        if adapter:
            name = store.adapters.get(adapter).name
            chosen = store.adapters.question_ids(name, QuestionState.QUARANTINED)
        if run_id is not None:
            chosen = store.questions.quarantined_by(store.runs.get(run_id).id)
        count = store.questions.release(chosen)
    if not count:
        fail("none of these is skipped, failed or quarantined; see `ttrl questions list`")
    tell(f"{counted(count, 'question')} released.", released=count)


@questions.command()
@click.argument("question_id", metavar="ID", type=ID)
@click.option("--samples", is_flag=True, help="Show the full samples of the newest vote.")
@standard_options
def show(config: Config, question_id: int, samples: bool) -> None:
    """Show a question, its state, and its newest votes."""
    with look_store(config) as store:
        question = store.questions.get(question_id)
        asked, estimate = _row(question), None
        if config.selection.order is SelectionOrder.SIGNAL:
            estimate = selection.history(config, store).estimate(question)
            asked |= estimate.report()
        votes = store.votes.newest(question_id)
        drawn = store.votes.samples(votes[0]["id"]) if samples and votes else []
    if wants_json():
        print_json({**asked, "votes": votes, **({"samples": drawn} if samples else {})})
        return
    say(f"{asked['question']}\n\n{': '.join(filter(None, _state(asked)))}")
    if (sent := asked["sampling"]) is not None:
        fields = ", ".join(f"{name} {json.dumps(value)}" for name, value in sent.items())
        say("asked with " + (fields or "the engine's defaults"))
    if estimate is not None:
        by = GROUNDS[estimate.basis]
        say(f"expected: {estimate.share:.0%} agree, signal {estimate.signal:.2f} of 0.25, by {by}")
    for vote in votes:
        _show_vote(vote)
    for number, sample in enumerate(drawn, 1):
        kept = ", trained on" if sample["kept"] else ""
        by = (sample["layer"] or "unknown").replace("_", " ")
        say(f"\n#{number}: {by}, reward {sample['reward']:.2f}{kept}\n{sample['text']}")


@questions.command()
@click.argument("file")
@click.option("--state", type=click.Choice(list(map(str, QuestionState))), help=STATE)
@click.option("--keys", is_flag=True, help="Include the hashes of the clients' keys.")
@config_options
def export(config: Config, file: str, state: str | None, keys: bool) -> None:
    """Write the recorded questions to a new FILE as JSONL.

    `ttrl questions import` reads it elsewhere, `ttrl adapt --questions` trains on it. Only you
    can read the file; - is standard output.
    """
    from ttrl.datasets import line_of

    count = 0
    with look_store(config) as store, click.open_file(file, "x", encoding="utf-8") as out:
        for count, each in enumerate(store.questions.export(state), 1):  # noqa: B007
            out.write(f"{line_of(each, keys=keys)}\n")
    click.echo(f"{counted(count, 'question')} exported.", err=True)


@questions.command("import")
@click.argument("file", type=PATH)
@standard_options
def import_(config: Config, file: Path) -> None:
    """Import what `ttrl questions export` wrote, or any FILE of questions in JSON.

    Questions already recorded are not counted again. With record.redact (of the running daemon,
    or given here) they are redacted first. If any line is bad, none is imported.
    """
    from ttrl import datasets

    if not config.record.entities:
        config = daemons(config) or config
    rows = datasets.read_exported(file, max_chars=config.record.max_chars, now=time.time())
    questions = redacted(config, [row.question for row in rows])
    rows = [replace(row, question=q) for row, q in zip(rows, questions, strict=True)]
    if not config.state_dir.exists():
        click.echo(f"Creating {config.state_dir}.", err=True)
    with open_store(config, create=True) as store:
        added = store.questions.take_in(rows, holdout=config.gate.holdout)
    words = f"{counted(len(rows), 'question')} read, {added} of them new."
    tell(words, read=len(rows), new=added)


@questions.group("rules", invoke_without_command=True)
@json_option
@resolve_options
def rules_(resolve: Resolve) -> None:
    """List the rules that say which requests teach, in their order; or preview them."""
    if click.get_current_context().invoked_subcommand is not None:
        return
    rules = rules_of(_running(resolve().config).record)
    rows = [rule.model_dump(mode="json") for rule in rules]
    rows = [{"name": row.pop("name"), "teach": row.pop("teach"), "if": row} for row in rows]
    tests: Column = ("if", lambda row: json.dumps({n: v for n, v in row["if"].items() if v}))
    list_rows(rows, "name", TEACHES, tests, empty="There are no rules: all requests teach.")


@rules_.command("test")
@click.argument("file", type=PATH, required=False)
@standard_options
def test_(config: Config, file: Path | None) -> None:
    """Preview which recorded questions, or requests in a FILE, the rules leave out.

    FILE has requests in JSON, one a line or in an array: bodies, or lines of an OpenAI batch with
    their `url`. Each may have the `headers` and the `key` (its name) that it would come with.
    Nothing is changed.
    """
    config = _running(config)
    rules, found = rules_of(config.record), dict[str, dict[str, Any]]()
    for question, around, count in _in_file(config, file) if file else _recorded(config):
        teach: bool | None = False
        if isinstance(question, Unlearnable):
            by, text = str(question), ""
        else:
            rule, certain = deciding(rules, question, around)
            by, text = f"rule_{rule.name}" if rule else "no_rule", question.text
            teach = (rule is None or rule.teach) if certain else None
        new: dict[str, Any] = {"by": by, "teach": teach, "questions": 0, "asked": 0, "examples": []}
        row = found.setdefault(f"{by} {teach}", new)
        row["questions"] += 1
        row["asked"] += count
        if text and len(row["examples"]) < EXAMPLES:
            row["examples"].append(text)
    rows = sorted(found.values(), key=lambda row: -row["questions"])
    example: Column = ("example", lambda row: "".join(row["examples"][:1]))
    list_rows(rows, "by", TEACHES, "questions", "asked", example, empty="There are no questions.")
    if any(row["teach"] is None for row in rows):
        click.echo("Unknown: it depends on a model, headers or a key that are not there.", err=True)


def _running(config: Config) -> Config:
    """Return the running daemon's settings, unless rules were given here."""
    return config if config.record.rules else daemons(config) or config


def _recorded(config: Config) -> Iterator[tuple[Question, Circumstances, int]]:
    """Yield the recorded traffic, with how often each was asked. Of several clients the first by
    its hash counts."""
    names: dict[str, str] = {}
    with suppress(KeysUnreadable):
        keys = read_keys(config.gateway.keys) if config.gateway.keys else ()
        names = {key.sha256: key.name for key in keys}
    with look_store(config) as store:
        for each in store.questions.export():
            key = names.get(each.clients[0]) if each.clients else ""
            if each.origin is Origin.TRAFFIC:
                yield each.question, Circumstances(key), each.count


def _in_file(
    config: Config, file: Path
) -> Iterator[tuple[Question | Unlearnable, Circumstances, int]]:
    from ttrl import datasets

    for question, row in datasets.read_requests(file, max_chars=config.record.max_chars):
        headers = None
        if isinstance(given := row.get("headers"), dict):
            headers = {name.lower(): [str(value)] for name, value in given.items()}
        key = str(row["key"]) if "key" in row else None
        yield question, Circumstances(key, str(row.get("model", "")), headers), 1


def _show_vote(vote: Mapping[str, Any]) -> None:
    drawn = "decided early" if vote["stop"] == Stop.DECIDED else "all samples drawn"
    click.echo(
        f"\nrun {vote['run_id']}, draw {vote['step']}, {vote['version']}, {clock(vote['at'])}: "
        f"{vote['outcome']}, {vote['share']:.0%} agree, entropy {vote['entropy']:.2f} "
        f"({vote['kind']}, {drawn})"
        + (f"\nasked with the instruction: {vote['instruction']}" if vote["instruction"] else "")
    )
    if vote["layers"]:
        click.echo(how_read(vote["layers"]))
    rows = (
        (
            row.count,
            f"{'█' * round(BAR * row.part)} {row.part:.0%}",
            row.answer if row.said else Text(f"({row.answer})", style="dim"),
        )
        for row in tally(vote, ANSWERS)
    )
    print_table(("votes", "of all", "answer"), rows)


def _state(row: Mapping[str, Any]) -> tuple[str, str]:
    """What a question is, and why."""
    reason = row["reason"] or ""
    waits = "waits: " if row["state"] == QuestionState.NEW and reason else ""
    return "probe" if row["probe"] else row["state"], f"{waits}{REASONS.get(reason, reason)}"


def _row(stored: StoredQuestion) -> dict[str, Any]:
    fields = ("id", "count", "state", "probe", "reason", "exposures", "client")
    return {
        **{name: getattr(stored, name) for name in fields},
        "body": stored.question.body,
        "sampling": stored.question.sampling,
        "question": stored.question.text,
    }
