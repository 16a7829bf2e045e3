"""`ttrl measure` and `ttrl assess`: ask the engine much, and train nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from jobs import measure as measure_job
from jobs.measure import Assessment, Measured
from serve import views
from serve.cli.common import (
    Resolve,
    ask_daemon,
    counted,
    open_store,
    print_json,
    run_config,
    standard_options,
)
from serve.cli.daemon import waiting, with_model
from serve.gateway.live import BASE
from ttrl import logs
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.evaluation.drift import Shift
from ttrl.evaluation.estimates import Quality
from ttrl.store import Store


@click.command()
@click.option("--model", help="The base model, if no daemon is running.")
@standard_options
def measure(resolve: Resolve, model: str | None, as_json: bool) -> None:
    """Sample the live version on every probe, and report how good its answers are and whether the
    questions have drifted. The daemon does this once a day, and so does the gate of each run."""

    def work(client: EngineClient, _live: str, own_store: Store | None) -> None:
        if own_store is None:
            with open_store(config) as store:
                work(client, _live, store)
            return
        with _progress("asking", as_json) as progress:
            found = measure_job.run(config, own_store, client, progress)
        print_json(asdict(found)) if as_json else click.echo("\n".join(_lines(found)))

    config, _ = run_config(resolve({"model.name": model}))
    _with_engine(config, work)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", help="The base model, if no daemon is running.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Number of questions to vote on, drawn at random.",
)
@standard_options
def assess(resolve: Resolve, file: Path, model: str | None, limit: int, as_json: bool) -> None:
    """Read a log of questions (JSONL or plain lines) and estimate what share of them has a
    training signal for the live version, and what a run would cost. Nothing is trained or
    recorded."""
    from ttrl import datasets

    def work(client: EngineClient, live: str, _: Store | None) -> None:
        version = None if live == BASE else live
        with _progress("voting", as_json) as progress:
            found = measure_job.assess(
                client, config, questions, version=version, limit=limit, progress=progress
            )
        print_json(asdict(found)) if as_json else click.echo(_words(found))

    config, _ = run_config(resolve({"model.name": model}))
    questions = datasets.read_questions(file, max_chars=config.record.max_chars)
    _with_engine(config, work)


def _with_engine(config: Config, work: Callable[[EngineClient, str, Store | None], None]) -> None:
    """Do work with the engine of the running daemon, or else with one of our own and its store; it
    is told which version serves."""
    status = ask_daemon(config, "GET", "/admin/status")
    if status is not None:
        with EngineClient(
            status["engine_url"],
            api_key=config.engine.api_key,
            timeout=config.engine.request_timeout.total_seconds(),
            retries=config.engine.retries,
        ) as client:
            work(client, status["live"], None)
        return
    with_one = with_model(config)
    logs.configure("warning")

    async def alone() -> None:
        from serve.daemon.core import core

        async with core(with_one) as parts:
            await parts.engine.start(waiting("the engine is starting"))
            live = parts.live.current.version
            await asyncio.to_thread(work, parts.engine.client, live, parts.store)

    asyncio.run(alone())


@contextmanager
def _progress(what: str, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    console = Console(stderr=True)
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def _lines(found: Measured) -> list[str]:
    return [
        f"version      {found.version or BASE}",
        *(["quality      there are no probes"] if found.quality is None else of(found.quality)),
        *([f"left out     {found.remarks}"] if found.remarks else []),
        f"questions    {_moved(found.questions)}",
    ]


def of(quality: Quality) -> list[str]:
    """A line for each thing that is known."""
    lines = [
        f"asked        {counted(quality.questions, 'question')}, {quality.labelled} labelled",
        f"agreement    {quality.agreement:.1%} of the answers match their majority",
        f"consistency  {quality.consistency:.1%} of answer pairs agree",
        f"answers      {quality.tokens:.0f} tokens, {quality.seconds:.2g} s; "
        f"{quality.readable:.1%} readable, {quality.refused:.1%} declined",
    ]
    numbers = quality.numbers()
    if quality.right is not None:
        lines.append(
            f"labelled     {views.share(numbers['right'], 1)} correct (pass@1), "
            f"{quality.pass_at_k:.1%} with a correct one among all, {quality.majority_right:.1%} "
            f"correct majorities"
        )
    if quality.estimate is None:
        lines.append(f"accuracy     not known: {views.withheld(numbers)}")
    else:
        lines.append(
            f"accuracy     {views.share(numbers['estimate'], 1)} correct on the traffic, "
            f"by {counted(quality.estimate.labels, 'label')}"
        )
        if open_ := views.undecided(numbers):
            lines.append(f"             {open_}")
    tags = (f"{tag} {each.value:.1%}" for tag, each in quality.tags.items())
    return [*lines, *(f"tag          {tag}" for tag in tags)]


def _moved(shift: Shift | None) -> str:
    if shift is None:
        return "too few questions to detect drift"
    words = "have shifted" if shift.moved else "have not shifted"
    return f"{words} (PSI {shift.psi:.2f}; by chance up to {shift.by_chance:.2f})"


def _words(found: Assessment) -> str:
    worth = "Worth a run." if found.worth_it else "Not worth a run: too little training signal."
    reasons = ", ".join(f"{reason} {count}" for reason, count in found.no_label_reasons.items())
    failed = f"  {found.failed} got no answer from the engine\n" if found.failed else ""
    return (
        f"Of {found.questions} questions, {found.asked} were voted on:\n"
        f"  {found.teachable:.0%} have a training signal (a majority, and answers that "
        f"differ from it)\n"
        f"  {found.unanimous:.0%} are already unanimous\n"
        f"  {found.no_label:.0%} have no majority label"
        + (f" ({reasons})" if reasons else "")
        + "\n"
        f"  the majority answer has {found.mean_share:.0%} of the samples on average\n"
        f"  {found.cut_off_words or f'{found.cut_off:.0%} of the samples were cut off'}\n"
        f"{failed}"
        f"A run over them draws about {found.samples_per_run} samples of "
        f"{found.tokens_per_sample:.0f} tokens; sampling alone takes about "
        f"{found.seconds_per_run:.0f} s at the speed measured here.\n{worth}"
    )
