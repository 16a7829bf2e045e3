"""`ttrl config`: what can be set, what is set, and whether it can be used."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import click
from rich.text import Text

from serve.cli.common import Resolve, daemons, model_option, resolve_options, standard_options
from serve.cli.daemon import check_keys, check_model_directory
from serve.cli.output import (
    fail,
    json_option,
    print_json,
    print_table,
    show_value,
    tell,
    wants_json,
)
from ttrl.config import Config
from ttrl.config.loading import Resolved, Source, settings, suggestion, template


@click.group()
def config() -> None:
    """The configuration: YAML file < environment (TTRL_...) < credentials < command line."""


@config.command()
@json_option
@resolve_options
def show(resolve: Resolve) -> None:
    """Show every setting, its value and its source; if a daemon is running, its settings."""
    rows = list(_in_use(resolve).rows())
    if wants_json():
        print_json({path: {"value": value, "source": source} for path, value, source in rows})
        return
    cells = ((path, source, Text(str(value))) for path, value, source in rows)
    print_table(("setting", "source", "value"), cells)


@config.command()
@click.option("--card-gib", type=click.FloatRange(min=1), help="Estimate for a GPU of this size.")
@standard_options
def check(config: Config, card_gib: float | None) -> None:
    """Check the configuration, and estimate how engine and trainer share the GPU's memory. Exit
    code 2 if it cannot be used."""
    from ttrl.engine import memory
    from ttrl.rewards import load

    if config.model.name:
        check_model_directory(config.model.name)
    else:
        click.echo("No model is set; set model.name or give `ttrl serve --model NAME`.", err=True)
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
    tell(words, good=True, memory_plan=plan)


@config.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
@resolve_options
def explain(resolve: Resolve, names: tuple[str, ...]) -> None:
    """Explain a setting such as vote.samples, or all of a section such as vote: what it does, its
    type and default, and where its value comes from; if a daemon is running, its value."""
    known = {each.path: each for *_, members in settings() for each in members}
    for name in names:
        if not any(path == name or path.startswith(f"{name}.") for path in known):
            fail(f"unknown setting {name}{suggestion(name)}", code=2)
    found = [
        {**vars(known[path]), "variable": known[path].variable, "value": value, "source": source}
        for path, value, source in _in_use(resolve).rows()
        if any(path == name or path.startswith(f"{name}.") for name in names)
    ]

    def lines() -> Iterator[str]:
        for each in found:
            yield f"{each['path']}"
            yield from textwrap.wrap(each["text"], 96, initial_indent="  ", subsequent_indent="  ")
            yield f"  type      {each['type']}"
            yield f"  default   {json.dumps(each['default'])}"
            yield f"  value     {json.dumps(each['value'])} ({each['source']})"
            yield f"  variable  {each['variable']}"

    show_value(found, lines())


@config.command()
@click.argument("file", default="ttrl.yaml")
@model_option
@resolve_options
def init(resolve: Resolve, file: str) -> None:
    """Write a new configuration FILE (ttrl.yaml if not given) that explains every setting. Those
    given here, by --model or --set, are set in it; the others are comments with their defaults.

    - is standard output.
    """
    text = template(resolve().given(Source.COMMAND_LINE))
    with click.open_file(file, "x", encoding="utf-8") as out:
        out.write(text)
    if file != "-":
        click.echo(f"Wrote {file}; use it with `ttrl serve --config {file}`.", err=True)


def _in_use(resolve: Resolve) -> Resolved:
    """The settings of the running daemon, or else those of this command line."""
    resolved = resolve()
    running = daemons(resolved.config)
    return resolved if running is None else Resolved.running(running)
