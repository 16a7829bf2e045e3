"""`ttrl runs`, and following a run on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)

from serve.cli import Group
from serve.cli.common import (
    ID,
    PATH,
    ask_daemon,
    config_options,
    limit_option,
    look_store,
    no_daemon,
    standard_options,
)
from serve.cli.output import QUIET_SECONDS, how_far, list_rows, show_fields, tell, wants_json
from serve.views import judge_cost, run_report, verdicts
from ttrl import events
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.engine.pacing import Pause, Resume
from ttrl.events import Event, Probed, Step
from ttrl.monitoring.run import Ruling
from ttrl.store import Store
from ttrl.store.runs import Run, RunState
from ttrl.words import counted, lasting


@click.group(cls=Group)
def runs() -> None:
    """Manage runs."""


@runs.command("list")
@limit_option
@standard_options
def list_(config: Config, limit: int) -> None:
    """The newest runs first."""
    with look_store(config) as store:
        rows = [run_report(run) for run in store.runs.newest(limit)]
    ended = "ended", lambda row: row["finished"] and clock(row["finished"])[:16]
    # No more of them, so that there is room for the reason.
    columns = (("run", "id"), "state", "steps", "adapter", ended, "reason")
    list_rows(rows, *columns)


@runs.command()
@click.argument("run_id", type=ID)
@standard_options
def show(config: Config, run_id: int) -> None:
    """Show one run with the gate's evidence, and why the run monitor stopped it, if it did."""
    with look_store(config) as store:
        run = run_report(store.runs.get(run_id))
        run["verdicts"] = verdicts(store, run_id)
        seen = events.observed(store, run_id)
        asked = store.votes.instructions(run_id)
    run["instructions"] = [
        {"instruction": text, "votes": count, "of": sum(asked.values())}
        for text, count in asked.items()
        if text is not None
    ]
    run["judge"] = judge_cost(seen)
    run["guard"] = next((event for event in seen if isinstance(event, Ruling)), None)
    show_fields(run)


@runs.command()
@click.argument("run_id", type=ID)
@click.argument("file", type=PATH)
@config_options
def report(config: Config, run_id: int, file: Path) -> None:
    """Write a report of a run to FILE (HTML): the gate's evidence, the worst changes, the steps."""
    with look_store(config) as store:
        write_report(store, run_id, file)


def write_report(store: Store, run_id: int, file: Path) -> None:
    from serve.web.html import run_page

    file.write_text(run_page(store, run_id), encoding="utf-8")
    click.echo(f"Wrote the report of run {run_id} to {file}.", err=True)


@runs.command()
@standard_options
def stop(config: Config) -> None:
    """Stop the run in progress; users are served as before."""
    answer = ask_daemon(config, "POST", "/admin/runs/stop")
    if answer is None:
        no_daemon(config)
    words = "Stopped." if answer["stopped"] else "There is no run in progress."
    tell(words, stopped=answer["stopped"])


@contextmanager
def following(store: Store, run_id: int) -> Iterator[Callable[[], Run]]:
    """Hands over what looks at a run in the store, whoever carries it out, and shows what is new of
    it on standard error: a line for each step and pause, and on a terminal bars for its steps and
    its probes, else a line after each minute of silence; nothing with --json."""
    console, last = Console(stderr=True, quiet=wants_json(), highlight=False), 0
    said, probed, probing = time.monotonic(), None, 0.0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    shown = console.is_terminal and not wants_json()
    bars = Progress(*columns, TimeElapsedColumn(), console=console, disable=not shown)
    steps = bars.add_task("update", total=None)
    probes = bars.add_task("probes", total=None, visible=False)

    def look() -> Run:
        nonlocal last, said, probed, probing
        run = store.runs.get(run_id)  # first: once it has ended, there is nothing more to come
        for row in store.runs.observed(after=last, run_id=run_id):
            last, event = row.id, events.read(row)
            if isinstance(event, Step):
                bars.update(steps, completed=event.step, total=event.steps)
            elif isinstance(event, Probed):
                bars.update(probes, completed=event.done, total=event.of, visible=True)
                if probed is None or event.done <= probed.done:  # others are asked now
                    probing = row.at
                probed = event
            if line := _line(event):
                console.print(line, markup=False, soft_wrap=True)
                said = time.monotonic()
        if not shown and time.monotonic() - said >= QUIET_SECONDS:
            said = time.monotonic()
            samples = sum(store.votes.layers(run_id).values())
            line = so_far(run, samples, bars.tasks[0].total, probed, probing, time.time())
            console.print(line, markup=False, soft_wrap=True)
        return run

    with bars:
        yield look


def so_far(
    run: Run, samples: int, steps: float | None, probed: Probed | None, probing: float, now: float
) -> str:
    """Return where a run is at the time `now`, for who waits; `steps` are those of all of it, None
    before the first, and its probes are asked since the time `probing`."""
    seconds = now - (run.started or run.created)
    if run.state is RunState.UPDATING:
        far = how_far(f"run {run.id}, steps", run.steps, steps, seconds)
        return f"{far}; {counted(samples, 'sample')} so far"
    if probed:
        return how_far(f"run {run.id}, answers to probes", probed.done, probed.of, now - probing)
    return f"run {run.id}: {run.state}, {lasting(seconds)} after it began"


def _line(event: Event | None) -> str | None:
    match event:
        case Step():
            mismatch, effective = event.mismatch, event.effective
            parts = (
                f"{event.share:.0%} agree",
                f"{event.informative:.0%} have a signal",
                f"{event.cut:.0%} cut off",
                f"{event.length:.0f} tokens each",
                "" if mismatch is None else f"mismatch {mismatch:.1e} nats",
                "" if effective is None else f"effective {effective:.0%}",
                "one step stale" if event.staleness else "",
                f"{event.seconds:.1f} s",
            )
            return f"step {event.step}/{event.steps}: {', '.join(filter(None, parts))}"
        case Pause():
            return f"pausing: {counted(round(event.waiting), 'answer')} waiting in the engine"
        case Resume():
            return f"resuming after {event.seconds:.0f} s"
    return None
