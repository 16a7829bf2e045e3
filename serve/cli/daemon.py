"""`ttrl serve`, and an engine of a command's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from serve.cli.common import config_options, require
from serve.cli.output import fail
from ttrl import logs, plugins
from ttrl.config import Config, EngineKind, ModelConfig

if TYPE_CHECKING:
    from serve.daemon.core import Core

log = logging.getLogger(__name__)
T = TypeVar("T")
WAITING_SECONDS = 5.0


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--model", "model__name", help="The base model: a directory or a Hugging Face Hub name."
)
@click.option(
    "--served-name",
    "model__served_name",
    help="The model name that clients use, if not the model's own.",
)
@click.option(
    "--engine",
    "engine__kind",
    type=click.Choice([kind.value for kind in EngineKind]),
    help="The engine to start.",
)
@click.option("--engine-url", "engine__url", help="Use a running engine, and its model.")
@click.option("--host", "gateway__host", help="Address to listen on; loopback by default.")
@click.option("--port", "gateway__port", type=int, help="Port to listen on; 8000 by default.")
@click.argument("engine__flags", metavar="[FLAGS]...", nargs=-1, type=click.UNPROCESSED)
@config_options
def serve(config: Config) -> None:
    """Run the daemon in front of an engine: serve the OpenAI API, record questions, train on a
    schedule.

    FLAGS after `--` are passed to vLLM.

    \b
    ttrl serve --model Qwen/Qwen3-8B -- --max-model-len 8192
    ttrl serve --engine-url http://127.0.0.1:8001
    """
    config = with_model(config)
    logs.configure(config.log_level, config.log_format)
    config = share_card(config)
    check_keys(config)
    plugins.check_installed("reward", config.vote.rewards)
    plugins.check_installed("check", config.verify.checks)
    plugins.check_installed("rephraser", filter(None, [config.vote.rephrase]))
    url = config.engine.url
    if config.engine.kind is EngineKind.EMBEDDED and url is None:
        log.warning("The embedded engine is for trials and tests, not for production.")
    what = f"waiting for an engine at {url}" if url else "the engine is starting"

    import uvloop

    from serve.main import serve as run

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(config, waiting(what, log.info)))


def run_alone(config: Config, work: Callable[[Core], Awaitable[T]], *, hint: str = "") -> T:
    """Do work with a state directory and an engine of our own. A signal stops it: the command then
    ends with a sentence, and with `hint`."""
    from serve.daemon.core import core
    from serve.daemon.process import on_signals

    config = with_model(config)
    logs.configure("warning")
    config = share_card(config)

    async def alone() -> T:
        this = asyncio.current_task()
        assert this is not None
        async with core(config) as parts:
            on_signals([this.cancel], [parts.end_now])
            await parts.engine.start(waiting("the engine is starting"))
            return await work(parts)

    try:
        return asyncio.run(alone())
    except asyncio.CancelledError:
        fail(f"stopped by the operator{hint}")


def with_model(config: Config) -> Config:
    """With the model of the engine that is already running, if none was named, under the name that
    its clients know. Refuse a model that is none, before anything starts."""
    from ttrl.engine.client import EngineClient, EngineError

    url, why = config.engine.url, ""
    if url is None and config.engine.kind is EngineKind.EMBEDDED:
        require("the embedded engine", "train", "torch", "transformers")
    if url is not None and not config.model.name:
        try:
            with EngineClient(url, api_key=config.engine.api_key, timeout=10) as client:
                served = client.base_model()
        except EngineError as error:
            why = f" (cannot ask the engine: {error})"
        else:
            known_as = config.model.served_name or served.name
            model = ModelConfig(name=served.root or served.name, served_name=known_as)
            config = config.model_copy(update={"model": model})
    if not config.model.name:
        fail(f"no model is set: give --model NAME, or set model.name{why}", code=2)
    check_model_directory(config.model.name)
    return config


def check_keys(config: Config) -> None:
    """Refuse a file of keys that is none, before anything starts. Raises KeysUnreadable."""
    from serve.gateway.keys import read

    if config.gateway.keys is not None:
        read(config.gateway.keys)


def check_model_directory(name: str) -> None:
    """Refuse a path that is no model; a hub name may be right."""
    path = Path(name)
    if (path.is_absolute() or path.exists()) and not (path / "config.json").is_file():
        fail(f"{name} is not a model directory: it has no config.json", code=2)


def share_card(config: Config) -> Config:
    """Share the GPU between an engine of ours and the trainer. Beside somebody else's, each run
    looks for itself at what is free. Raises MemoryRefused if they can never fit."""
    from ttrl.engine.memory import fit_to_card

    return config if config.engine.url is not None else fit_to_card(config)


def waiting(what: str, say: Callable[[str], object] | None = None) -> Callable[[float], None]:
    """Says every now and then how long it has been."""
    last = -WAITING_SECONDS

    def progress(seconds: float) -> None:
        nonlocal last
        if seconds - last >= WAITING_SECONDS:
            last = seconds
            words = f"{what} ... {seconds:.0f} s"
            say(words) if say is not None else click.echo(words, err=True)

    return progress
