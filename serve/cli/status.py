"""The running daemon: `ttrl status`, `page`, `pause` and `resume`; and `ttrl logs`, what engine,
runs and measurements wrote."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from serve import operations, views
from serve.cli.common import (
    NOT_RUNNING,
    ask_daemon,
    config_options,
    look_store,
    no_daemon,
    open_store,
    standard_options,
)
from serve.cli.output import fail, labels_words, samples_lines, say, show_value, tell, wants_json
from serve.cli.questions import REASONS
from serve.daemon.schedule import Decision
from serve.state import owner_of
from ttrl.config import Config
from ttrl.config.section import clock
from ttrl.evaluation.estimates import Quality
from ttrl.store import shapes
from ttrl.words import counted

WAITS = {
    Decision.RUN_UNDER_WAY: ", once the current run has ended",
    Decision.ENGINE_DOWN: ", once the engine is up",
    Decision.TOO_FEW_QUESTIONS: ", once there are enough new questions (schedule.min_questions)",
}

WATCH_SECONDS = 2.0
FOLLOW_SECONDS = 0.5


@click.command()
@click.option("--watch", is_flag=True, help="Refresh every two seconds, until Ctrl-C.")
@standard_options
def status(config: Config, watch: bool) -> None:
    """Show the queue, the live version and its quality, the last run and the next. Exit code 3
    when no daemon is running."""
    try:
        while True:
            report = _look(config)
            if watch and not wants_json():
                click.clear()
            show_value(report, _lines(report))
            if not watch:
                raise SystemExit(0 if report["running"] else NOT_RUNNING)
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        if not watch:
            raise


def _look(config: Config) -> dict[str, Any]:
    running = ask_daemon(config, "GET", "/admin/status")
    if running is None:
        with look_store(config) as store:
            return {"running": False, **views.report(store, config)}
    return {"running": True, **running}


@click.command()
@standard_options
def page(config: Config) -> None:
    """Print a link that logs in to the running daemon's page: keep it secret."""
    owner = owner_of(config.state_dir)
    if owner is None or owner.url is None:
        no_daemon(config)
    if owner.page is None:
        fail("the daemon has no page (admin.port)")
    link = f"{owner.page}/login?key={owner.key}"
    tell(link, url=link)


@click.command()
@standard_options
def pause(config: Config) -> None:
    """Pause scheduled runs. A run in progress goes on; `ttrl runs stop` stops it."""
    with open_store(config) as store:
        operations.pause(store, True)
    tell("Training is paused; users are served as before.", paused=True)


@click.command()
@standard_options
def resume(config: Config) -> None:
    """Resume scheduled runs."""
    with open_store(config) as store:
        operations.pause(store, False)
    tell("Training is resumed.", paused=False)


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    running = report["running"]
    if running:
        up = "running" if report["engine_up"] else "running, but its engine is down"
        yield f"daemon     {up}"
        yield f"address    {report['url']}/v1"
        if report["page"]:
            yield f"page       {report['page']}"
    else:
        yield "daemon     not running"
    yield f"model      {report['model'] or '-'}"
    since = f", since {clock(report['live_since'])}" if report["live_since"] else ""
    yield f"live       {report['live']}{since}"
    if report["live"] != report["wanted"]:
        why = report["live_reason"] if running else "loaded once a daemon runs"
        yield f"wanted     {report['wanted']}: {why}"
    yield f"previous   {report['previous']}"
    monitor = _monitor(report["shadow"]) if running else "not available: no daemon is running"
    yield f"monitor    {monitor}"
    yield from _quality_lines(report["quality"])
    yield from (f"signal     {line}" for line in report["signals"])
    yield f"labels     {labels_words(report['labels'])}"
    yield f"evaluated  {report['evaluated']}"
    questions = ", ".join(f"{count} {state}" for state, count in report["questions"].items())
    yield f"questions  {questions or 'none'} (asked {counted(report['times_asked'], 'time')})"
    for line in views.feedback_lines(report["feedback"], report["live"]):
        yield f"feedback   {line}"
    if back := report["rolled_back"]:
        who = f"{back['version']} by {back['author']}, {clock(back['at'])}"
        yield f"roll-back  {who}: {back['reason']}"
    if aside := report["set_aside"]:
        reasons = ", ".join(f"{count} because {REASONS[why]}" for why, count in aside.items())
        yield f"set aside  {reasons}"
    last = "none yet"
    if run := report["last_run"]:
        last = f"{run['id']}, {run['state']}, {clock(run['finished'] or run['created'])}"
        last += f": {run['reason']}" if run["reason"] else ""
    yield f"last run   {last}"
    if run and run["layers"]:
        how, *more = samples_lines(run)
        yield f"samples    {how}"
        yield from (f"           {line}" for line in more)
    following = "once a daemon is running"
    if report["paused"]:
        following = "paused"
    elif running:
        waits = WAITS.get(report["schedule"], "")
        following = f"{report['next_run']}{waits}" if report["next_run"] else "not scheduled"
    yield f"next run   {following}"


