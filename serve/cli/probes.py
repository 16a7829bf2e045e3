"""`ttrl probes`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import click

from serve.cli import Group
from serve.cli.common import ID, PATH, look_store, open_store, standard_options, yes_option
from serve.cli.output import Column, fail, list_rows, plain, say, tell, wants_json
from ttrl.config import Config
from ttrl.evaluation.probes import Apart, Label, LabelledProbe
from ttrl.feedback import State
from ttrl.store.questions import QuestionState, StoredQuestion
from ttrl.words import counted

RIGHT = 40
"""Characters that are shown of what is right for a probe."""
COMMON_IN = 2_000
"""The newest questions, by which it is known what all have in common."""
REFUSE = {True: "to refuse", False: "not to refuse", None: ""}


@click.group(cls=Group)
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
def list_(config: Config, traffic: bool) -> None:
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
    list_rows(rows, *COLUMNS, empty=empty)
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


COLUMNS: tuple[Column, ...] = (
    "id",
    ("origin", lambda row: row.get("origin", "traffic")),
    ("seen by", "exposures"),
    ("tags", lambda row: ", ".join(row.get("tags", ()))),
    ("right", _right),
    "question",
)
