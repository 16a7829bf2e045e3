"""`ttrl status`, `ttrl pause`, `ttrl resume`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from jobs.schedule import Decision
from serve.cli.common import (
    NOT_RUNNING,
    Resolve,
    ask_daemon,
    config_options,
    counted,
    json_option,
    open_store,
    print_json,
)
from serve.cli.questions import REASONS
from serve.schedule import PAUSED
from serve.state import owner_of
from serve.status import report
from ttrl.times import clock

WAITS = {
    Decision.RUN_UNDER_WAY: ", once the run under way has ended",
    Decision.TOO_FEW_QUESTIONS: ", once there are enough new questions (schedule.min_questions)",
}

UNEASY = 0.5
"""So near to an alarm, on a scale of logarithms, the live guard is worth a word."""


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
        owner = owner_of(config.state_dir)
        found = {"running": True, "url": owner.url if owner else None, **running}
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
    live = f"live       {found['live']}" + _since(found["live_since"])
    lines = [
        f"daemon     {_daemon(found)}",
        *([f"address    {found['url']}/v1"] if found["running"] else []),
        f"model      {found['model'] or '-'}",
        live,
        f"previous   {found['previous']}",
        f"shadow     {_shadow(found)}",
        f"questions  {questions or 'none'} (asked {found['times_asked']} times)",
        f"last run   {_run(found['last_run'])}",
        f"next run   {_next(found)}",
    ]
    if aside := found["set_aside"]:
        told = ", ".join(f"{count} because {REASONS[why]}" for why, count in aside.items())
        lines.insert(-2, f"set aside  {told}")
    if found["live"] != found["wanted"]:
        why = found["live_reason"] if found["running"] else "when a daemon runs"
        lines.insert(lines.index(live) + 1, f"wanted     {found['wanted']}: {why}")
    return lines


def _daemon(found: Mapping[str, Any]) -> str:
    if not found["running"]:
        return "not running"
    return "running" if found["engine_up"] else "running, but its engine is not up"


def _since(at: float | None) -> str:
    return f", since {clock(at)}" if at else ""


def _shadow(found: Mapping[str, Any]) -> str:
    if not found["running"]:
        return "when a daemon runs"
    seen = found["shadow"]
    if seen is None:
        return "nothing to compare with"
    compared = f"{counted(seen['pairs'], 'pair')} with {seen['other']}"
    if seen["nearness"] < UNEASY:
        return f"{compared}, quiet"
    near = f"{seen['nearest']} is {seen['nearness']:.0%} of the way to an alarm"
    return f"{compared}, uneasy: {near}"


def _run(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "none yet"
    when = clock(run["finished"] or run["created"])
    return f"{run['id']}, {run['state']}, {when}" + (f": {run['reason']}" if run["reason"] else "")


def _next(found: Mapping[str, Any]) -> str:
    if found["paused"]:
        return "paused"
    if not found["running"]:
        return "when a daemon runs"
    if found["next_run"] is None:
        return "not scheduled"
    return f"{found['next_run']}{WAITS.get(found['schedule'], '')}"
