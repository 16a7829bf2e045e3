"""`ttrl ask`: one question to the running daemon, as a client asks it."""

from __future__ import annotations

import sys
from typing import Any

import click
import httpx2

from serve.cli.common import NOT_RUNNING, ask_daemon, standard_options
from serve.cli.output import fail, print_json, say, wants_json
from serve.gateway.app import ADAPTER_HEADER, NO_LEARN_HEADER
from serve.state import owner_of
from ttrl.config import Config


@click.command()
@click.argument("text")
@click.option("--key", help="An API key of the gateway (`ttrl keys add`), if it asks for one.")
@click.option("--learn", is_flag=True, help="Record the question like any other.")
@standard_options
def ask(config: Config, text: str, key: str | None, learn: bool) -> None:
    """Ask the running daemon TEXT, and show the answer and which version gave it. The question is
    not recorded.

    - is standard input.
    """
    owner, status = owner_of(config.state_dir), ask_daemon(config, "GET", "/admin/status")
    if owner is None or owner.url is None or status is None:
        fail("no daemon is running on this state directory", code=NOT_RUNNING)
    asked = sys.stdin.read() if text == "-" else text
    body = {"model": status["model"], "messages": [{"role": "user", "content": asked}]}
    headers = {} if learn else {NO_LEARN_HEADER.decode(): "1"}
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    seconds = config.engine.request_timeout.total_seconds()
    try:
        answer = httpx2.post(
            f"{owner.url}/v1/chat/completions",
            json=body, headers=headers, timeout=seconds, trust_env=False,
        )  # fmt: skip
    except httpx2.HTTPError as error:
        fail(f"the daemon (process {owner.pid}) does not answer: {error}")
    if answer.is_error:
        fail(f"the daemon answered {answer.status_code}: {_message(answer)}")
    version = answer.headers.get(ADAPTER_HEADER)
    message: dict[str, Any] = answer.json()["choices"][0]["message"]
    if wants_json():
        print_json({"answer": message["content"], "version": version})
        return
    say(message["content"] or "(the answer has no text)")
    click.echo(f"answered by {version}", err=True)


def _message(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.text
