"""`ttrl keys`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import ValidationError

from serve.cli.common import (
    Resolve,
    config_options,
    counted,
    fail,
    json_option,
    print_json,
    print_table,
    tell,
)
from serve.keys import Key, KeysUnreadable, changing, digest_of, made, read

AT_LEAST_ONE = click.IntRange(min=1)


@click.group()
def keys() -> None:
    """Keys: who may ask. They are in the file gateway.keys, which a running daemon reads again when
    it changes."""


@keys.command()
@click.argument("name")
@click.option("--no-learn", is_flag=True, help="What it asks is not recorded.")
@click.option("--requests-a-minute", type=AT_LEAST_ONE, help="Beyond it: 429 with Retry-After.")
@click.option("--at-once", type=AT_LEAST_ONE, help="Requests under way; beyond it the same.")
@json_option
@config_options
def add(
    resolve: Resolve,
    name: str,
    no_learn: bool,
    requests_a_minute: int | None,
    at_once: int | None,
    as_json: bool,
) -> None:
    """Make a key for NAME and print it, this once: only its SHA-256 is kept."""
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
        fail(f"{name!r} is no name: 64 letters, digits and any of _.@+- at most", code=2)
    with _changing(_file(resolve)) as found:
        if any(other.name == name for other in found):
            fail(f"there is a key {name} already; `ttrl keys remove {name}` ends it")
        found.append(key)
    if as_json:
        print_json({"name": name, "key": secret})
        return
    click.echo("Send it as Authorization: Bearer, or x-api-key. It is not shown again:", err=True)
    click.echo(secret)


@keys.command("list")
@json_option
@config_options
def list_(resolve: Resolve, as_json: bool) -> None:
    """The keys by name, and what each may do."""
    try:
        found = read(_file(resolve))
    except KeysUnreadable as error:
        fail(str(error))
    if as_json:
        print_json([key.model_dump() for key in found])
        return
    if not found:
        click.echo("There are no keys: nobody may ask.")
        return
    print_table(("name", "learn", "a minute", "at once", "sha256"), map(_cells, found))


@keys.command()
@click.argument("name")
@json_option
@config_options
def remove(resolve: Resolve, name: str, as_json: bool) -> None:
    """End a key: a running daemon refuses it within two or three seconds."""
    path = _file(resolve)
    if not path.exists():
        fail(f"there is no file {path}; a running daemon goes by the keys that it read last")
    with _changing(path) as found:
        gone = next((key for key in found if key.name == name), None)
        if gone is None:
            fail(f"there is no key {name}; `ttrl keys list` shows those there are")
        found.remove(gone)
        left = len(found)
    words = f"{name} may not ask any more; {counted(left, 'key')} left."
    tell(as_json, words, name=name, sha256=gone.sha256, left=left)
    click.echo(f"`ttrl questions purge --key {gone.sha256}` forgets what it asked.", err=True)


def _file(resolve: Resolve) -> Path:
    path = resolve().config.gateway.keys
    if path is None:
        fail("where are the keys? Set gateway.keys to a file, for the daemon as well", code=2)
    return path


@contextmanager
def _changing(path: Path) -> Iterator[list[Key]]:
    try:
        with changing(path) as found:
            yield found
    except KeysUnreadable as error:
        fail(str(error))


def _cells(key: Key) -> tuple[str, ...]:
    limits = ("-" if many is None else str(many) for many in (key.requests_a_minute, key.at_once))
    return key.name, "yes" if key.learn else "no", *limits, key.sha256[:12]
