"""`ttrl serve`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import click

from serve.cli.common import Resolve, config_options, fail
from ttrl import logs
from ttrl.config import Config, EngineKind, ModelConfig

log = logging.getLogger(__name__)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--model", help="The base model: a directory or a Hugging Face Hub name.")
@click.option("--served-name", help="The model name that clients use, if not the model's own.")
@click.option(
    "--engine",
    type=click.Choice([kind.value for kind in EngineKind]),
    help="The engine to start.",
)
@click.option("--engine-url", help="Use a running engine, and its model.")
@click.option("--host", help="Address to listen on; loopback by default.")
@click.option("--port", type=int, help="Port to listen on; 8000 by default.")
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
    """Run the daemon in front of an engine: serve the OpenAI API, record questions, train on a
    schedule.

    FLAGS after `--` are passed to vLLM.

    \b
    ttrl serve --model Qwen/Qwen3-8B -- --max-model-len 8192
    ttrl serve --engine-url http://127.0.0.1:8001
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
    from ttrl.rewards import check_installed

    config = with_model(config)
    logs.configure(config.log_level, config.log_format)
    config = share_card(config)
    check_keys(config)
    check_installed(config.vote.rewards)
    _run(config)


def with_model(config: Config) -> Config:
    """With the model of the engine that is already running, if none was named. Refuse a model that
    is none, before anything starts."""
    if config.engine.url is not None and not config.model.name:
        config = _with_engines_model(config, config.engine.url)
    name = config.model.name
    if not name:
        fail("no model is set: give --model NAME, or set model.name", code=2)
    check_model_directory(name)
    return config


def check_keys(config: Config) -> None:
    """Refuse a file of keys that is none, before anything starts."""
    from serve.gateway.keys import KeysUnreadable, read

    if config.gateway.keys is None:
        return
    try:
        read(config.gateway.keys)
    except KeysUnreadable as error:
        hint = "" if config.gateway.keys.exists() else "; `ttrl keys add NAME` makes one"
        fail(f"gateway.keys: {error}{hint}", code=2)


def check_model_directory(name: str) -> None:
    """Refuse a path that is no model; a hub name may be right."""
    path = Path(name)
    if (path.is_absolute() or path.exists()) and not (path / "config.json").is_file():
        fail(f"{name} is not a model directory: it has no config.json", code=2)


def _with_engines_model(config: Config, url: str) -> Config:
    """What the engine serves, under the name that its clients know."""
    from ttrl.engine.client import EngineClient, EngineError

    try:
        with EngineClient(url, api_key=config.engine.api_key, timeout=10) as client:
            served = client.base_model()
    except EngineError as error:
        fail(f"no model is set: give --model NAME (cannot ask the engine: {error})", code=2)
    known_as = config.model.served_name or served.name
    model = ModelConfig(name=served.root or served.name, served_name=known_as)
    return config.model_copy(update={"model": model})


def share_card(config: Config) -> Config:
    """Share the GPU between an engine of ours and the trainer; refuse if they can never fit. Beside
    somebody else's, each run looks for itself at what is free."""
    from ttrl.engine.memory import MemoryRefused, fit_to_card

    if config.engine.url is not None:
        return config
    try:
        return fit_to_card(config)
    except MemoryRefused as error:
        fail(str(error), code=2)


def _run(config: Config) -> None:
    import uvloop

    from serve.main import serve as run

    if config.engine.kind is EngineKind.EMBEDDED and config.engine.url is None:
        log.warning("The embedded engine is for trials and tests, not for production.")
    url = config.engine.url
    what = f"waiting for an engine at {url}" if url else "the engine is starting"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config, waiting(what, log.info)))


def _echo(words: str) -> None:
    click.echo(words, err=True)


def waiting(what: str, say: Callable[[str], object] = _echo) -> Callable[[float], None]:
    """Says every now and then how long it has been; on a terminal always there."""
    said = -5.0
    say = _echo if sys.stderr.isatty() else say

    def progress(seconds: float) -> None:
        nonlocal said
        if seconds - said >= (1.0 if sys.stderr.isatty() else 5.0):
            said = seconds
            say(f"{what} ... {seconds:.0f} s")

    return progress
