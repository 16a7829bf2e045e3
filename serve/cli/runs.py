"""`ttrl runs`, and following a run on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from serve.cli import Group
from serve.cli.common import (
    ID,
    NOT_RUNNING,
    PATH,
    ask_daemon,
    config_options,
    look_store,
    standard_options,
)
from serve.cli.output import echo_fields, fail, found_or_fail, print_json, print_table, tell
from serve.views import run_report, verdicts
from ttrl import events
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.engine.pacing import Pause, Resume
from ttrl.events import Event, Probed, Step
from ttrl.monitoring.run import Ruling
from ttrl.store import Store
from ttrl.store.runs import Run, RunState

SHOWN_STEPS = 12
HEADINGS = (
    "step", "agree", "has signal", "cut off", "tokens each", "mismatch", "effective", "seconds",
)  # fmt: skip
STYLES = {
    RunState.PUBLISHED: "green",
    RunState.FAILED: "red",
    RunState.ABORTED: "red",
    RunState.REJECTED: "red",
}


@click.group(cls=Group)
def runs() -> None:
    """Manage runs."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@standard_options
def list_(config: Config, limit: int, as_json: bool) -> None:
    """The newest runs first."""
    with look_store(config) as store:
        newest = store.runs.newest(limit)
    if as_json:
        print_json([run_report(run) for run in newest])
        return
    headings = ("run", "trigger", "state", "steps", "samples", "adapter", "ended", "reason")
    rows = (
        (run.id, run.trigger, run.state, run.steps, run.samples, run.adapter,
         run.finished and clock(run.finished), run.reason)
        for run in newest
    )  # fmt: skip
    print_table(headings, rows)


@runs.command()
@click.argument("run_id", type=ID)
@standard_options
def show(config: Config, run_id: int, as_json: bool) -> None:
    """Show one run with the gate's evidence, and why the run monitor stopped it, if it did."""
    with look_store(config) as store:
        with found_or_fail():
            run = run_report(store.runs.get(run_id))
        run["verdicts"] = verdicts(store, run_id)
        seen = events.observed(store, run_id)
    run["guard"] = next((event for event in seen if isinstance(event, Ruling)), None)
    print_json(run) if as_json else echo_fields(run)


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

    with found_or_fail():
        page = run_page(store, run_id)
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        fail(f"cannot write {file}: {error.strerror}")
    click.echo(f"Wrote the report of run {run_id} to {file}.", err=True)


@runs.command()
@standard_options
def stop(config: Config, as_json: bool) -> None:
    """Stop the run in progress; users are served as before."""
    answer = ask_daemon(config, "POST", "/admin/runs/stop")
    if answer is None:
        fail("no daemon is running on this state directory", code=NOT_RUNNING)
    words = "Stopped." if answer["stopped"] else "There is no run in progress."
    tell(as_json, words, stopped=answer["stopped"])


@contextmanager
def following(store: Store, run_id: int, *, silent: bool) -> Iterator[Callable[[], Run]]:
    """Hands over what looks at a run in the store, whoever carries it out, and shows what is new of
    it on standard error: a board on a terminal, else a line for each step and pause; nothing when
    `silent`."""
    console, last = Console(stderr=True), 0
    board = Board(console) if console.is_terminal and not silent else None

    def look() -> Run:
        nonlocal last
        run = store.runs.get(run_id)  # first: once it has ended, there is nothing more to come
        news = store.runs.observed(after=last, run_id=run_id)
        last = news[-1].id if news else last
        seen = [event for row in news if (event := events.read(row))]
        if board is not None:
            board.show(run, seen)
        elif not silent:
            for line in filter(None, map(_line, seen)):
                click.echo(line, err=True)
        return run

    with board.live if board is not None else nullcontext():
        yield look


class Board:
    """A run's stage, a bar for its steps and one for its probes, and the newest steps."""

    def __init__(self, console: Console) -> None:
        self.live = Live(console=console, refresh_per_second=4)
        self._steps: list[Step] = []
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._paused = False

    def show(self, run: Run, news: Sequence[Event]) -> None:
        for event in news:
            match event:
                case Step():
                    self._steps.append(event)
                    self._bar("update", event.step, event.steps)
                case Probed():
                    self._bar("probes", event.done, event.of)
                case Pause() | Resume():
                    self._paused = isinstance(event, Pause)
        columns = [Column(heading, justify="right") for heading in HEADINGS]
        steps = Table(*columns, box=None, pad_edge=False)
        for step in self._steps[-SHOWN_STEPS:]:
            steps.add_row(*_step_cells(step))
        state = f"{run.state}, pausing" if self._paused else run.state
        style = STYLES.get(run.state, "cyan")
        whole = Table.grid(padding=(0, 1))
        whole.add_row(steps)
        whole.add_row(self._bars)
        self.live.update(Panel(whole, title=f"run {run.id}: {state}", border_style=style))

    def _bar(self, name: str, done: float, of: float) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=of)
        self._bars.update(self._tasks[name], completed=done)


def _line(event: Event) -> str | None:
    match event:
        case Step():
            step, agree, _, cut, _, mismatch, effective, seconds = _step_cells(event)
            return (
                f"step {step}: {agree} agree, {cut} cut off, mismatch {mismatch} nats, "
                f"effective {effective}, {seconds} s"
            )
        case Pause():
            return f"pausing: {event.waiting:.0f} answers wait in the engine"
        case Resume():
            return f"resuming after {event.seconds:.0f} s"
    return None


def _step_cells(step: Step) -> tuple[str, ...]:
    """One for each of HEADINGS."""
    return (
        f"{step.step}/{step.steps}",
        f"{step.share:.0%}",
        f"{step.informative:.0%}",
        f"{step.cut:.0%}",
        f"{step.length:.0f}",
        "-" if step.mismatch is None else f"{step.mismatch:.1e}",
        "-" if step.effective is None else f"{step.effective:.0%}",
        f"{step.seconds:.1f}",
    )
