"""Following a run in the store, whoever carries it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import click
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ttrl.store import Store
from ttrl.store.runs import Observation, Run, RunState

SHOWN_STEPS = 12
PAUSING = ("pause", "resume")


@dataclass(frozen=True)
class News:
    """What has happened since the last look."""

    run: Run
    observations: list[Observation]


class Follower:
    """Looks at one run."""

    def __init__(self, store: Store, run_id: int) -> None:
        self._store = store
        self._run_id = run_id
        self._last = 0

    def look(self) -> News:
        """The run and what it observed since the last look. The run is read first: once it has
        ended, there is nothing more to come."""
        run = self._store.runs.get(self._run_id)
        observations = self._store.runs.observed(after=self._last, run_id=self._run_id)
        if observations:
            self._last = observations[-1].id
        return News(run, observations)


class Board:
    """A run on a terminal: its stage, a bar, and the newest steps."""

    def __init__(self, console: Console) -> None:
        self._steps: list[Observation] = []
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}
        self._paused = False
        self._live = Live(console=console, refresh_per_second=4)

    def __enter__(self) -> Board:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, news: News) -> None:
        """Draw what is new."""
        for observation in news.observations:
            numbers = observation.numbers
            if observation.kind == "step":
                self._steps.append(observation)
                self._bar("update", numbers["step"], numbers["steps"])
            elif observation.kind == "probe":
                self._bar("probes", numbers["done"], numbers["of"])
            elif observation.kind in PAUSING:
                self._paused = observation.kind == "pause"
        self._live.update(self._draw(news.run))

    def _bar(self, name: str, done: float, of: float) -> None:
        if name not in self._bars:
            self._bars[name] = self._progress.add_task(name, total=of)
        self._progress.update(self._bars[name], completed=done)

    def _draw(self, run: Run) -> Panel:
        whole = Table.grid(padding=(0, 1))
        whole.add_row(_step_table(self._steps[-SHOWN_STEPS:]))
        whole.add_row(self._progress)
        state = f"{run.state}, pausing" if self._paused else run.state
        return Panel(whole, title=f"run {run.id}: {state}", border_style=_colour(run.state))


def _step_table(steps: list[Observation]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("step", "agree", "could teach", "tokens each", "mismatch", "seconds"):
        table.add_column(heading, justify="right")
    for cells in map(_cells, steps):
        table.add_row(*cells)
    return table


def _cells(observation: Observation) -> Iterator[str]:
    numbers = observation.numbers
    yield f"{numbers['step']}/{numbers['steps']}"
    yield f"{numbers['share']:.0%}"
    yield f"{numbers['informative']:.0%}"
    yield f"{numbers.get('completions/mean_length', 0):.0f}"
    yield f"{numbers.get('sampling/sampling_logp_difference/mean', 0):.1e}"
    yield f"{numbers['seconds']:.1f}"


def _pausing(observation: Observation) -> str:
    numbers = observation.numbers
    if observation.kind == "pause":
        return f"pausing: {numbers['waiting']:.0f} answers wait in the engine"
    return f"going on after {numbers['seconds']:.0f} s"


class Lines(AbstractContextManager["Lines"]):
    """A run where there is no terminal: one line a step, and for each pause."""

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def show(self, news: News) -> None:
        """Print what is new."""
        for observation in news.observations:
            if observation.kind == "step":
                step, agree, *_, seconds = _cells(observation)
                click.echo(f"step {step}: {agree} agree, {seconds} s", err=True)
            elif observation.kind in PAUSING:
                click.echo(_pausing(observation), err=True)


class Silence(Lines):
    """For programs, which want the end only."""

    def show(self, news: News) -> None:
        """Show nothing."""


def screen(*, silent: bool) -> Board | Lines:
    """How to show a run here."""
    console = Console(stderr=True)
    if silent:
        return Silence()
    return Board(console) if console.is_terminal else Lines()


def _colour(state: RunState) -> str:
    bad = (RunState.FAILED, RunState.ABORTED, RunState.REJECTED)
    return "red" if state in bad else "green" if state is RunState.PUBLISHED else "cyan"
