"""`ttrl measure`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click
from rich.console import Console
from rich.progress import Progress

from jobs import measure as job
from jobs.measure import Measured
from serve import accuracy
from serve.cli.common import (
    Resolve,
    ask_daemon,
    config_options,
    counted,
    json_option,
    open_store,
    print_json,
    run_config,
    sentences,
)
from serve.cli.daemon import waiting, with_model
from ttrl import logs
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.psi import Shift
from ttrl.quality import Quality
from ttrl.store import Store


@click.command()
@click.option("--model", help="The base model, when no daemon runs.")
@json_option
@config_options
def measure(resolve: Resolve, model: str | None, as_json: bool) -> None:
    """Ask the version that serves every probe, and say how good its answers are and whether the
    questions have moved. A daemon does so by itself once a day, and each run's gate does."""
    with sentences():
        config, _ = run_config(resolve({"model.name": model}))
        status = ask_daemon(config, "GET", "/admin/status")
        if status is None:
            config = with_model(config)
            logs.configure("warning")
            asyncio.run(_alone(config, as_json))
            return
        client = EngineClient(status["engine_url"], api_key=config.engine.api_key)
        with client, open_store(config) as store:
            _measure(config, store, client, as_json)


async def _alone(config: Config, as_json: bool) -> None:
    from serve.core import core

    async with core(config) as parts:
        await parts.start(waiting("the engine is starting"))
        await asyncio.to_thread(_measure, config, parts.store, parts.engine.client, as_json)


def _measure(config: Config, store: Store, client: EngineClient, as_json: bool) -> None:
    console = Console(stderr=True)
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("asking", total=None)
        found = job.run(
            config, store, client, lambda done, of: progress.update(task, completed=done, total=of)
        )
    print_json(asdict(found)) if as_json else click.echo("\n".join(_lines(found)))


def _lines(found: Measured) -> list[str]:
    return [
        f"version      {found.version or 'base'}",
        *(["quality      there are no probes"] if found.quality is None else of(found.quality)),
        f"questions    {_moved(found.questions)}",
    ]


def of(quality: Quality) -> list[str]:
    """A line for each thing that is known."""
    lines = [
        f"asked        {counted(quality.questions, 'question')}, {quality.labelled} labelled",
        f"agreement    {quality.agreement:.1%} of the answers are their majority",
        f"consistency  {quality.consistency:.1%} of two answers are the same",
        f"answers      {quality.tokens:.0f} tokens, {quality.seconds:.2g} s; "
        f"{quality.readable:.1%} readable, {quality.refused:.1%} declined",
    ]
    numbers = quality.numbers()
    if quality.right is not None:
        lines.append(
            f"labelled     {accuracy.share(numbers['right'], 1)} right (pass@1), "
            f"{quality.pass_at_k:.1%} with a "
            f"right one among all, {quality.majority_right:.1%} right majorities"
        )
    if quality.estimate is None:
        lines.append(f"accuracy     not known: {accuracy.withheld(numbers)}")
    else:
        lines.append(
            f"accuracy     {accuracy.share(numbers['estimate'], 1)} right on the traffic, "
            f"by {counted(quality.estimate.labels, 'label')}"
        )
    tags = (f"{tag} {each.value:.1%}" for tag, each in quality.tags.items())
    return [*lines, *(f"tag          {tag}" for tag in tags)]


def _moved(shift: Shift | None) -> str:
    if shift is None:
        return "too few, new or old, to say whether they move"
    words = "have moved" if shift.moved else "are what they were"
    return f"{words} (PSI {shift.psi:.2f}; by chance up to {shift.by_chance:.2f})"