def _monitor(seen: Mapping[str, Any] | None) -> str:
    if seen is None:
        return "no other version to compare with"
    compared = f"{counted(seen['pairs'], 'question')} compared with {seen['other']}"
    if seen["differs"]:
        compared += f"; {'; '.join(seen['differs'])}: label answers to see which is better"
    if seen["nearness"] < views.UNEASY:
        return compared if seen["differs"] else f"{compared}, quiet"
    near = f"{seen['nearest']}, at {seen['nearness']:.0%} of its threshold"
    return f"{compared}; nearest alarm: {near}"


def _quality_lines(measured: Mapping[str, Any]) -> Iterator[str]:
    known = {
        role: shapes.load(Quality, measured[role]) if measured[role] else None
        for role in ("live", "base")
    }
    trained = known["live"] != known["base"]
    for role in ("live", "base") if trained else ("live",):
        quality = known[role]
        if quality is None:
            continue
        parts = []
        if quality.right:
            probes = counted(quality.labelled, "labelled probe")
            parts.append(f"{views.share(quality.right)} correct on {probes}")
        if quality.estimate:
            open_ = views.undecided(quality)
            more = f" ({open_})" if open_ else ""
            parts.append(f"{views.share(quality.estimate)} correct on the traffic{more}")
        else:
            parts.append(f"accuracy on the traffic unknown: {views.withheld(quality)}")
        parts.append(f"{quality.agreement:.0%} agreement")
        yield f"quality    {role}: {', '.join(parts)}; {clock(measured[role]['at'])}"
    if trained:
        live, base = (quality.right if quality else None for quality in known.values())
        yield f"better     {views.compared(live, base)}"


@click.command()
@click.argument("name", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on as lines come, until Ctrl-C.")
@click.option(
    "--lines", "-n", type=click.IntRange(min=1), default=50, show_default=True,
    help="Number of last lines.",
)  # fmt: skip
@config_options
def logs(config: Config, name: str | None, follow: bool, lines: int) -> None:
    """Print the end of a log: NAME is engine, measure, run (the newest) or run-7; without it, the
    one that was written last.

    The daemon logs to its standard error: of a service, `journalctl --unit ttrl` shows it.
    """
    if name == "daemon":
        fail("the daemon logs to its standard error; of a service: journalctl --unit ttrl")
    found = sorted((config.state_dir / "logs").glob("*.log"), key=lambda file: file.stat().st_mtime)
    wanted = [file for file in found if name in (None, file.stem, file.stem.partition("-")[0])]
    if not wanted:
        there = ", ".join(file.stem for file in found) or "none"
        fail(f"there is no log {name or ''} in {config.state_dir / 'logs'}; there are: {there}")
    file = wanted[-1]
    click.echo(f"{file}:", err=True)
    with file.open("rb") as log:
        for line in deque(log, maxlen=lines):
            _print(line)
        place = log.tell()
    if follow:
        _follow(file, place)


def _follow(file: Path, place: int) -> None:
    """Print the lines behind a place as they are ended, also of the file that takes its place when
    it is rotated. Ctrl-C ends it."""
    number = file.stat().st_ino
    while True:
        with suppress(FileNotFoundError), file.open("rb") as log:  # it is missing between two files
            now = os.fstat(log.fileno())
            if now.st_ino != number or now.st_size < place:
                number, place = now.st_ino, 0
            log.seek(place)
            for line in log:
                if line.endswith(b"\n"):
                    _print(line)
                    place += len(line)
        time.sleep(FOLLOW_SECONDS)


def _print(line: bytes) -> None:
    say(line.decode("utf-8", "replace").rstrip("\r\n"))
