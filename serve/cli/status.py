"""`ttrl status`, `ttrl pause`, `ttrl resume`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.live import Live

from serve import views
from serve.cli.common import (
    NOT_RUNNING,
    Resolve,
    ask_daemon,
    counted,
    fail,
    labels_words,
    look_store,
    open_store,
    plain,
    print_json,
    say,
    standard_options,
    tell,
)
from serve.cli.questions import REASONS
from serve.daemon.schedule import PAUSED, Decision
from serve.state import owner_of
from serve.views import UNEASY, report
from ttrl.config import Config
from ttrl.config.section import clock

WAITS = {
    Decision.RUN_UNDER_WAY: ", once the current run has ended",
    Decision.TOO_FEW_QUESTIONS: ", once there are enough new questions (schedule.min_questions)",
}

WATCH_SECONDS = 2.0


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
@standard_options
def status(resolve: Resolve, as_json: bool, watch: bool) -> None:
    """Show the queue, the live version and its quality, the last run and the next. Exit code 3
    when no daemon
    is running."""
    config = resolve().config
    if watch:
        _watch(config, as_json)
    found = _look(config)
    print_json(found) if as_json else say("\n".join(_lines(found)))
    if not found["running"]:
        raise SystemExit(NOT_RUNNING)


def _look(config: Config) -> dict[str, Any]:
    running = ask_daemon(config, "GET", "/admin/status")
    if running is None:
        with look_store(config) as store:
            return {"running": False, **report(store, config)}
    owner = owner_of(config.state_dir)
    return {
        "running": True,
        "url": owner.url if owner else None,
        "page": owner.page if owner else None,
        **running,
    }


def _watch(config: Config, as_json: bool) -> NoReturn:
    """In place on a terminal; else, and with --json, one look after the other."""
    console = Console()
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            found = _look(config)
            if as_json or not console.is_terminal:
                print_json(found) if as_json else say("\n".join([*_lines(found), ""]))
            else:
                live.update(plain("\n".join(_lines(found))), refresh=True)
            time.sleep(WATCH_SECONDS)
    raise SystemExit(0)


@click.command()
@standard_options
def page(resolve: Resolve, as_json: bool) -> None:
    """Print a link that logs in to the running daemon's page: keep it secret."""
    owner = owner_of(resolve().config.state_dir)
    if owner is None or owner.url is None:
        fail("no daemon is running on this state directory", code=NOT_RUNNING)
    if owner.page is None:
        fail("the daemon has no page (admin.port)")
    link = f"{owner.page}/login?key={owner.key}"
    tell(as_json, link, url=link)


@click.command()
@standard_options
def pause(resolve: Resolve, as_json: bool) -> None:
    """Pause scheduled runs. A run in progress goes on; `ttrl runs stop` stops it."""
    with open_store(resolve().config) as store:
        store.set_fact(PAUSED, str(time.time()))
    tell(as_json, "Training is paused; users are served as before.", paused=True)


@click.command()
@standard_options
def resume(resolve: Resolve, as_json: bool) -> None:
    """Resume scheduled runs."""
    with open_store(resolve().config) as store:
        store.set_fact(PAUSED, None)
    tell(as_json, "Training is resumed.", paused=False)


def _lines(found: Mapping[str, Any]) -> list[str]:
    questions = ", ".join(f"{count} {state}" for state, count in found["questions"].items())
    live = f"live       {found['live']}" + _since(found["live_since"])
    lines = [
        f"daemon     {_daemon(found)}",
        *([f"address    {found['url']}/v1"] if found["running"] else []),
        *([f"page       {found['page']}"] if found.get("page") else []),
        f"model      {found['model'] or '-'}",
        live,
        f"previous   {found['previous']}",
        f"monitor    {_shadow(found)}",
        *_quality(found["quality"]),
        f"labels     {labels_words(found['labels'])}",
        f"evaluated  {found['evaluated']}",
        f"questions  {questions or 'none'} (asked {counted(found['times_asked'], 'time')})",
        *_rolled_back(found["rolled_back"]),
        f"last run   {_run(found['last_run'])}",
        f"next run   {_next(found)}",
    ]
    if aside := found["set_aside"]:
        told = ", ".join(f"{count} because {REASONS[why]}" for why, count in aside.items())
        lines.insert(-2, f"set aside  {told}")
    if found["live"] != found["wanted"]:
        why = found["live_reason"] if found["running"] else "once a daemon is running"
        lines.insert(lines.index(live) + 1, f"wanted     {found['wanted']}: {why}")
    return lines


def _daemon(found: Mapping[str, Any]) -> str:
    if not found["running"]:
        return "not running"
    return "running" if found["engine_up"] else "running, but its engine is down"


def _since(at: float | None) -> str:
    return f", since {clock(at)}" if at else ""


def _shadow(found: Mapping[str, Any]) -> str:
    if not found["running"]:
        return "once a daemon is running"
    seen = found["shadow"]
    if seen is None:
        return "no other version to compare with"
    compared = f"{counted(seen['pairs'], 'pair')} with {seen['other']}"
    if seen["differs"]:
        compared += f"; {'; '.join(seen['differs'])}: label answers to see which is better"
    if seen["nearness"] < UNEASY:
        return f"{compared}, quiet" if not seen["differs"] else compared
    near = f"{seen['nearest']} is at {seen['nearness']:.0%} of its alarm threshold"
    return f"{compared}, uneasy: {near}"


def _quality(found: Mapping[str, Any]) -> Iterator[str]:
    learned = found["live"] != found["base"]
    for role in ("live", "base") if learned else ("live",):
        known = found[role]
        if known is not None:
            yield f"quality    {role}: {', '.join(_known(known))}; {clock(known['at'])}"
    if learned:
        yield f"better     {views.compared(found['live'], found['base'])}"


def _known(quality: Mapping[str, Any]) -> Iterator[str]:
    if right := views.on_probes(quality):
        yield f"{right} correct on {counted(quality['labelled'], 'labelled probe')}"
    if estimate := quality["estimate"]:
        open_ = views.undecided(quality)
        yield f"{views.share(estimate)} correct on the traffic{f' ({open_})' if open_ else ''}"
    else:
        yield f"accuracy on the traffic unknown: {views.withheld(quality)}"
    yield f"{quality['agreement']:.0%} agreement"


def _rolled_back(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is not None:
        who = f"{found['version']} by {found['author']}, {clock(found['at'])}"
        yield f"roll-back  {who}: {found['reason']}"


def _run(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "none yet"
    when = clock(run["finished"] or run["created"])
    return f"{run['id']}, {run['state']}, {when}" + (f": {run['reason']}" if run["reason"] else "")


def _next(found: Mapping[str, Any]) -> str:
    if found["paused"]:
        return "paused"
    if not found["running"]:
        return "once a daemon is running"
    if found["next_run"] is None:
        return "not scheduled"
    return f"{found['next_run']}{WAITS.get(found['schedule'], '')}"
