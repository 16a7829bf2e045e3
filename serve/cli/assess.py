"""`ttrl assess`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from jobs import assess as job
from jobs.assess import Assessment
from serve.cli.common import (
    Resolve,
    ask_daemon,
    config_options,
    fail,
    json_option,
    print_json,
    run_config,
    sentences,
)
from serve.cli.daemon import waiting, with_model
from serve.live import BASE
from ttrl import logs
from ttrl.config import Config
from ttrl.engine.client import EngineClient
from ttrl.questions import Question


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--model", help="The base model, when no daemon runs.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Questions to vote on, at random.",
)
@json_option
@config_options
def assess(resolve: Resolve, file: Path, model: str | None, limit: int, as_json: bool) -> None:
    """Read a log of questions (JSONL or plain lines) and say what share of them a vote could
    teach the version that serves, at what cost, or that it is not worth it. Nothing is trained or
    recorded."""
    from ttrl import questionfile

    resolved = resolve({"model.name": model})
    with sentences():
        config, _ = run_config(resolved)
    try:
        questions = questionfile.read(file, max_chars=config.record.max_chars)
    except questionfile.QuestionsUnreadable as error:
        fail(str(error))
    with sentences():
        status = ask_daemon(config, "GET", "/admin/status")
        if status is not None:
            with EngineClient(status["engine_url"], api_key=config.engine.api_key) as client:
                _assess(client, config, questions, limit, as_json, status["live"])
        else:
            config = with_model(config)
            logs.configure("warning")
            asyncio.run(_alone(config, questions, limit, as_json))


async def _alone(config: Config, questions: list[Question], limit: int, as_json: bool) -> None:
    from serve.core import core

    async with core(config) as parts:
        await parts.start(waiting("the engine is starting"))
        client = parts.engine.client
        live = parts.live.current.version
        await asyncio.to_thread(_assess, client, config, questions, limit, as_json, live)


def _assess(
    client: EngineClient,
    config: Config,
    questions: list[Question],
    limit: int,
    as_json: bool,
    live: str,
) -> None:
    console = Console(stderr=True)
    with Progress(console=console, disable=as_json or not console.is_terminal) as progress:
        task = progress.add_task("voting", total=None)
        found = job.run(
            client,
            config,
            questions,
            version=None if live == BASE else live,
            limit=limit,
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
    print_json(asdict(found)) if as_json else click.echo(_words(found))


def _words(found: Assessment) -> str:
    worth = "Worth a run." if found.worth_it else "Not worth a run: too little to learn from."
    reasons = ", ".join(f"{reason} {count}" for reason, count in found.no_label_reasons.items())
    return (
        f"Of {found.questions} questions, {found.asked} were voted on:\n"
        f"  {found.teachable:.0%} could teach (a majority, and answers that differ from it)\n"
        f"  {found.unanimous:.0%} are unanimous already\n"
        f"  {found.no_label:.0%} give no label" + (f" ({reasons})" if reasons else "") + "\n"
        f"  the majority answer has {found.mean_share:.0%} of the samples on average\n"
        f"A run over all of them draws about {found.samples_per_run} samples of "
        f"{found.tokens_per_sample:.0f} tokens; sampling alone takes about "
        f"{found.seconds_per_run:.0f} s at the speed seen here.\n{worth}"
    )
