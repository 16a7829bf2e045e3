"""`ttrl serve`, and `ttrl config`: what the daemon goes by, and whether it could start so."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from serve.cli import Group
from serve.cli.common import Resolve, daemons, json_option, resolve_options, standard_options
from serve.cli.output import fail, print_json, tell
from ttrl import logs
from ttrl.config import Config, EngineKind, ModelConfig
from ttrl.config.loading import Resolved

log = logging.getLogger(__name__)


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--model", help="The base model: a directory or a Hugging Face Hub name.")
@click.option("--served-name", help="The model name that clients use, if not the model's own.")
@click.option(
    "--engine", type=click.Choice([kind.value for kind in EngineKind]), help="The engine to start."
)
@click.option("--engine-url", help="Use a running engine, and its model.")
@click.option("--host", help="Address to listen on; loopback by default.")
@click.option("--port", type=int, help="Port to listen on; 8000 by default.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
@resolve_options
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
    url = config.engine.url
    if config.engine.kind is EngineKind.EMBEDDED and url is None:
        log.warning("The embedded engine is for trials and tests, not for production.")
    what = f"waiting for an engine at {url}" if url else "the engine is starting"

    import uvloop

    from serve.main import serve as run

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config, waiting(what, log.info)))


def with_model(config: Config) -> Config:
    """With the model of the engine that is already running, if none was named, under the name that
    its clients know. Refuse a model that is none, before anything starts."""
    from ttrl.engine.client import EngineClient, EngineError

    url = config.engine.url
    if url is not None and not config.model.name:
        try:
            with EngineClient(url, api_key=config.engine.api_key, timeout=10) as client:
                served = client.base_model()
        except EngineError as error:
            fail(f"no model is set: give --model NAME (cannot ask the engine: {error})", code=2)
        known_as = config.model.served_name or served.name
        model = ModelConfig(name=served.root or served.name, served_name=known_as)
        config = config.model_copy(update={"model": model})
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


@click.group(cls=Group)
def config() -> None:
    """The configuration: YAML file < environment (TTRL_...) < credentials < command line."""


@config.command()
@json_option
@resolve_options
def show(resolve: Resolve, as_json: bool) -> None:
    """Show every setting, its value and its source; if a daemon is running, its settings."""
    resolved = resolve()
    if (running := daemons(resolved.config)) is not None:
        resolved = Resolved.running(running)
    rows = list(resolved.rows())
    if as_json:
        print_json({path: {"value": value, "source": source} for path, value, source in rows})
        return
    columns = (Column(heading, overflow="fold") for heading in ("setting", "value", "source"))
    table = Table(*columns, box=None)
    for path, value, source in rows:
        table.add_row(path, str(value), source)
    Console().print(table)


@config.command()
@click.option("--card-gib", type=click.FloatRange(min=1), help="Estimate for a GPU of this size.")
@standard_options
def check(config: Config, card_gib: float | None, as_json: bool) -> None:
    """Check the configuration, and estimate how engine and trainer share the GPU's memory. Exit
    code 2 if it cannot be used."""
    from ttrl.engine import memory
    from ttrl.rewards import load

    if config.model.name:
        check_model_directory(config.model.name)
    else:
        click.echo(
            "No model is set; set model.name or give `ttrl serve --model NAME`.", err=as_json
        )
    check_keys(config)
    load(config.vote.rewards)
    size = int((card_gib or 0) * memory.GIB)
    card = memory.Card("a GPU", size, size) if card_gib is not None else None
    plan = None
    if found := memory.estimate(config, card):
        plan = found.words
        if found.fit is memory.Fit.IMPOSSIBLE and config.engine.memory_plan:
            fail(f"The configuration needs more memory than is available.\n{plan}", code=2)
        if found.fit not in (memory.Fit.FITS, memory.Fit.UNKNOWN):
            plan = f"Warning: {plan}"
    words = "\n".join(filter(None, (plan, "The configuration is valid.")))
    tell(as_json, words, good=True, memory_plan=plan)


def waiting(what: str, say: Callable[[str], object] | None = None) -> Callable[[float], None]:
    """Says every now and then how long it has been: on a terminal each second, else by `say`."""
    on_terminal = sys.stderr.isatty()
    last = -5.0

    def progress(seconds: float) -> None:
        nonlocal last
        if seconds - last >= (1.0 if on_terminal else 5.0):
            last = seconds
            words = f"{what} ... {seconds:.0f} s"
            click.echo(words, err=True) if on_terminal or say is None else say(words)

    return progress
