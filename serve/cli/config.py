"""`ttrl config`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Column, Table

from serve.cli import Group
from serve.cli.common import Resolve, daemons, json_option, resolve_options, standard_options
from serve.cli.daemon import check_keys, check_model_directory
from serve.cli.output import fail, print_json, tell
from ttrl.config import Config
from ttrl.config.loading import Resolved


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
    card = plan = None
    if memory.estimated(config):
        size = int((card_gib or 0) * memory.GIB)
        card = memory.Card("a GPU", size, size) if card_gib is not None else memory.first_card()
    if card is not None:
        fit, plan = memory.check(config, card)
        if fit is memory.Fit.IMPOSSIBLE and config.engine.memory_plan:
            fail(f"The configuration needs more memory than is available.\n{plan}", code=2)
        if fit not in (memory.Fit.FITS, memory.Fit.UNKNOWN):
            plan = f"Warning: {plan}"
    words = "\n".join(filter(None, (plan, "The configuration is valid.")))
    tell(as_json, words, good=True, memory_plan=plan)
