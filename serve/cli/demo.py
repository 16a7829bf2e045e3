"""`ttrl demo`."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from serve import demo as steps
from serve.cli.common import fail, json_option, print_json
from serve.demo import Daemon, DemoFailed, Score
from serve.state import StateDirError, prepare
from ttrl.config import EngineKind
from ttrl.demo.questions import Problem
from ttrl.store import Store
from ttrl.store.runs import Run, RunState


@click.command()
@click.option(
    "--engine",
    type=click.Choice([kind.value for kind in EngineKind]),
    default=EngineKind.EMBEDDED.value,
    show_default=True,
    help="What answers. vLLM must be installed, or engine.python name a Python that has it.",
)
@click.option("--seed", default=0, show_default=True, help="Of the questions and of the run.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Keep what happens here.")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="As in `ttrl serve`.")
@json_option
def demo(
    engine: str, seed: int, state_dir: Path | None, settings: tuple[str, ...], as_json: bool
) -> None:
    """See the whole thing work on this machine, in minutes, on a small model.

    Starts the daemon, asks it 200 questions over HTTP, adapts on them without any label, and asks
    held-out questions before and after. The right answers are for the table at the end only.
    """
    # So that the daemon is stopped and the directory removed, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    began = time.monotonic()
    console = Console(stderr=as_json, quiet=as_json, highlight=False)
    try:
        all_settings = (*steps.ENGINES[EngineKind(engine)], *settings)
        with _directory(state_dir) as directory, steps.daemon(directory, all_settings) as daemon:
            result = _run(daemon, seed, console, as_json=as_json)
    except (DemoFailed, StateDirError) as error:
        fail(str(error))
    result["seconds"] = round(time.monotonic() - began, 1)
    console.print(_table(result))
    console.print(
        f"{result['learned']} learned, {result['corrupted']} corrupted; {result['steps']} steps, "
        f"{result['samples']} samples; {result['seconds']:.0f} s in all; "
        f"adapter {result['adapter']}"
    )
    if as_json:
        print_json(result)
    if result["run"] != RunState.PUBLISHED:
        fail(f"the run did not publish anything, it ended {result['run']}: {result['reason']}")


def _run(daemon: Daemon, seed: int, console: Console, *, as_json: bool) -> dict[str, Any]:
    asked, held_out = steps.problems(seed)
    console.print(f"`ttrl serve` answers at {daemon.url}/v1")
    share, version = asyncio.run(steps.ask_all(daemon, asked))
    console.print(f"asked {len(asked)} questions: {share:.0%} answered rightly (by {version})")
    _show_some(daemon, held_out, console)
    before = asyncio.run(steps.score(daemon, held_out))
    known = [(0.0, before.greedy_share), (1.0, before.pass_at_1)]
    heat, best = asyncio.run(steps.best_temperature(daemon, held_out, known))
    console.print(
        f"{len(held_out)} held-out questions: no temperature does better than {best:.0%} ({heat:g})"
    )
    console.print("`ttrl adapt` learns from the recorded questions; nobody labelled them")
    steps.adapt(daemon, seed, silent=as_json)
    run = _last_run(daemon.state_dir)
    share, version = asyncio.run(steps.ask_all(daemon, asked))
    console.print(f"the same {len(asked)} questions: {share:.0%} answered rightly (by {version})")
    _show_some(daemon, held_out, console)
    after = asyncio.run(steps.score(daemon, held_out))
    return _result(len(asked), before, after, (heat, best), run, version)


def _result(
    questions: int,
    before: Score,
    after: Score,
    best: tuple[float, float],
    run: Run,
    version: str,
) -> dict[str, Any]:
    changed = steps.changed(before, after)
    return {
        "questions": questions,
        "greedy_before": before.greedy_share,
        "greedy_after": after.greedy_share,
        "pass_at_1_before": round(before.pass_at_1, 4),
        "pass_at_1_after": round(after.pass_at_1, 4),
        "best_temperature_before": round(best[1], 4),
        "best_temperature": best[0],
        "majority_before": before.majority,
        "majority_after": after.majority,
        "learned": changed["learned"],
        "corrupted": changed["corrupted"],
        "steps": run.steps,
        "samples": run.samples,
        "run": run.state,
        "reason": run.reason,
        "adapter": version,
    }


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="held-out questions, before and after")
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="left" if not heading else "right")
    rows = (
        ("most likely answer is right", "greedy"),
        ("one answer at temperature 1 is right", "pass_at_1"),
        (f"majority of {steps.VOTES} is right", "majority"),
    )
    for name, key in rows:
        table.add_row(name, f"{result[f'{key}_before']:.0%}", f"{result[f'{key}_after']:.0%}")
    table.add_row("best at any temperature", f"{result['best_temperature_before']:.0%}", "")
    return table


def _show_some(daemon: Daemon, held_out: tuple[Problem, ...], console: Console) -> None:
    for problem, text in asyncio.run(steps.examples(daemon, held_out[:2])):
        console.print(f"  {problem.prompt} → {text}", style="dim", markup=False)


def _last_run(state_dir: Path) -> Run:
    with Store.open(state_dir) as store:
        newest = store.runs.newest()
    if not newest:
        raise DemoFailed(f"no run was started; see {state_dir}")
    return newest[0]


@contextmanager
def _directory(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        prepare(chosen)
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="ttrl-demo-") as made:
        yield Path(made)
