"""`ttrl serve`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import click

from serve.cli.common import Resolve, config_options, fail, log_to_stderr, sentences
from ttrl.config import Config, EngineKind


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--model", help="The base model: a directory, or a hub name as vLLM takes it.")
@click.option("--served-name", help="The name that clients use, if not the model's.")
@click.option(
    "--engine",
    type=click.Choice([kind.value for kind in EngineKind]),
    help="Which engine to start.",
)
@click.option("--engine-url", help="Use an engine that is already running.")
@click.option("--host", help="Where to listen; loopback by default.")
@click.option("--port", type=int, help="Where to listen; 8000 by default.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@config_options
def serve(
    resolve: Resolve,
    model: str | None,
    served_name: str | None,
    engine: str | None,
    engine_url: str | None,
    host: str | None,
    port: int | None,
    flags: tuple[str, ...],
) -> None:
    """Stand in front of an engine: answer OpenAI clients, record, learn on a schedule.

    FLAGS after `--` go to vLLM as they are.

    \b
    ttrl serve --model Qwen/Qwen3-8B -- --max-model-len 8192
    ttrl serve --engine-url http://127.0.0.1:8001 --model Qwen/Qwen3-8B
    """
    config = resolve(
        {
            "model.name": model,
            "model.served_name": served_name,
            "engine.kind": engine,
            "engine.url": engine_url,
            "engine.flags": list(flags) or None,
            "gateway.host": host,
            "gateway.port": port,
        }
    ).config
    check_model(config)
    log_to_stderr(config.log_level)
    check_memory(config)
    with sentences():
        _run(config)


def check_model(config: Config) -> None:
    """Refuse a model that is none, before anything starts."""
    name = config.model.name
    if not name:
        fail("which model? Give --model NAME, or model.name in the configuration", code=2)
    path = Path(name)
    if (path.is_absolute() or path.exists()) and not (path / "config.json").is_file():
        fail(f"{name} is not a model directory: there is no config.json in it", code=2)


def check_memory(config: Config) -> None:
    """Refuse an engine of ours that would not fit on the GPU together with the trainer. Beside
    somebody else's, each run looks for itself at what is free."""
    from ttrl.memory.check import MemoryRefused, refuse_what_cannot_fit

    if config.engine.url is not None:
        return
    try:
        refuse_what_cannot_fit(config)
    except MemoryRefused as error:
        fail(str(error), code=2)


def _run(config: Config) -> None:
    import uvloop

    from serve.daemon import serve as run

    if config.engine.kind is EngineKind.EMBEDDED and config.engine.url is None:
        click.echo("The embedded engine is for trying and testing, not for production.", err=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config, waiting("the engine is starting")))


def waiting(what: str) -> Callable[[float], None]:
    """Says every now and then how long it has been."""
    said = -5.0

    def progress(seconds: float) -> None:
        nonlocal said
        if seconds - said >= (1.0 if sys.stderr.isatty() else 5.0):
            said = seconds
            click.echo(f"{what} ... {seconds:.0f} s", err=True)

    return progress
