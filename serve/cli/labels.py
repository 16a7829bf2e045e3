"""Labels: the probes that they make (`ttrl probes`), the pairs of answers that the operator judges
(`ttrl label`), and what clients say of answers (`ttrl feedback`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
from rich.console import Console
from rich.panel import Panel
from rich.table import Column, Table

from serve import operations
from serve.cli.common import (
    ID,
    PATH,
    config_options,
    limit_option,
    look_store,
    open_store,
    settle,
    standard_options,
    yes_option,
)
from serve.cli.output import fail, list_rows, plain, print_json, say, tell, wants_json
from serve.gateway.live import BASE
from serve.views import WORDS, judged, pair_report, turns
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.evaluation.probes import Apart, Label, LabelledProbe
from ttrl.feedback import State
from ttrl.questions.question import Question
from ttrl.store import Store
from ttrl.store.database import NotFound
from ttrl.store.probes import StoredPair
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.words import counted

RIGHT = 40
"""Characters that are shown of what is right for a probe."""
COMMON_IN = 2_000
"""The newest questions, by which it is known what all have in common."""
REFUSE = {True: "to refuse", False: "not to refuse", None: ""}
SAME = "one answer; is it right? (=: yes, n: no)"
KEYS = "a: A is right   b: B   =: both   n: neither   ?: cannot tell   u: undo the last   q: quit"
KEY = 8
"""Characters of a key's hash that are shown: enough to tell keys apart."""


@click.group()
def probes() -> None:
    """Manage probes: the questions that the gate asks. They are never trained on."""


@probes.command()
@click.argument("file", type=PATH)
@click.option(
    "--tag", "tags", multiple=True, help="Tag for every probe of the file, such as safety."
)
@standard_options
def add(config: Config, file: Path, tags: tuple[str, ...]) -> None:
    """Add labelled probes, or replace their labels.

    \b
    FILE has one probe a line; `tags` and `refuse` are optional:
    {"prompt": "What is 2 + 2?", "answers": ["4"], "tags": ["sums"]}
    {"messages": [{"role": "user", "content": "..."}], "refuse": true}

    `refuse` says whether a refusal is correct (true) or wrong (false). If any line is bad,
    none is added.
    """
    from ttrl import datasets

    labels = datasets.read_probes(file, tags=tags, max_chars=config.record.max_chars)
    with open_store(config, create=True) as store:
        added = store.probes.add(labels)
        newest = store.questions.page(COMMON_IN, kind=QuestionState.NEW)
        apart = Apart((label.question for label in labels), (row.question for row in newest))
        new = store.questions.each(QuestionState.NEW)
        like = [row.id for row in new if apart.like(row.question)]
        store.questions.set_apart(like)
        known = store.probes.labelled()
    again = "" if added == len(labels) else " (the labels of the others are replaced)"
    clusters = len({probe.cluster for probe in known})
    tell(
        f"{counted(len(labels), 'probe')} read, {added} of them new{again}; there are {len(known)} "
        f"in all, in {clusters} clusters of near-duplicates.\n"
        f"{counted(len(like), 'recorded question')} like them will not be trained on.",
        read=len(labels), new=added, probes=len(known), clusters=clusters, like_probe=len(like),
    )  # fmt: skip


@probes.command()
@click.argument("feedback_id", metavar="ID", type=ID)
@click.option("--answer", help="The correct answer, if the correction says it at length.")
@standard_options
def accept(config: Config, feedback_id: int, answer: str | None) -> None:
    """Make a correction that a client gave a label; `ttrl feedback list` has its ID."""
    from ttrl.answers.bounded import BoundedReader
    from ttrl.answers.phrases import phrases

    with open_store(config) as store:
        correction, question = store.feedback.correction(feedback_id)
        if store.feedback.closed(question) is State.TRAINED:
            fail("the question, or a near-duplicate, was trained on: it cannot be a probe")
        if answer is None:
            reader = BoundedReader(config.vote.kind, table=phrases(config.vote.phrases))
            (answer,) = reader.read(question.text, [correction]).answers
        if not answer:
            fail("no answer can be read in the correction; give it with --answer")
        store.probes.add([Label(question, (answer,), None, ())])
        store.feedback.accept(feedback_id)
    tell(f"The label is {plain(answer).plain}.", answer=answer)


