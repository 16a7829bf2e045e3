"""`ttrl config`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table

from serve.cli import Group
from serve.cli.common import (
    Resolve,
    daemons,
    fail,
    print_json,
    standard_options,
    tell,
)
from serve.cli.daemon import check_keys, check_model_directory
from ttrl.config import Config
from ttrl.config.loading import Resolved


@click.group(cls=Group)
def config() -> None:
    """The configuration: YAML file < environment (TTRL_...) < credentials < command line."""


@config.command()
@standard_options
def show(resolve: Resolve, as_json: bool) -> None:
    """Show every setting, its value and its source; if a daemon is running, its settings."""
    resolved = resolve()
    if (config := daemons(resolved.config)) is not None:
        resolved = Resolved.running(config)
    rows = list(resolved.rows())
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
@click.option("--card-gib", type=click.FloatRange(min=1), help="Estimate for a GPU of this size.")
@standard_options
def check(resolve: Resolve, card_gib: float | None, as_json: bool) -> None:
    """Check the configuration, and estimate how engine and trainer share the GPU's memory. Exit
    code 2 if it cannot be used."""
    from ttrl.rewards import load

    config = resolve().config
    if config.model.name:
        check_model_directory(config.model.name)
    else:
        click.echo(
            "No model is set; set model.name or give `ttrl serve --model NAME`.", err=as_json
        )
    check_keys(config)
    load(config.vote.rewards)
    memory = _estimate_memory(config, card_gib)
    tell(
        as_json,
        "\n".join(filter(None, (memory, "The configuration is valid."))),
        good=True,
        memory_plan=memory,
    )


def _estimate_memory(config: Config, card_gib: float | None) -> str | None:
    """Return the estimate, if there is a GPU to make it for. Ends the command where engine and
    trainer can never fit."""
    from ttrl.engine.memory import GIB, Card, Fit, check

    size = int((card_gib or 0) * GIB)
    checked = check(config, None if card_gib is None else Card("a GPU", size, size))
    if checked is None:
        return None
    fit, figures = checked
    if fit is Fit.IMPOSSIBLE and config.engine.memory_plan:
        fail(f"The configuration needs more memory than is available.\n{figures}", code=2)
    return figures if fit in (Fit.FITS, Fit.UNKNOWN) else f"Warning: {figures}"
