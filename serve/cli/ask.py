"""`ttrl ask`: one question to the running daemon, as a client asks it, or to a version."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click
import httpx2

from jobs.process import engine_client
from serve.cli.common import ask_daemon, daemons, no_daemon, standard_options
from serve.cli.output import fail, print_json, say, wants_json
from serve.gateway.app import ADAPTER_HEADER, NO_LEARN_HEADER
from serve.gateway.live import BASE
from ttrl.config import Config
from ttrl.questions.question import from_prompt
from ttrl.questions.regime import Regime


@click.command()
@click.argument("text")
@click.option("--key", help="An API key of the gateway (`ttrl keys add`), if it asks for one.")
@click.option("--learn", is_flag=True, help="Record the question like any other.")
@click.option(
    "--version", "wanted", metavar="NAME",
    help="Ask this version, or base: one that the engine has loaded.",
)  # fmt: skip
@standard_options
def ask(config: Config, text: str, key: str | None, learn: bool, wanted: str | None) -> None:
    """Ask the running daemon TEXT, and show the answer and which version gave it. The question is
    not recorded.

    - is standard input.
    """
    if learn and wanted is not None:
        raise click.UsageError(
            "--learn records what the live version is asked; leave out --version"
        )
    if (status := ask_daemon(config, "GET", "/admin/status")) is None:
        no_daemon(config)
    text = sys.stdin.read() if text == "-" else text
    if wanted is None:
        said, version = _of_gateway(config, status, key, text, learn=learn)
    else:
        said, version = _of_engine(config, status["engine_url"], wanted, text), wanted
    if wants_json():
        print_json({"answer": said, "version": version})
        return
    say(said or "(the answer has no text)")
    click.echo(f"answered by {version}", err=True)


def _of_gateway(
    config: Config, status: Mapping[str, Any], key: str | None, text: str, *, learn: bool
) -> tuple[str | None, str]:
    body = {"model": status["model"], "messages": [{"role": "user", "content": text}]}
    headers = {} if learn else {NO_LEARN_HEADER: "1"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    seconds = config.engine.request_timeout.total_seconds()
    try:
        answer = httpx2.post(
            f"{status['url']}/v1/chat/completions",
            json=body, headers=headers, timeout=seconds, trust_env=False,
        )  # fmt: skip
    except httpx2.HTTPError as error:
        fail(f"the daemon at {status['url']} does not answer: {error}")
    if answer.is_error:
        why = answer.text
        with suppress(ValueError, KeyError, TypeError):
            why = answer.json()["error"]["message"]
        fail(f"the daemon answered {answer.status_code}: {why}")
    return answer.json()["choices"][0]["message"]["content"], answer.headers[ADAPTER_HEADER]


def _of_engine(config: Config, url: str, wanted: str, text: str) -> str:
    """Return a version's answer, past the gateway, which has one name for all. Raises
    EngineError."""
    with engine_client(daemons(config) or config, url) as client:
        models = {card.name if card.parent else BASE: card.name for card in client.models()}
        if wanted not in models:
            fail(f"the engine has not loaded {wanted}; it has {', '.join(models)}")
        question, defaults = from_prompt(text), Regime({})
        found = client.sample(question, model=models[wanted], n=1, sampling=defaults)
    return found.samples[0].text