@probes.command("list")
@click.option("--traffic", is_flag=True, help="The held-out questions that the gate asks now.")
@standard_options
def list_probes(config: Config, traffic: bool) -> None:
    """List labelled probes, or held-out ones, and how many gates have seen each."""
    from jobs.probes import traffic as sampled

    with look_store(config) as store:
        labelled = store.probes.labelled()
        if traffic:
            held_out = sampled(store, config.gate, labelled)
            rows = [_row(row, added=row.first_seen) for row in held_out]
        else:
            rows = [
                _row(
                    probe,
                    added=probe.added,
                    tags=probe.tags,
                    origin=probe.origin,
                    answers=probe.accepted,
                    rejected=probe.rejected,
                    refuse=probe.refuse,
                )
                for probe in labelled
            ]
    empty = "No questions are held out yet." if traffic else "There are no labelled probes."
    list_rows(
        rows,
        "id",
        ("origin", lambda row: row.get("origin", "traffic")),
        ("seen by", "exposures"),
        ("tags", lambda row: ", ".join(row.get("tags", ()))),
        ("right", _right),
        "question",
        empty=empty,
    )
    if rows and not wants_json():
        tags = Counter(tag for row in rows for tag in row.get("tags", ()))
        by_tag = ", ".join(f"{count} {tag}" for tag, count in sorted(tags.items()))
        say(f"{counted(len(rows), 'probe')}{': ' if by_tag else ''}{by_tag}")


@probes.command()
@click.argument("ids", type=ID, nargs=-1)
@click.option("--tag", help="Every probe with this tag.")
@click.option("--all", "everything", is_flag=True, help="Every labelled probe.")
@yes_option
@standard_options
def remove(
    config: Config, ids: tuple[int, ...], tag: str | None, everything: bool, yes: bool
) -> None:
    """Delete labelled probes. Questions that are like none of the others can be trained on
    again."""
    if bool(ids) + bool(tag) + everything != 1:
        raise click.UsageError("give probe ids, --tag or --all")
    with open_store(config) as store:
        found = store.probes.labelled()
        chosen = [p.id for p in found if everything or p.id in ids or tag in p.tags]
        if unknown := sorted(set(ids) - {p.id for p in found}):
            names = ", ".join(map(str, unknown))
            fail(f"there is no probe {names}; see `ttrl probes list`")
        if not chosen:
            fail("no probe matches; see `ttrl probes list`")
        if everything and not yes:
            click.confirm(f"Delete {counted(len(chosen), 'probe')}?", abort=True, err=True)
        count = store.forgetting.delete_probes(chosen)
        store.questions.reconsider()
    tell(f"{counted(count, 'probe')} deleted.", forgotten=count)


def _row(probe: LabelledProbe | StoredQuestion, **known: object) -> dict[str, Any]:
    question = probe.question
    return {
        "id": probe.id,
        "exposures": probe.exposures,
        "cluster": question.cluster,
        "body": question.body,
        "question": question.text,
        **known,
    }


def _right(row: Mapping[str, Any]) -> str:
    known = [REFUSE[row.get("refuse")], *row.get("answers", ())]
    if not row.get("answers"):
        known += [f"not {answer}" for answer in row.get("rejected", ())]
    return shorten(" or ".join(filter(None, known)), RIGHT)


@click.command()
@click.option(
    "--list",
    "listed",
    is_flag=True,
    help="List the pairs that wait for a label, instead of prompting.",
)
@click.option(
    "--judge",
    type=(int, click.Choice(list(WORDS))),
    metavar=f"ID {'|'.join(WORDS)}",
    help="Judge one pair, instead of prompting.",
)
@click.option("--answer", default="", help="The correct answer, with --judge ID neither.")
@standard_options
def label(config: Config, listed: bool, judge: tuple[int, str] | None, answer: str) -> None:
    """Judge answers to questions of your users: where the live version and a candidate disagree,
    and a few at random. Which side is which is not shown. The question becomes a labelled probe.
    `neither` records that both answers are wrong; if you give the correct answer as well, the
    label decides about every other answer, too.

    \b
    ttrl label                          one after the other, by single keys
    ttrl label --list --json            for programs
    ttrl label --judge 7 a              A is right in pair 7
    ttrl label --judge 7 neither --answer 42
    """
    if answer and (judge is None or judge[1] != "neither"):
        raise click.UsageError("--answer needs `--judge ID neither`")
    if listed and judge:
        raise click.UsageError("give either --list or --judge")
    with open_store(config) as store:
        if judge is not None:
            pair_id, word = judge
            stored = store.comparisons.get(pair_id)
            before = next((each for each in WORDS if judged(stored, each) == stored.judged), None)
            known = operations.judge(store, pair_id, word, answer)
            labelled = known is not None and bool(known.accepted or known.rejected)
            again = f" (before: {before})" if before else ""
            is_probe = " Its question is now a labelled probe." if labelled else ""
            words = f"Pair {pair_id}: recorded as {word}{again}.{is_probe}"
            tell(words, id=pair_id, judged=word, before=before, probe=labelled)
            _confirm(store, config, after_one=True)
            return
        waiting = store.comparisons.waiting()
        if wants_json():
            print_json([pair_report(stored) for stored in waiting])
        elif not waiting:
            why = "no run's candidate has reached the gate yet"
            if store.comparisons.history():
                why = "every pair has been judged"
            click.echo(f"There is nothing to label: {why}. The next run may add more.")
        elif listed:
            for stored in waiting:
                _show(Console(), stored, f"pair {stored.id}")
        else:
            _ask(store, waiting)
            _confirm(store, config)


