"""`ttrl label`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import click
from rich.console import Console
from rich.panel import Panel
from rich.table import Column, Table

from serve import operations
from serve.cli.common import open_store, settle, standard_options
from serve.cli.output import fail, plain, print_json, tell, wants_json
from serve.views import WORDS, judged, pair_report, turns
from ttrl.config import Config
from ttrl.store import Store
from ttrl.store.database import NotFound
from ttrl.store.probes import StoredPair

SAME = "one answer; is it right? (=: yes, n: no)"
KEYS = "a: A is right   b: B   =: both   n: neither   ?: cannot tell   u: undo the last   q: quit"


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
            _judge_one(store, *judge, answer)
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


def _judge_one(store: Store, pair_id: int, word: str, answer: str) -> None:
    stored = store.comparisons.get(pair_id)
    before = next((each for each in WORDS if judged(stored, each) == stored.judged), None)
    known = operations.judge(store, pair_id, word, answer)
    labelled = known is not None and bool(known.accepted or known.rejected)
    again = f" (before: {before})" if before else ""
    is_probe = " Its question is now a labelled probe." if labelled else ""
    words = f"Pair {pair_id}: recorded as {word}{again}.{is_probe}"
    tell(words, id=pair_id, judged=word, before=before, probe=labelled)


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
    """One after the other; each judgement is written down at once."""
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
