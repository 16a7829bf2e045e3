"""`ttrl status`, `ttrl pause`, `ttrl resume`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from serve.cli.common import (
    NOT_RUNNING,
    Resolve,
    ask_daemon,
    config_options,
    json_option,
    open_store,
    print_json,
)
from serve.schedule import PAUSED
from serve.status import report


@click.command()
@json_option
@config_options
def status(resolve: Resolve, as_json: bool) -> None:
    """Show queue, live adapter, last run and next run. Exit code 3 when no daemon is running."""
    config = resolve().config
    running = ask_daemon(config, "GET", "/admin/status")
    if running is None:
        with open_store(config) as store:
            found = {"running": False, **report(store, config)}
    else:
        found = {"running": True, **running}
    print_json(found) if as_json else click.echo("\n".join(_lines(found)))
    if running is None:
        raise SystemExit(NOT_RUNNING)


@click.command()
@config_options
def pause(resolve: Resolve) -> None:
    """Start no more scheduled runs. One under way goes on; `ttrl runs stop` stops it."""
    with open_store(resolve().config) as store:
        store.set_fact(PAUSED, str(time.time()))
    click.echo("Learning is paused; users are served as before.")


@click.command()
@config_options
def resume(resolve: Resolve) -> None:
    """Start scheduled runs again."""
    with open_store(resolve().config) as store:
        store.set_fact(PAUSED, None)
    click.echo("Learning goes on.")


def _lines(found: Mapping[str, Any]) -> list[str]:
    questions = ", ".join(f"{count} {state}" for state, count in found["questions"].items())
    lines = [
        f"daemon     {_daemon(found)}",
        f"model      {found['model']}",
        f"live       {found['live']}" + _since(found["live_since"]),
        f"previous   {found['previous']}",
        f"questions  {questions or 'none'} (asked {found['times_asked']} times)",
        f"last run   {_run(found['last_run'])}",
        f"next run   {_next(found)}",
    ]
    if found["live"] != found["wanted"]:
        lines.insert(3, f"wanted     {found['wanted']}: {found['live_reason']}")
    return lines


def _daemon(found: Mapping[str, Any]) -> str:
    if not found["running"]:
        return "not running"
    return "running" if found["engine_up"] else "running, but its engine is not up"


def _since(at: float | None) -> str:
    return f", since {_clock(at)}" if at else ""


def _run(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "none yet"
    when = _clock(run["finished"] or run["created"])
    return f"{run['id']}, {run['state']}, {when}" + (f": {run['reason']}" if run["reason"] else "")


def _next(found: Mapping[str, Any]) -> str:
    if found["paused"]:
        return "paused"
    return found.get("next_run") or ("not scheduled" if found["running"] else "when a daemon runs")


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
