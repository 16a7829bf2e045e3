"""`ttrl runs`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from serve.cli.common import (
    ID,
    NOT_RUNNING,
    Resolve,
    ask_daemon,
    config_options,
    echo_fields,
    fail,
    json_option,
    one_line,
    open_store,
    print_json,
    print_table,
    tell,
)
from serve.status import run_report, verdicts
from ttrl.store import Store
from ttrl.store.runs import Run
from ttrl.times import clock


@click.group()
def runs() -> None:
    """Runs: what was tried, and how it ended."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@json_option
@config_options
def list_(resolve: Resolve, limit: int, as_json: bool) -> None:
    """The newest runs first."""
    with open_store(resolve().config) as store:
        found = store.runs.newest(limit)
    if as_json:
        print_json([run_report(run) for run in found])
        return
    headings = ("run", "trigger", "state", "steps", "samples", "adapter", "ended", "reason")
    print_table(headings, map(_cells, found))


@runs.command()
@click.argument("run_id", type=ID)
@json_option
@config_options
def show(resolve: Resolve, run_id: int, as_json: bool) -> None:
    """One run with the gate's evidence, and what the guard said if it stopped it."""
    with open_store(resolve().config) as store:
        try:
            run = run_report(store.runs.get(run_id))
        except KeyError as error:
            fail(error.args[0])
        run["verdicts"] = verdicts(store, run_id)
        seen = store.runs.observed(run_id=run_id)
    run["guard"] = next((each.numbers for each in seen if each.kind == "guard"), None)
    if as_json:
        print_json(run)
        return
    echo_fields(run)


@runs.command()
@click.argument("run_id", type=ID)
@click.argument("file", type=click.Path(path_type=Path))
@config_options
def report(resolve: Resolve, run_id: int, file: Path) -> None:
    """Write a page about a run to FILE (HTML): the gate's evidence, the worst changes, the
    steps."""
    with open_store(resolve().config) as store:
        write_report(store, run_id, file)


def _cells(run: Run) -> tuple[str | Text, ...]:
    ended = clock(run.finished) if run.finished else ""
    cells = (run.id, run.trigger, run.state, run.steps, run.samples, run.adapter or "", ended)
    return *map(str, cells), one_line(run.reason or "")


def write_report(store: Store, run_id: int, file: Path) -> None:
    """Write the page about a run; a failure ends the command."""
    from serve.report import render

    try:
        file.write_text(render(store, run_id), encoding="utf-8")
    except KeyError as error:
        fail(error.args[0])
    except OSError as error:
        fail(f"cannot write {file}: {error.strerror}")
    click.echo(f"The page about run {run_id} is {file}.", err=True)


@runs.command()
@json_option
@config_options
def stop(resolve: Resolve, as_json: bool) -> None:
    """Stop the run under way; users are served as before."""
    answer = ask_daemon(resolve().config, "POST", "/admin/runs/stop")
    if answer is None:
        fail("no daemon is running on this state directory", code=NOT_RUNNING)
    words = "Stopped." if answer["stopped"] else "There was no run under way."
    tell(as_json, words, stopped=answer["stopped"])
