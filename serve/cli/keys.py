"""`ttrl keys`."""

from __future__ import annotations

from pathlib import Path

import click
from pydantic import ValidationError

from serve.cli.common import standard_options
from serve.cli.output import fail, list_rows, tell
from serve.gateway.keys import Key, changing, digest_of, made, read
from ttrl.config import Config
from ttrl.words import counted

AT_LEAST_ONE = click.IntRange(min=1)


@click.group()
def keys() -> None:
    """Manage API keys. They are in the file gateway.keys, which a running daemon reloads when it
    changes."""


@keys.command()
@click.argument("name")
@click.option("--no-learn", is_flag=True, help="Do not record questions sent with it.")
@click.option(
    "--requests-a-minute",
    type=AT_LEAST_ONE,
    help="Rate limit; requests over it get 429 with Retry-After.",
)
@click.option(
    "--at-once", type=AT_LEAST_ONE, help="Limit of concurrent requests; those over it get 429, too."
)
@standard_options
def add(
    config: Config, name: str, no_learn: bool, requests_a_minute: int | None, at_once: int | None
) -> None:
    """Make a key for NAME and print it once: only its SHA-256 is stored."""
    secret = made()
    try:
        key = Key(
            name=name,
            sha256=digest_of(secret),
            learn=not no_learn,
            requests_a_minute=requests_a_minute,
            at_once=at_once,
        )
    except ValidationError:
        fail(
            f"{name!r} is not a valid name: use at most 64 letters, digits and any of _.@+-", code=2
        )
    with changing(_file(config)) as known:
        if any(other.name == name for other in known):
            fail(f"a key {name} already exists; remove it with `ttrl keys remove {name}`")
        known.append(key)
    click.echo("Send it as Authorization: Bearer or as x-api-key. It is not shown again:", err=True)
    tell(secret, name=name, key=secret)


@keys.command("list")
@standard_options
def list_(config: Config) -> None:
    """List the keys and their limits."""
    rows = [key.model_dump() for key in read(_file(config))]
    list_rows(
        rows,
        "name",
        ("learn", lambda row: "yes" if row["learn"] else "no"),
        ("a minute", lambda row: row["requests_a_minute"] or "-"),
        ("at once", lambda row: row["at_once"] or "-"),
        ("sha256", lambda row: row["sha256"][:12]),
        empty="There are no keys: every request is refused.",
    )


@keys.command()
@click.argument("name")
@standard_options
def remove(config: Config, name: str) -> None:
    """Remove a key: a running daemon refuses it within three seconds."""
    path = _file(config)
    if not path.exists():
        fail(f"there is no file {path}; a running daemon uses the keys that it last read")
    with changing(path) as known:
        gone = next((key for key in known if key.name == name), None)
        if gone is None:
            fail(f"there is no key {name}; see `ttrl keys list`")
        known.remove(gone)
        left = len(known)
    words = f"{name} is removed; {counted(left, 'key')} left."
    tell(words, name=name, sha256=gone.sha256, left=left)
    click.echo(f"`ttrl questions purge --key {gone.sha256}` deletes its questions.", err=True)


def _file(config: Config) -> Path:
    path = config.gateway.keys
    if path is None:
        fail("no key file is set: set gateway.keys to a file, for the daemon as well", code=2)
    return path
