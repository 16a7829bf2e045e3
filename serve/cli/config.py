"""`ttrl config`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from serve.cli.common import Resolve, config_options, fail, json_option, print_json, tell
from serve.cli.daemon import check_keys, check_model_directory
from ttrl.config import Config

if TYPE_CHECKING:
    from ttrl.memory.judge import Fit


@click.group()
def config() -> None:
    """The configuration: YAML file < environment (TTRL_...) < credentials < command line."""


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
@click.option(
    "--card-gib", type=click.FloatRange(min=1), help="Plan for a GPU with so much memory."
)
@json_option
@config_options
def check(resolve: Resolve, card_gib: float | None, as_json: bool) -> None:
    """Say whether the configuration can be used, and how its engine and trainer share the GPU's
    memory; exit code 2 when it cannot."""
    config = resolve().config
    if config.model.name:
        check_model_directory(config.model.name)
    else:
        click.echo(
            "No model is set (model.name); `ttrl serve --model NAME` would say it.", err=as_json
        )
    check_keys(config)
    fit = _plan_memory(config, card_gib)
    if fit is not None and fit.too_small and config.engine.memory_plan:
        fail(f"The configuration asks for more memory than there is.\n{fit}", code=2)
    plan = None if fit is None else str(fit)
    words = "\n".join(filter(None, (plan, "The configuration is good.")))
    tell(as_json, words, good=True, memory_plan=plan)


def _plan_memory(config: Config, card_gib: float | None) -> Fit | None:
    """The plan, if there is a card to plan for."""
    from ttrl.engine.card import first_card
    from ttrl.memory.asked import GIB, Card
    from ttrl.memory.check import plannable, planned

    if card_gib is not None:
        size = int(card_gib * GIB)
        card: Card | None = Card("a GPU", size, size)
    else:
        card = first_card()
    if card is None or not plannable(config):
        return None
    if config.engine.url is None:  # as if nothing ran yet: our own engine may
        card = replace(card, free=card.total)
    return planned(config, card)
