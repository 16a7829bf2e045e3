"""`ttrl config`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from serve.cli.common import Resolve, config_options, json_option, print_json


@click.group()
def config() -> None:
    """The configuration: YAML file < environment (TTRL_...) < command line."""


@config.command()
@json_option
@config_options
def show(resolve: Resolve, as_json: bool) -> None:
    """Every setting, its value, and where that comes from."""
    rows = list(resolve().rows())
    if as_json:
        print_json({path: {"value": value, "source": source} for path, value, source in rows})
        return
    table = Table(box=None)
    for heading in ("setting", "value", "source"):
        table.add_column(heading, overflow="fold")
    for path, value, source in rows:
        table.add_row(path, str(value), source)
    Console().print(table)


@config.command()
@config_options
def check(resolve: Resolve) -> None:
    """Say whether the configuration can be used; exit code 2 when it cannot."""
    resolve()
    click.echo("The configuration is good.")