def _confirm(store: Store, config: Config, *, after_one: bool = False) -> None:
    """Let those of the versions that wait serve that the judgements prove better, and say how it
    stands; not after each single judgement, which would tell which side was which."""
    from jobs.probes import confirm

    waiting = {stored.run_id for stored in store.comparisons.waiting()}
    for verdict in confirm(store, config.gate):
        name = verdict.adapter
        if not verdict.but:
            click.echo(f"{name} is proven better by your labels ({verdict.certainty}).", err=True)
            settle(config, store, name)
        elif not after_one or verdict.run_id not in waiting:
            click.echo(f"{name} is held: {verdict.but}.", err=True)


def _ask(store: Store, waiting: Sequence[StoredPair]) -> None:
    console, at = Console(), 0
    while at < len(waiting):
        _show(console, waiting[at], f"{at + 1} of {len(waiting)}")
        key = _key()
        if key == "q":
            break
        if key == "u":
            at = max(0, at - 1)
            with suppress(NotFound):  # its question has been deleted meanwhile
                operations.judge(store, waiting[at].id, None)
        else:
            typed = ""
            if key == "n":
                prompt = "Correct answer? (Enter: only record that this one is wrong)"
                typed = str(click.prompt(prompt, default="", show_default=False)).strip()
            word = next(each for each, its in WORDS.items() if its == key)
            try:
                operations.judge(store, waiting[at].id, word, typed)
            except NotFound:
                click.echo("Its question has been deleted meanwhile; nothing was recorded.")
            at += 1
    click.echo(f"{at} of {len(waiting)} judged. All judgements are saved.")


def _key() -> str:
    click.echo(KEYS)
    while True:
        try:
            key = click.getchar().lower()
        except OSError:
            fail("cannot prompt: there is no terminal; use --list and --judge")
        if key in {"u", "q", *WORDS.values()}:
            return key
        if not key:  # the input has ended
            return "q"


def _show(console: Console, stored: StoredPair, progress: str) -> None:
    pair = pair_report(stored)
    said = turns(pair["body"])  # if there are several, each with who said it
    asked = "\n\n".join(f"{role}: {text}" if len(said) > 1 else text for role, text in said)
    console.rule(progress)
    console.print(Panel(plain(asked), title="question"))
    a, b = (plain(pair[side]["text"] or "(no readable answer)") for side in "ab")
    grid = Table.grid(Column(ratio=1), Column(ratio=1), expand=True, padding=(0, 1))
    grid.add_row(Panel(a, title="A"), Panel(b, title="B"))
    console.print(Panel(a, title=SAME) if a == b else grid)


@click.group()
def feedback() -> None:
    """List and export what clients say of answers. `ttrl probes accept` makes a correction a
    label."""


@feedback.command("list")
@limit_option
@click.option("--state", type=click.Choice(list(map(str, State))), help="Only in this state.")
@standard_options
def list_feedback(config: Config, limit: int, state: str | None) -> None:
    """The newest first."""
    with look_store(config) as store:
        rows = list(map(_feedback_row, store.feedback.each(state, limit)))
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
            row = _feedback_row(each)
            out.write(json.dumps(row if keys else row | {"client": None}) + "\n")
    click.echo(f"{counted(count, 'piece')} of feedback exported.", err=True)


def _feedback_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Feedback with what its question asks; not the receipt's hash, by which it could be
    told whose answer it was."""
    body = row["body"]
    hidden = ("answer", "body")
    fields = {name: value for name, value in row.items() if name not in hidden}
    return fields | {"question": body and Question(body, "").text}
